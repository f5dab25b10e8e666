#include "rotary.h"

#include <cmath>
#include <cstring>

#include "check.h"
#include "checksum.h"

using namespace kvreel;

namespace {

struct Table {
  std::vector<float> memory;
  RotaryTable table{};
  Table(double theta, uint32_t dims, RotaryStyle style, uint32_t start, uint32_t tokens) : memory(rotary_table_floats(dims, tokens)) {
    CHECK(build_rotary_table({theta, dims, style}, start, tokens, {memory.data(), memory.size()}, &table) == Status::kOk);
  }
};

// The definition, in long double: angle = position * theta ^ (-2 i / dims).
long double angle_of(double theta, uint32_t dims, uint32_t pair, uint32_t position) {
  return position * std::pow(static_cast<long double>(theta), -2.0L * pair / dims);
}

std::vector<float> random_floats(size_t count, uint64_t seed) {
  kvreel_test::Random random{seed};
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(static_cast<double>(random.next() >> 11) * 0x1p-50 - 4.0);
  return values;
}

constexpr double kThetas[] = {1.0, 10000.0, 500000.0, 1000000.0, 10000000.0};

}  // namespace

TEST(table_accuracy, "cosines and sines are the nearest float up to position 131072, within a last place up to the limit") {
  for (const double theta : kThetas) {
    for (const uint32_t dims : {2u, 64u, 96u, 128u, 256u}) {
      for (const uint32_t start : {0u, 4090u, 131072u - 16, (1u << 20) + 5, kMaxPosition - 16}) {
        const Table built(theta, dims, RotaryStyle::kHalf, start, 16);
        for (uint32_t token = 0; token < 16; ++token) {
          for (uint32_t pair = 0; pair < dims / 2; ++pair) {
            const long double angle = angle_of(theta, dims, pair, start + token);
            const size_t at = pair * 16 + token;
            // 2^-25 is half a float's last place below 1; far out, the double angle's own error adds to it.
            const long double tolerance = start + 16 <= 131072 ? 0x1.04p-25L : 0x1p-24L;
            CHECK(std::fabs(built.table.cosines[at] - std::cos(angle)) <= tolerance);
            CHECK(std::fabs(built.table.sines[at] - std::sin(angle)) <= tolerance);
          }
        }
      }
    }
  }
}

TEST(table_bytes, "a table has the same bytes on every machine") {
  const Table built(500000.0, 128, RotaryStyle::kHalf, 131072 - 256, 256);
  std::vector<uint8_t> bytes;
  for (const float value : built.memory) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<uint8_t>(bits >> shift));
  }
  CHECK(xxh3_64({bytes.data(), bytes.size()}) == 0x7476a54e940c9a99);
}

TEST(pairs, "rotated pairs agree with the definition in double, undone and not, for any number of tokens") {
  const uint32_t dims = 30, start = 1000;
  for (const uint32_t tokens : {1u, 2u, 5u, 8u, 15u, 16u, 17u, 40u}) {
    const Table built(10000.0, dims, RotaryStyle::kHalf, start, tokens);
    for (uint32_t pair = 0; pair < dims / 2; ++pair) {
      const std::vector<float> before = random_floats(size_t{2} * tokens, pair);
      for (const bool undo : {false, true}) {
        std::vector<float> first(before.begin(), before.begin() + tokens), second(before.begin() + tokens, before.end());
        const size_t at = size_t{pair} * tokens;
        rotate_pair(first.data(), second.data(), built.table.cosines + at, built.table.sines + at, tokens, undo);
        for (uint32_t token = 0; token < tokens; ++token) {
          const double angle = static_cast<double>(angle_of(10000.0, dims, pair, start + token)) * (undo ? -1 : 1);
          const double a = before[token], b = before[tokens + token];
          CHECK(std::fabs(first[token] - (a * std::cos(angle) - b * std::sin(angle))) < 1.5e-6);
          CHECK(std::fabs(second[token] - (a * std::sin(angle) + b * std::cos(angle))) < 1.5e-6);
        }
      }
    }
  }
}

