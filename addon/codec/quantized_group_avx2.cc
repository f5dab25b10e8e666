// Packing of low bits with pext and pdep: four values at a time, each with a width of its own.
#include <immintrin.h>

#include <cstring>

#include "quantized_group.h"

namespace kvreel {

void pack_low_row_bmi2(const int16_t* q, size_t tokens, const LowBits::Level& level, uint8_t* out, size_t* bit) noexcept {
  size_t at = *bit;
  for (size_t t = 0; t < tokens; t += 4) {
    const uint64_t mask = level.masks[t / 4];
    uint64_t values, halves;
    std::memcpy(&values, q + t, 8);
    std::memcpy(&halves, level.half + t, 8);
    const __m128i sum = _mm_add_epi16(_mm_cvtsi64_si128(int64_t(values)), _mm_cvtsi64_si128(int64_t(halves)));
    const uint64_t packed = _pext_u64(uint64_t(_mm_cvtsi128_si64(sum)), mask);
    // At most 4 * 14 bits after at most 7: one word holds them. What is above them is written as zeros.
    uint8_t* const p = out + at / 8;
    const uint64_t kept = at % 8 == 0 ? 0 : *p & ((1u << (at % 8)) - 1);
    const uint64_t word = kept | packed << (at % 8);
    std::memcpy(p, &word, 8);
    at += size_t(__builtin_popcountll(mask));
  }
  *bit = at;
}

void unpack_low_row_bmi2(const uint8_t* in, size_t tokens, const LowBits::Level& level, uint16_t* out, size_t* bit) noexcept {
  size_t at = *bit;
  for (size_t t = 0; t < tokens; t += 4) {
    const uint64_t mask = level.masks[t / 4];
    uint64_t word;
    std::memcpy(&word, in + at / 8, 8);
    const uint64_t values = _pdep_u64(word >> (at % 8), mask);
    std::memcpy(out + t, &values, 8);
    at += size_t(__builtin_popcountll(mask));
  }
  *bit = at;
}

}  // namespace kvreel
