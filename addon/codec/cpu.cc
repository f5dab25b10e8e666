#include "cpu.h"

#include <atomic>

namespace kvreel {
namespace {

std::atomic<bool> forced_scalar{false};

}  // namespace

bool cpu_has_avx2() noexcept {
#if defined(KVREEL_AVX2)
  static const bool supported = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && !__builtin_cpu_is("znver1") &&
                                !__builtin_cpu_is("znver2");
  return supported && !forced_scalar.load(std::memory_order_relaxed);
#else
  return false;
#endif
}

bool cpu_has_avx512() noexcept {
#if defined(KVREEL_AVX2)
  static const bool supported = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
                                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vbmi");
  return supported && cpu_has_avx2();
#else
  return false;
#endif
}

void cpu_force_scalar(bool force) noexcept { forced_scalar.store(force, std::memory_order_relaxed); }

}  // namespace kvreel
