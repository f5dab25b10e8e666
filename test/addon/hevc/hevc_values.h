// Seeded int8 sequences for the HEVC tests and benchmarks: kinds of data a KV plane may look like, and kinds it never should.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace hevc_test {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 0x1234567) {}
  uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ * 0x2545f4914f6cdd1du;
  }
  uint32_t below(uint32_t n) { return uint32_t((next() >> 32) * n >> 32); }
  double uniform() { return (double(next() >> 11) + 0.5) / 9007199254740992.0; }
  double gaussian() { return std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform()); }
  double laplace() {
    const double u = uniform() - 0.5;
    return (u < 0 ? 1 : -1) * std::log(1 - 2 * std::fabs(u)) * 0.7071067811865475;
  }

 private:
  uint64_t state_;
};

inline int8_t to_int8(double v) {
  const double r = std::nearbyint(v);
  return int8_t(r < -128 ? -128 : r > 127 ? 127 : r);
}

constexpr int kKinds = 17;

inline const char* kind_name(int kind) {
  static const char* const names[kKinds] = {"gaussian", "laplace", "sigma per 256", "sorted sigmas", "1 % sparse", "single values", "zeros", "all -128",
                                            "all 127", "extremes", "uniform", "small uniform", "one leaf in 9", "one 4x4 in 5", "ones", "ramps",
                                            "runs of zero bits"};
  return names[kind];
}

// `sigma` scales the kinds that have one.
inline std::vector<int8_t> make_values(size_t count, int kind, double sigma, uint64_t seed) {
  std::vector<int8_t> v(count, 0);
  Random random(seed);
  double local = sigma;
  for (size_t i = 0; i < count; i++) {
    switch (kind) {
      case 0: v[i] = to_int8(sigma * random.gaussian()); break;
      case 1: v[i] = to_int8(sigma * random.laplace()); break;
      case 2:
        if (i % 256 == 0) local = sigma * std::exp(random.gaussian());
        v[i] = to_int8(local * random.gaussian());
        break;
      case 3: v[i] = to_int8(sigma * 3 * double(i) / double(count) * random.gaussian()); break;
      case 4: v[i] = random.below(100) == 0 ? int8_t(random.below(256)) : int8_t(0); break;
      case 5: v[i] = random.below(5000) == 0 ? int8_t(random.below(256)) : int8_t(0); break;
      case 6: break;
      case 7: v[i] = -128; break;
      case 8: v[i] = 127; break;
      case 9: v[i] = random.below(4) == 0 ? (random.below(2) ? -128 : 127) : int8_t(0); break;
      case 10: v[i] = i / 4096 % 3 == 0 ? int8_t(random.below(256)) : int8_t(0); break;
      case 11: v[i] = int8_t(int(random.below(9)) - 4); break;
      case 12: v[i] = i / 512 % 9 == seed % 9 ? to_int8(sigma * random.gaussian()) : int8_t(0); break;
      case 13: v[i] = (i / 16 * 2654435761u >> 7) % 5 == 0 ? to_int8(sigma * random.gaussian()) : int8_t(0); break;
      case 14: v[i] = 1; break;
      case 15: v[i] = int8_t(i / 64 % 16); break;
      // Large values raise the Rice parameter, small ones then take many zero bits: emulation prevention has work.
      default: v[i] = i / 16 % 10 != 0 ? to_int8(sigma * random.gaussian()) : i % 16 < 4 ? 30 : i % 16 < 8 ? 2 : 1; break;
    }
  }
  return v;
}

// A file of int8 values, as quantise_captures.py writes them. Empty where it cannot be read.
inline std::vector<int8_t> read_values(const std::string& path) {
  std::vector<int8_t> v;
  FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return v;
  int8_t buffer[65536];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, file)) > 0;) v.insert(v.end(), buffer, buffer + n);
  std::fclose(file);
  return v;
}

}  // namespace hevc_test
