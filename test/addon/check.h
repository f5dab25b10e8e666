// The addon's whole test framework: TEST bodies register themselves, main() runs them all and counts.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace kvreel_test {

struct Test {
  const char* name;
  void (*run)();
};
inline std::vector<Test> tests;
inline int failed_checks = 0;
/// What a loop is at, printed with a failed check; empty where there is nothing to say.
inline std::string at_case;

struct Registration {
  Registration(const char* name, void (*run)()) { tests.push_back({name, run}); }
};

/// SplitMix64: the same numbers on every run.
struct Random {
  uint64_t state;
  uint64_t next() {
    uint64_t z = state += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  uint32_t below(uint32_t bound) { return static_cast<uint32_t>((next() >> 32) * bound >> 32); }
  /// In [0, 1).
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  /// About normal, mean 0, deviation 1: a sum of twelve.
  double normal() {
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += uniform();
    return sum;
  }
};

}  // namespace kvreel_test

/// TEST(identifier, "what is true, as a sentence") { ... }
#define TEST(id, sentence)                                              \
  static void id();                                                     \
  static const kvreel_test::Registration register_##id(sentence, id);   \
  static void id()

/// Reports a false condition and goes on; the first few are printed.
#define CHECK(condition)                                                                                  \
  do {                                                                                                    \
    if (!(condition) && ++kvreel_test::failed_checks <= 20) {                                             \
      std::printf("%s:%d: %s  %s\n", __FILE__, __LINE__, #condition, kvreel_test::at_case.c_str());       \
    }                                                                                                     \
  } while (false)

namespace kvreel_test {

inline int run_tests() {
  int passed = 0;
  int failed = 0;
  for (const Test& test : tests) {
    const int before = failed_checks;
    at_case.clear();
    test.run();
    const bool ok = failed_checks == before;
    ++(ok ? passed : failed);
    if (!ok) std::printf("FAILED: %s\n", test.name);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace kvreel_test

#if !defined(KVREEL_TEST_OWN_MAIN)
int main() { return kvreel_test::run_tests(); }
#endif
