// The row loops in the variant that this processor runs.
#pragma once

#include "cpu.h"
#include "quantized.h"

namespace kvreel {

struct QuantizedKernels {
  decltype(&rotate_pair) rotate;
  decltype(&row_to_floats) to_floats;
  decltype(&floats_to_row) from_floats;
  decltype(&quantize_row) quantize;
  decltype(&dequantize_row) dequantize;
};

inline QuantizedKernels quantized_kernels() noexcept {
#if defined(KVREEL_AVX2)
  if (cpu_has_avx2()) return {rotate_pair_avx2, row_to_floats_avx2, floats_to_row_avx2, quantize_row_avx2, dequantize_row_avx2};
#endif
  return {rotate_pair, row_to_floats, floats_to_row, quantize_row, dequantize_row};
}

}  // namespace kvreel
