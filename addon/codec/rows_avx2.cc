#include <immintrin.h>

#include "rows.h"

namespace kvreel {

void transpose_tile_avx2(const uint16_t* const source[16], uint16_t* const target[16]) noexcept {
  __m256i a[16], b[16];
  for (int i = 0; i < 16; i++) a[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source[i]));
  // Four rounds; each doubles the width of what is in place. All shuffles stay inside 128-bit halves until the last.
  for (int i = 0; i < 8; i++) {
    b[2 * i] = _mm256_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm256_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
  }
  for (int i = 0; i < 4; i++) {
    a[4 * i] = _mm256_unpacklo_epi32(b[4 * i], b[4 * i + 2]);
    a[4 * i + 1] = _mm256_unpackhi_epi32(b[4 * i], b[4 * i + 2]);
    a[4 * i + 2] = _mm256_unpacklo_epi32(b[4 * i + 1], b[4 * i + 3]);
    a[4 * i + 3] = _mm256_unpackhi_epi32(b[4 * i + 1], b[4 * i + 3]);
  }
  for (int h = 0; h < 2; h++) {
    for (int i = 0; i < 4; i++) {
      b[8 * h + 2 * i] = _mm256_unpacklo_epi64(a[8 * h + i], a[8 * h + 4 + i]);
      b[8 * h + 2 * i + 1] = _mm256_unpackhi_epi64(a[8 * h + i], a[8 * h + 4 + i]);
    }
  }
  for (int i = 0; i < 8; i++) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target[i]), _mm256_permute2x128_si256(b[i], b[8 + i], 0x20));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target[8 + i]), _mm256_permute2x128_si256(b[i], b[8 + i], 0x31));
  }
}

}  // namespace kvreel
