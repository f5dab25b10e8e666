// Plain loops over one row, compiled twice: portably (quantized_rows.cc) and for AVX2 (quantized_rows_avx2.cc), where compilers turn
// them into vector code. No sums and no fused multiply-add, so both give the same results. The including file defines
// KVREEL_VARIANT(name).

void KVREEL_VARIANT(rotate_pair)(float* __restrict a, float* __restrict b, const float* cosines, const float* sines, size_t tokens, bool undo) noexcept {
  const float sign = undo ? -1.0f : 1.0f;
  for (size_t t = 0; t < tokens; t++) {
    const float cosine = cosines[t], sine = sign * sines[t], x = a[t], y = b[t];
    a[t] = x * cosine - y * sine;
    b[t] = y * cosine + x * sine;
  }
}

void KVREEL_VARIANT(row_to_floats)(const uint16_t* __restrict upper, const uint16_t* __restrict lower, size_t tokens, ElementType type,
                                   float* __restrict out) noexcept {
  if (type == ElementType::kF16) {
    for (size_t t = 0; t < tokens; t++) out[t] = f16_to_float(upper[t]);
  } else if (type == ElementType::kBf16) {
    for (size_t t = 0; t < tokens; t++) out[t] = float_of(uint32_t(upper[t]) << 16);
  } else {
    for (size_t t = 0; t < tokens; t++) out[t] = float_of(uint32_t(upper[t]) << 16 | lower[t]);
  }
}

void KVREEL_VARIANT(floats_to_row)(const float* __restrict values, size_t tokens, ElementType type, uint16_t* __restrict upper,
                                   uint16_t* __restrict lower) noexcept {
  if (type == ElementType::kF16) {
    for (size_t t = 0; t < tokens; t++) upper[t] = float_to_f16(values[t]);
  } else if (type == ElementType::kBf16) {
    // float_to_bf16 without its NaN branch: no NaN comes out of a dequantised row.
    for (size_t t = 0; t < tokens; t++) {
      const uint32_t bits = bits_of(values[t]);
      upper[t] = uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
  } else {
    for (size_t t = 0; t < tokens; t++) {
      const uint32_t bits = bits_of(values[t]);
      upper[t] = uint16_t(bits >> 16);
      lower[t] = uint16_t(bits);
    }
  }
}

void KVREEL_VARIANT(quantize_row)(const float* __restrict values, size_t tokens, const QuantizedRow& row, const float* __restrict inverse_tau,
                                  int16_t* __restrict q) noexcept {
  const float offset = row.offset, inverse_step = row.inverse_step;
  for (size_t t = 0; t < tokens; t++) {
    float scaled = (values[t] - offset) * inverse_step * inverse_tau[t];
    scaled = scaled < 32767.0f ? scaled : 32767.0f;
    scaled = scaled > -32767.0f ? scaled : -32767.0f;
    // Adding 1.5 * 2^23 leaves the rounded integer in the low bits of the fraction.
    q[t] = int16_t(bits_of(scaled + 12582912.0f) - 0x4b400000u);
  }
}

void KVREEL_VARIANT(dequantize_row)(const int16_t* __restrict q, size_t tokens, const QuantizedRow& row, const float* __restrict tau,
                                    float* __restrict values) noexcept {
  const float offset = row.offset, step = row.step;
  for (size_t t = 0; t < tokens; t++) values[t] = offset + float(q[t]) * step * tau[t];
}
