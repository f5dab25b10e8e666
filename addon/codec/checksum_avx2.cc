// Two registers hold the eight lanes from the first block to the last stripe.
#include <immintrin.h>

#include "checksum.h"

namespace kvreel {
namespace {

struct Lanes {
  __m256i low, high;
};

inline __m256i load(const void* p) noexcept { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

inline __m256i add_half(__m256i lanes, const uint8_t* p, const uint8_t* secret) noexcept {
  const __m256i value = load(p);
  const __m256i keyed = _mm256_xor_si256(value, load(secret));
  const __m256i product = _mm256_mul_epu32(keyed, _mm256_srli_epi64(keyed, 32));
  const __m256i neighbours = _mm256_shuffle_epi32(value, _MM_SHUFFLE(1, 0, 3, 2));
  return _mm256_add_epi64(product, _mm256_add_epi64(lanes, neighbours));
}

inline Lanes add_stripe(Lanes lanes, const uint8_t* p, const uint8_t* secret) noexcept {
  return {add_half(lanes.low, p, secret), add_half(lanes.high, p + 32, secret + 32)};
}

inline __m256i scramble_half(__m256i lanes, const uint8_t* secret) noexcept {
  const __m256i prime = _mm256_set1_epi64x(0x9E3779B1);
  const __m256i keyed = _mm256_xor_si256(_mm256_xor_si256(lanes, _mm256_srli_epi64(lanes, 47)), load(secret));
  const __m256i upper = _mm256_mul_epu32(_mm256_srli_epi64(keyed, 32), prime);
  return _mm256_add_epi64(_mm256_mul_epu32(keyed, prime), _mm256_slli_epi64(upper, 32));
}

}  // namespace

void xxh3_stripes_avx2(const uint8_t* p, size_t blocks, size_t stripes, const uint8_t* secret, uint64_t* lanes) noexcept {
  Lanes l = {load(lanes), load(lanes + 4)};
  for (; blocks > 0; --blocks, p += 1024) {
    for (size_t i = 0; i < 16; i++) l = add_stripe(l, p + 64 * i, secret + 8 * i);
    l = {scramble_half(l.low, secret + 128), scramble_half(l.high, secret + 160)};
  }
  for (size_t i = 0; i < stripes; i++) l = add_stripe(l, p + 64 * i, secret + 8 * i);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), l.low);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes + 4), l.high);
}

}  // namespace kvreel
