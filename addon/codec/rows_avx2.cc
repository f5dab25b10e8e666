// A strip goes through the registers in tiles of 16 x 16 values.
#include <immintrin.h>

#include "rows.h"

namespace kvreel {
namespace {

inline __m256i load(const void* p) noexcept { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store(void* p, __m256i v) noexcept { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

inline void transpose(__m256i a[16]) noexcept {
  __m256i b[16];
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
    a[i] = _mm256_permute2x128_si256(b[i], b[8 + i], 0x20);
    a[8 + i] = _mm256_permute2x128_si256(b[i], b[8 + i], 0x31);
  }
}

}  // namespace

void load_strip_avx2(const uint8_t* const line[16], size_t dims, uint16_t* rows, size_t stride) noexcept {
  for (size_t d = 0; d < dims; d += 16, rows += 16 * stride) {
    __m256i tile[16];
    for (int i = 0; i < 16; i++) tile[i] = load(line[i] + 2 * d);
    transpose(tile);
    for (int i = 0; i < 16; i++) store(rows + i * stride, tile[i]);
  }
}

void store_strip_avx2(const uint16_t* rows, size_t stride, size_t dims, uint8_t* const line[16]) noexcept {
  // The stores are spread over many cache lines: all are asked for before the first is needed.
  for (int i = 0; i < 16; i++) {
    for (size_t at = 0; at < 2 * dims; at += 64) __builtin_prefetch(line[i] + at, 1);
  }
  for (size_t d = 0; d < dims; d += 16, rows += 16 * stride) {
    __m256i tile[16];
    for (int i = 0; i < 16; i++) tile[i] = load(rows + i * stride);
    transpose(tile);
    for (int i = 0; i < 16; i++) store(line[i] + 2 * d, tile[i]);
  }
}

}  // namespace kvreel