TEST(inverse, "undo after redo and redo after undo give the input to a few last places, at any position") {
  for (const uint32_t start : {0u, 131072u - 64, kMaxPosition - 64}) {
    const Table built(500000.0, 128, RotaryStyle::kHalf, start, 64);
    for (uint32_t pair = 0; pair < 64; ++pair) {
      const std::vector<float> before = random_floats(128, start + pair);
      for (const bool undo_first : {false, true}) {
        std::vector<float> after = before;
        const float* cosines = built.table.cosines + pair * 64;
        const float* sines = built.table.sines + pair * 64;
        rotate_pair(after.data(), after.data() + 64, cosines, sines, 64, undo_first);
        rotate_pair(after.data(), after.data() + 64, cosines, sines, 64, !undo_first);
        for (size_t i = 0; i < after.size(); ++i) CHECK(std::fabs(after[i] - before[i]) < 2e-6f);
      }
    }
  }
}

TEST(position_zero, "position zero turns nothing") {
  const Table built(10000.0, 64, RotaryStyle::kHalf, 0, 1);
  for (uint32_t pair = 0; pair < 32; ++pair) {
    const std::vector<float> before = random_floats(2, pair);
    std::vector<float> after = before;
    rotate_pair(&after[0], &after[1], built.table.cosines + pair, built.table.sines + pair, 1, false);
    CHECK(after == before);
  }
}

TEST(styles, "a table does not depend on the style, and says which one it was built for") {
  const Table half(10000.0, 64, RotaryStyle::kHalf, 77, 5);
  const Table interleaved(10000.0, 64, RotaryStyle::kInterleaved, 77, 5);
  CHECK(half.memory == interleaved.memory);
  CHECK(half.table.style == RotaryStyle::kHalf && interleaved.table.style == RotaryStyle::kInterleaved);
  CHECK(half.table.tokens == 5 && half.table.rotary_dims == 64);
}

// One multiplication at a time through memory that the compiler cannot see through: no vector code.
TEST(vector_code, "the compiler's vector code gives the bits of one multiplication at a time") {
  const uint32_t tokens = 37;
  const Table built(10000.0, 64, RotaryStyle::kHalf, 12345, tokens);
  for (uint32_t pair = 0; pair < 32; ++pair) {
    const std::vector<float> before = random_floats(size_t{2} * tokens, pair);
    std::vector<float> after = before;
    const float* cosines = built.table.cosines + size_t{pair} * tokens;
    const float* sines = built.table.sines + size_t{pair} * tokens;
    rotate_pair(after.data(), after.data() + tokens, cosines, sines, tokens, false);
    for (uint32_t token = 0; token < tokens; ++token) {
      volatile float a_cosine = before[token] * cosines[token];
      volatile float b_sine = before[tokens + token] * sines[token];
      volatile float b_cosine = before[tokens + token] * cosines[token];
      volatile float a_sine = before[token] * sines[token];
      const float expected_first = a_cosine - b_sine;
      const float expected_second = b_cosine + a_sine;
      CHECK(std::memcmp(&after[token], &expected_first, 4) == 0);
      CHECK(std::memcmp(&after[tokens + token], &expected_second, 4) == 0);
    }
  }
}

TEST(refusals, "parameters that make no table are refused") {
  std::vector<float> memory(64 * 4);
  const Span<float> span(memory.data(), memory.size());
  RotaryTable table;
  const auto build = [&](double theta, uint32_t dims, uint32_t start, uint32_t tokens, Span<float> into) {
    return build_rotary_table({theta, dims, RotaryStyle::kHalf}, start, tokens, into, &table);
  };
  CHECK(build(10000, 64, 0, 4, span) == Status::kOk);
  CHECK(build(10000, 64, 0, 4, span.first(255)) == Status::kBufferTooSmall);
  for (const double theta : {0.0, -1.0, 0.5, 1e31, static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    CHECK(build(theta, 64, 0, 4, span) == Status::kInvalidArgument);
  }
  for (const uint32_t dims : {0u, 63u, 65538u, 0xfffffffeu}) {
    CHECK(rotary_table_floats(dims, 4) == 0);
    CHECK(build(10000, dims, 0, 4, span) == Status::kInvalidArgument);
  }
  CHECK(build(10000, 64, 0, 0, span) == Status::kInvalidArgument);
  CHECK(build(10000, 64, 0, kMaxTokens + 1, span) == Status::kInvalidArgument);
  CHECK(build(10000, 64, kMaxPosition - 3, 4, span) == Status::kInvalidArgument);
  CHECK(build(10000, 64, 0xffffffff, 4, span) == Status::kInvalidArgument);
  CHECK(build_rotary_table({10000, 64, static_cast<RotaryStyle>(2)}, 0, 4, span, &table) == Status::kInvalidArgument);
}
