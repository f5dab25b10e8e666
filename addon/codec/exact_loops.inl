// Plain loops over one row, compiled twice: portably (exact_rows.cc) and for AVX2 (exact_rows_avx2.cc), where compilers turn them into
// vector code. Integers only, so both give the same results. The including file defines KVREEL_VARIANT(name).

ExactSums KVREEL_VARIANT(exact_sum_row)(const uint16_t* row, size_t tokens, uint32_t magnitude_bits) noexcept {
  const uint16_t mask = uint16_t((1u << magnitude_bits) - 1);
  ExactSums sums{};
  // Parts short enough that 32 bits hold their sums.
  for (size_t begin = 0; begin < tokens; begin += 65536) {
    const size_t end = begin + 65536 < tokens ? begin + 65536 : tokens;
    uint32_t magnitude = 0, negative = 0;
    for (size_t t = begin; t < end; t++) {
      magnitude += uint32_t(row[t] & mask);
      negative += uint32_t(row[t] >> magnitude_bits) & 1;
    }
    sums.magnitude += magnitude;
    sums.negative += negative;
  }
  return sums;
}

uint64_t KVREEL_VARIANT(exact_deviation_of_row)(const uint16_t* row, size_t tokens, uint32_t magnitude_bits, uint16_t mean) noexcept {
  const uint16_t mask = uint16_t((1u << magnitude_bits) - 1);
  uint64_t total = 0;
  for (size_t begin = 0; begin < tokens; begin += 65536) {
    const size_t end = begin + 65536 < tokens ? begin + 65536 : tokens;
    uint32_t deviation = 0;
    for (size_t t = begin; t < end; t++) {
      const uint16_t magnitude = uint16_t(row[t] & mask);
      deviation += magnitude > mean ? uint16_t(magnitude - mean) : uint16_t(mean - magnitude);
    }
    total += deviation;
  }
  return total;
}

size_t KVREEL_VARIANT(exact_symbols_of_row)(const uint16_t* row, size_t tokens, const ExactChannel& channel, ExactBinRange range,
                                            uint32_t magnitude_bits, uint8_t* symbols) noexcept {
  const uint16_t mask = uint16_t((1u << magnitude_bits) - 1);
  const uint16_t first_bin = uint16_t(channel.mean_bin - kExactBinsBelowMean);
  const uint32_t shift = channel.shift;
  const uint16_t flip = channel.flip, begin = range.begin, count = uint16_t(range.end - range.begin);
  uint16_t escapes = 0;
  size_t total = 0;
  for (size_t first = 0; first < tokens; first += 32768) {
    const size_t end = first + 32768 < tokens ? first + 32768 : tokens;
    for (size_t t = first; t < end; t++) {
      const uint16_t bin = uint16_t(uint16_t((row[t] & mask) >> shift) - first_bin);
      const uint16_t symbol = uint16_t(bin << 1 | ((row[t] >> magnitude_bits & 1) ^ flip));
      const uint16_t outside = uint16_t(bin - begin) < count ? 0 : 1;
      symbols[t] = outside ? kExactEscape : uint8_t(symbol);
      escapes = uint16_t(escapes + outside);
    }
    total += escapes;
    escapes = 0;
  }
  return total;
}
