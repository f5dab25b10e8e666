// rANS decoding for processors with AVX-512, on vectors of 256 bits: expanding by a mask takes the place of AVX2's shuffle table. Encoding
// gains nothing from it.
#include <immintrin.h>

#include <cstring>

#include "rans.h"

namespace kvreel {
namespace {

inline __m256i decode_step(__m256i state, const uint32_t* table, __m256i offset, const uint8_t*& p, uint8_t* out) noexcept {
  const __m256i slot = _mm256_add_epi32(offset, _mm256_and_si256(state, _mm256_set1_epi32(kRansScale - 1)));
  const __m256i entry = _mm256_i32gather_epi32(reinterpret_cast<const int*>(table), slot, 4);
  const __m256i frequency = _mm256_srli_epi32(entry, 20);
  const __m256i bias = _mm256_and_si256(_mm256_srli_epi32(entry, 8), _mm256_set1_epi32(0xfff));
  state = _mm256_add_epi32(_mm256_mullo_epi32(frequency, _mm256_srli_epi32(state, kRansScaleBits)), bias);
  const __mmask8 low = _mm256_cmplt_epu32_mask(state, _mm256_set1_epi32(int(kRansLowBound)));
  const __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  state = _mm256_or_si256(_mm256_mask_slli_epi32(state, low, state, 16), _mm256_maskz_expand_epi32(low, words));
  p += 2 * __builtin_popcount(low);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(out), _mm256_maskz_cvtepi32_epi8(0xff, entry));
  return state;
}

}  // namespace

#define KVREEL_VARIANT(name) name##_avx512
#include "rans_decode_loops.inl"
#undef KVREEL_VARIANT

}  // namespace kvreel
