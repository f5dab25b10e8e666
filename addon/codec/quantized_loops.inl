// Plain loops over rows, compiled twice: portably (quantized_rows.cc) and for AVX2 (quantized_rows_avx2.cc), where compilers turn
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

void KVREEL_VARIANT(elements_to_floats)(const uint16_t* __restrict upper, const uint16_t* __restrict lower, size_t count, ElementType type,
                                   float* __restrict out) noexcept {
  if (type == ElementType::kF16) {
    for (size_t t = 0; t < count; t++) out[t] = f16_to_float(upper[t]);
  } else if (type == ElementType::kBf16) {
    for (size_t t = 0; t < count; t++) out[t] = float_of(uint32_t(upper[t]) << 16);
  } else {
    for (size_t t = 0; t < count; t++) out[t] = float_of(uint32_t(upper[t]) << 16 | lower[t]);
  }
}

void KVREEL_VARIANT(floats_to_elements)(const float* __restrict values, size_t count, ElementType type, uint16_t* __restrict upper,
                                   uint16_t* __restrict lower) noexcept {
  if (type == ElementType::kF16) {
    for (size_t t = 0; t < count; t++) upper[t] = float_to_f16(values[t]);
  } else if (type == ElementType::kBf16) {
    // float_to_bf16 without its NaN branch: no NaN comes out of a dequantised row.
    for (size_t t = 0; t < count; t++) {
      const uint32_t bits = bits_of(values[t]);
      upper[t] = uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
  } else {
    for (size_t t = 0; t < count; t++) {
      const uint32_t bits = bits_of(values[t]);
      upper[t] = uint16_t(bits >> 16);
      lower[t] = uint16_t(bits);
    }
  }
}

static inline void KVREEL_VARIANT(quantize_row)(const float* __restrict values, size_t tokens, const QuantizedRow& row,
                                                const float* __restrict inverse_tau, int16_t* __restrict q) noexcept {
  const float offset = row.offset, inverse_step = row.inverse_step;
  const uint32_t largest = bits_of(32767.0f);
  for (size_t t = 0; t < tokens; t++) {
    const uint32_t scaled = bits_of((values[t] - offset) * inverse_step * inverse_tau[t]);
    // Clamped as integers: a choice between floats would keep compilers from vectorising.
    const uint32_t magnitude = scaled & 0x7fffffff, kept = magnitude < largest ? magnitude : largest;
    // Adding 1.5 * 2^23 rounds to an integer, halves to even.
    q[t] = int16_t(int32_t(float_of((scaled & 0x80000000) | kept) + 12582912.0f) - 12582912);
  }
}

void KVREEL_VARIANT(quantize_rows)(const float* values, size_t count, size_t tokens, const QuantizedRow* rows, const float* inverse_tau,
                                   int16_t* q) noexcept {
  for (size_t r = 0; r < count; r++) KVREEL_VARIANT(quantize_row)(values + r * tokens, tokens, rows[r], inverse_tau, q + r * tokens);
}

static inline void KVREEL_VARIANT(dequantize_row)(const int16_t* __restrict q, size_t tokens, const QuantizedRow& row, const float* __restrict tau,
                                                  float* __restrict values) noexcept {
  const float offset = row.offset, step = row.step;
  for (size_t t = 0; t < tokens; t++) values[t] = offset + float(q[t]) * step * tau[t];
}

void KVREEL_VARIANT(dequantize_rows)(const int16_t* q, size_t count, size_t tokens, const QuantizedRow* rows, const float* tau, float* values) noexcept {
  for (size_t r = 0; r < count; r++) KVREEL_VARIANT(dequantize_row)(q + r * tokens, tokens, rows[r], tau, values + r * tokens);
}

void KVREEL_VARIANT(symbols_to_integers)(const uint8_t* __restrict symbols, size_t count, int16_t* __restrict q) noexcept {
  for (size_t i = 0; i < count; i++) q[i] = int16_t(symbols[i] - 128);
}

size_t KVREEL_VARIANT(symbols_of_row)(const int16_t* __restrict q, const uint16_t* __restrict half, const uint16_t* __restrict width, size_t tokens,
                                      uint8_t* __restrict symbols) noexcept {
  uint32_t escapes = 0;
  const auto symbol_of = [&escapes](int32_t high) noexcept {
    const bool outside = uint32_t(high + 127) > 254;
    escapes += outside;
    return outside ? uint8_t(0) : uint8_t(high + 128);
  };
  if (half == nullptr) {
    for (size_t t = 0; t < tokens; t++) symbols[t] = symbol_of(q[t]);
  } else {
    for (size_t t = 0; t < tokens; t++) symbols[t] = symbol_of((q[t] + half[t]) >> width[t]);
  }
  return escapes;
}
