// The row kernel of `exact` for AVX-512: 32 tokens of a row are one vector of 16-bit values, and two shuffles spread their raw low bits.
#include <immintrin.h>

#include "exact.h"

namespace kvreel {
namespace {

// Where the low bits of 32 values lie that were packed with `shift` bits each. Four values share a word of eight bytes, which is first
// filled with the bytes they are in; then each of its bytes takes eight bits from the place given here.
struct Spread {
  alignas(64) uint8_t source[kExactMaxShift + 1][64];
  alignas(64) uint8_t bit[kExactMaxShift + 1][64];
};

constexpr Spread make_spread() noexcept {
  Spread spread{};
  for (uint32_t shift = 0; shift <= kExactMaxShift; shift++) {
    for (uint32_t i = 0; i < 64; i++) {
      const uint32_t word = i / 8, first_bit = word * 4 * shift, value = i % 8 / 2, half = i % 2;
      spread.source[shift][i] = uint8_t(first_bit / 8 + i % 8);
      spread.bit[shift][i] = uint8_t(first_bit % 8 + value * shift + 8 * half);
    }
  }
  return spread;
}

// The intrinsics without a mask make GCC 12 warn of a variable of its own.
constexpr __mmask64 kAll = ~__mmask64{0};

constexpr Spread kSpread = make_spread();

}  // namespace

void exact_restore_rows_avx512(const uint8_t* symbols, size_t tokens, Span<const ExactChannel> channels, uint32_t magnitude_bits, const uint8_t* low,
                               uint16_t* out) noexcept {
  const __m512i one = _mm512_set1_epi16(1), magnitude_mask = _mm512_set1_epi16(int16_t((1u << magnitude_bits) - 1));
  const __m128i sign_place = _mm_cvtsi32_si128(int(magnitude_bits));
  for (size_t r = 0; r < channels.size; r++) {
    const ExactChannel& channel = channels[r];
    const __m512i source = _mm512_load_si512(kSpread.source[channel.shift]), bit = _mm512_load_si512(kSpread.bit[channel.shift]);
    const __m512i low_mask = _mm512_set1_epi16(int16_t((1u << channel.shift) - 1)), flip = _mm512_set1_epi16(channel.flip);
    const __m512i first_bin = _mm512_set1_epi16(int16_t(channel.mean_bin - kExactBinsBelowMean));
    const __m128i shift = _mm_cvtsi32_si128(channel.shift);
    for (size_t t = 0; t < tokens; t += 32) {
      const size_t count = tokens - t < 32 ? tokens - t : 32;
      const __mmask32 present = _bzhi_u32(~0u, uint32_t(count));
      const __m512i symbol = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(present, symbols + t));
      const __m512i words = _mm512_maskz_permutexvar_epi8(kAll, source, _mm512_loadu_si512(low + t / 8 * channel.shift));
      const __m512i spread = _mm512_maskz_multishift_epi64_epi8(kAll, bit, words);
      const __m512i bin = _mm512_add_epi16(first_bin, _mm512_srli_epi16(symbol, 1));
      const __m512i magnitude = _mm512_or_si512(_mm512_sll_epi16(bin, shift), _mm512_and_si512(spread, low_mask));
      const __m512i sign = _mm512_sll_epi16(_mm512_and_si512(_mm512_xor_si512(symbol, flip), one), sign_place);
      _mm512_mask_storeu_epi16(out + t, present, _mm512_or_si512(sign, _mm512_and_si512(magnitude, magnitude_mask)));
    }
    symbols += tokens;
    out += tokens;
    low += exact_low_bytes(channel, tokens);
  }
}

}  // namespace kvreel
