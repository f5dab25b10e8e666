// The one place that asks what the processor can do.
#pragma once

namespace kvreel {

// True where the *_avx2.cc files may run: AVX2, BMI and LZCNT (every processor with BMI2 has it), on processors whose pdep and pext are not microcoded.
bool cpu_has_avx2() noexcept;

// True where the *_avx512.cc files may run: AVX2 as above, and AVX-512 F, VL, BW, DQ and VBMI (Ice Lake, Zen 4 and later).
bool cpu_has_avx512() noexcept;

// For tests and benchmarks: makes both answer false until called with false again.
void cpu_force_scalar(bool force) noexcept;

}  // namespace kvreel
