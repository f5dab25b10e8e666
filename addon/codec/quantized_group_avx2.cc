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

namespace {

// The low bits of the next four values, each in 16 bits.
inline int64_t next_four(const uint8_t* in, uint64_t mask, size_t* bit) noexcept {
  uint64_t word;
  std::memcpy(&word, in + *bit / 8, 8);
  const uint64_t four = _pdep_u64(word >> (*bit % 8), mask);
  *bit += size_t(__builtin_popcountll(mask));
  return int64_t(four);
}

}  // namespace

void add_low_row_bmi2(const uint8_t* in, size_t tokens, const LowBits::Level& level, int16_t* q, size_t* bit) noexcept {
  const uint64_t* const masks = level.masks;
  const uint16_t* const factor = level.factor;
  const uint16_t* const half = level.half;
  size_t at = *bit, t = 0;
  for (; t + 16 <= tokens; t += 16) {
    const auto load = [t](const void* p) noexcept { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(static_cast<const uint16_t*>(p) + t)); };
    const int64_t a = next_four(in, masks[t / 4], &at), b = next_four(in, masks[t / 4 + 1], &at);
    const int64_t c = next_four(in, masks[t / 4 + 2], &at), d = next_four(in, masks[t / 4 + 3], &at);
    const __m256i sum = _mm256_add_epi16(_mm256_mullo_epi16(load(q), load(factor)), _mm256_setr_epi64x(a, b, c, d));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + t), _mm256_sub_epi16(sum, load(half)));
  }
  for (; t < tokens; t += 4) {
    const auto load = [t](const void* p) noexcept { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(static_cast<const uint16_t*>(p) + t)); };
    const __m128i sum = _mm_add_epi16(_mm_mullo_epi16(load(q), load(factor)), _mm_cvtsi64_si128(next_four(in, masks[t / 4], &at)));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(q + t), _mm_sub_epi16(sum, load(half)));
  }
  *bit = at;
}

}  // namespace kvreel
