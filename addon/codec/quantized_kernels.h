// The loops in the variant that this processor runs.
#pragma once

#include "cpu.h"
#include "quantized.h"

namespace kvreel {

struct QuantizedKernels {
  decltype(&rotate_pair) rotate;
  decltype(&elements_to_floats) to_floats;
  decltype(&floats_to_elements) to_elements;
  decltype(&quantize_rows) quantize;
  decltype(&dequantize_rows) dequantize;
  decltype(&symbols_to_integers) to_integers;
  decltype(&symbols_of_row) to_symbols;
};

inline QuantizedKernels quantized_kernels() noexcept {
#if defined(KVREEL_AVX2)
  if (cpu_has_avx2()) {
    return {rotate_pair_avx2,     elements_to_floats_avx2,  floats_to_elements_avx2, quantize_rows_avx2,
            dequantize_rows_avx2, symbols_to_integers_avx2, symbols_of_row_avx2};
  }
#endif
  return {rotate_pair, elements_to_floats, floats_to_elements, quantize_rows, dequantize_rows, symbols_to_integers, symbols_of_row};
}

}  // namespace kvreel
