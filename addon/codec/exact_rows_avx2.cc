// The row kernels of `exact` for AVX2: 16 tokens of a row are one vector of 16-bit values; pdep and pext move the raw low bits.
#include <immintrin.h>

#include <cstring>

#include "exact.h"

namespace kvreel {

#define KVREEL_VARIANT(name) name##_avx2
#include "exact_loops.inl"
#undef KVREEL_VARIANT

namespace {

inline uint64_t low_bits_mask(uint32_t shift) noexcept { return 0x0001000100010001u * ((1u << shift) - 1); }

inline uint64_t load_u64(const uint8_t* p) noexcept {
  uint64_t word;
  std::memcpy(&word, p, 8);
  return word;
}

inline void restore_16(const uint8_t* symbols, const ExactChannel& channel, uint32_t magnitude_bits, const uint8_t* low, uint16_t* out) noexcept {
  const uint32_t shift = channel.shift;
  const uint64_t mask = low_bits_mask(shift);
  // Eight values are `shift` bytes, so the second four of them begin at half a byte where it is odd.
  const uint8_t* const middle = low + shift / 2;
  const uint32_t odd = shift % 2 * 4;
  const __m256i low_bits = _mm256_setr_epi64x(int64_t(_pdep_u64(load_u64(low), mask)), int64_t(_pdep_u64(load_u64(middle) >> odd, mask)),
                                              int64_t(_pdep_u64(load_u64(low + shift), mask)), int64_t(_pdep_u64(load_u64(middle + shift) >> odd, mask)));
  const __m256i symbol = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(symbols)));
  const __m256i first_bin = _mm256_set1_epi16(int16_t(channel.mean_bin - kExactBinsBelowMean));
  const __m256i bin = _mm256_add_epi16(first_bin, _mm256_srli_epi16(symbol, 1));
  const __m256i magnitude = _mm256_or_si256(_mm256_sll_epi16(bin, _mm_cvtsi32_si128(int(shift))), low_bits);
  const __m256i kept = _mm256_and_si256(magnitude, _mm256_set1_epi16(int16_t((1u << magnitude_bits) - 1)));
  const __m256i sign = _mm256_and_si256(_mm256_xor_si256(symbol, _mm256_set1_epi16(channel.flip)), _mm256_set1_epi16(1));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_or_si256(_mm256_sll_epi16(sign, _mm_cvtsi32_si128(int(magnitude_bits))), kept));
}

inline void pack_16(const uint16_t* values, uint32_t shift, uint8_t* out) noexcept {
  const uint64_t mask = low_bits_mask(shift);
  uint64_t four[4];
  for (int i = 0; i < 4; i++) {
    std::memcpy(&four[i], values + 4 * i, 8);
    four[i] = _pext_u64(four[i], mask);
  }
  // Eight values are whole bytes: 8 * shift bits, in two words where shift is above 8.
  for (int half = 0; half < 2; half++) {
    const uint64_t a = four[2 * half], b = four[2 * half + 1];
    const uint64_t first = a | (4 * shift < 64 ? b << (4 * shift) : 0);
    uint8_t* p = out + half * shift;
    std::memcpy(p, &first, 8);
    if (shift > 8) {
      const uint64_t second = b >> (64 - 4 * shift);
      std::memcpy(p + 8, &second, shift - 8);
    }
  }
}

}  // namespace

void exact_restore_rows_avx2(const uint8_t* symbols, size_t tokens, Span<const ExactChannel> channels, uint32_t magnitude_bits, const uint8_t* low,
                             uint16_t* out) noexcept {
  for (size_t r = 0; r < channels.size; r++) {
    for (size_t t = 0; t < tokens; t += 16, low += 2 * channels[r].shift, symbols += 16, out += 16) {
      restore_16(symbols, channels[r], magnitude_bits, low, out);
    }
  }
}

size_t exact_pack_rows_avx2(const uint16_t* values, size_t stride, size_t tokens, Span<const ExactChannel> channels, uint8_t* out) noexcept {
  uint8_t* p = out;
  for (size_t r = 0; r < channels.size; r++) {
    for (size_t t = 0; t < tokens; t += 16, p += 2 * channels[r].shift) pack_16(values + r * stride + t, channels[r].shift, p);
  }
  return size_t(p - out);
}

}  // namespace kvreel
