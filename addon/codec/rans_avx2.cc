// rANS for processors with AVX2: eight lanes are one vector, groups are walked in lockstep to hide the latency of table look-up and
// division. Same results as the scalar functions.
#include <immintrin.h>

#include <cstring>

#include "rans.h"

namespace kvreel {
namespace {

// For each set of lanes that want a word: which of the next eight words goes to which lane.
struct RefillTable {
  alignas(32) uint8_t lane[256][8];
  constexpr RefillTable() noexcept : lane() {
    for (int mask = 0; mask < 256; mask++) {
      uint8_t next = 0;
      for (int i = 0; i < 8; i++) lane[mask][i] = (mask >> i & 1) ? next++ : 0;
    }
  }
};
constexpr RefillTable kRefill;

// For each set of lanes that give up a word: which lane's word goes to which of eight places, so that the last places are filled.
struct SpillTable {
  alignas(32) uint8_t lane[256][8];
  constexpr SpillTable() noexcept : lane() {
    for (int mask = 0; mask < 256; mask++) {
      int place = 8;
      for (int i = 7; i >= 0; i--) {
        if (mask >> i & 1) lane[mask][--place] = uint8_t(i);
      }
    }
  }
};
constexpr SpillTable kSpill;

inline __m256i encode_step(__m256i state, const uint32_t* table, __m256i offset, const uint8_t* symbols, uint8_t*& p) noexcept {
  const __m256i symbol = _mm256_add_epi32(offset, _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(symbols))));
  const __m256i entry = _mm256_i32gather_epi32(reinterpret_cast<const int*>(table), symbol, 4);
  const __m256i frequency = _mm256_srli_epi32(entry, 16);
  const __m256i start = _mm256_and_si256(entry, _mm256_set1_epi32(0xffff));
  // state >= frequency << 21, both shifted down so that the comparison is a signed one; a frequency of 2048 never is reached.
  const __m256i full = _mm256_cmpgt_epi32(_mm256_srli_epi32(state, 32 - kRansScaleBits), _mm256_sub_epi32(frequency, _mm256_set1_epi32(1)));
  const unsigned mask = unsigned(_mm256_movemask_ps(_mm256_castsi256_ps(full)));
  const __m256i pick = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(kSpill.lane[mask])));
  const __m256i words = _mm256_and_si256(_mm256_permutevar8x32_epi32(state, pick), _mm256_set1_epi32(0xffff));
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(words, words), 0x08);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p - 16), _mm256_castsi256_si128(packed));
  p -= 2 * __builtin_popcount(mask);
  state = _mm256_blendv_epi8(state, _mm256_srli_epi32(state, 16), full);
  // The quotient is below 2^21, so single precision is off by one at most; the remainder tells.
  const __m256 half = _mm256_cvtepi32_ps(_mm256_srli_epi32(state, 1));
  const __m256 ratio = _mm256_div_ps(half, _mm256_cvtepi32_ps(frequency));
  __m256i quotient = _mm256_cvttps_epi32(_mm256_add_ps(ratio, ratio));
  __m256i remainder = _mm256_sub_epi32(state, _mm256_mullo_epi32(quotient, frequency));
  const __m256i below = _mm256_srai_epi32(remainder, 31);
  quotient = _mm256_add_epi32(quotient, below);
  remainder = _mm256_add_epi32(remainder, _mm256_and_si256(below, frequency));
  const __m256i inside = _mm256_cmpgt_epi32(frequency, remainder);
  quotient = _mm256_add_epi32(quotient, _mm256_andnot_si256(inside, _mm256_set1_epi32(1)));
  remainder = _mm256_sub_epi32(remainder, _mm256_andnot_si256(inside, frequency));
  return _mm256_add_epi32(_mm256_slli_epi32(quotient, kRansScaleBits), _mm256_add_epi32(remainder, start));
}

inline __m256i decode_step(__m256i state, const uint32_t* table, __m256i offset, const uint8_t*& p, uint8_t* out) noexcept {
  const __m256i slot = _mm256_add_epi32(offset, _mm256_and_si256(state, _mm256_set1_epi32(kRansScale - 1)));
  const __m256i entry = _mm256_i32gather_epi32(reinterpret_cast<const int*>(table), slot, 4);
  const __m256i frequency = _mm256_srli_epi32(entry, 20);
  const __m256i bias = _mm256_and_si256(_mm256_srli_epi32(entry, 8), _mm256_set1_epi32(0xfff));
  state = _mm256_add_epi32(_mm256_mullo_epi32(frequency, _mm256_srli_epi32(state, kRansScaleBits)), bias);
  // Unsigned state < 2^16, as a signed comparison of the upper half with zero.
  const __m256i low = _mm256_cmpeq_epi32(_mm256_srli_epi32(state, 16), _mm256_setzero_si256());
  const unsigned mask = unsigned(_mm256_movemask_ps(_mm256_castsi256_ps(low)));
  const __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m256i pick = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(kRefill.lane[mask])));
  const __m256i refilled = _mm256_or_si256(_mm256_slli_epi32(state, 16), _mm256_permutevar8x32_epi32(words, pick));
  state = _mm256_blendv_epi8(state, refilled, low);
  p += 2 * __builtin_popcount(mask);
  const __m256i bytes = _mm256_shuffle_epi8(entry, _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12, -1, -1, -1,
                                                                     -1, -1, -1, -1, -1, -1, -1, -1, -1));
  const uint64_t symbols = uint64_t(uint32_t(_mm256_cvtsi256_si32(bytes))) | uint64_t(uint32_t(_mm_cvtsi128_si32(_mm256_extracti128_si256(bytes, 1)))) << 32;
  std::memcpy(out, &symbols, 8);
  return state;
}

}  // namespace

#define KVREEL_VARIANT(name) name##_avx2
#include "rans_decode_loops.inl"
#undef KVREEL_VARIANT

namespace {

template <size_t N>
void encode_lockstep(const RansPlan& plan, const RansEncodeTable* tables, RansEncodeStream* streams, size_t stride, size_t tokens) noexcept {
  __m256i state[N];
  uint8_t* p[N];
  const uint8_t* symbols[N];
  for (size_t s = 0; s < N; s++) {
    const __m128i carried = _mm_loadu_si128(reinterpret_cast<const __m128i*>(streams[s].carried.byte));
    state[s] = _mm256_or_si256(_mm256_cvtepu16_epi32(carried), _mm256_set1_epi32(int(kRansLowBound)));
    p[s] = streams[s].out.data + streams[s].out.size;
    symbols[s] = streams[s].symbols;
  }
  for (size_t i = plan.order.size; i-- > 0;) {
    const size_t channel = plan.order[i];
    const int32_t own = plan.table_of_channel[channel], last = plan.last_table_of_channel == nullptr ? 0 : plan.last_table_of_channel[channel];
    if (last == 0) {
      const uint32_t* table = tables[own].symbol;
      for (size_t t = tokens; t > 0;) {
        t -= kRansLanes;
        for (size_t s = 0; s < N; s++) state[s] = encode_step(state[s], table, _mm256_setzero_si256(), symbols[s] + channel * stride + t, p[s]);
      }
      continue;
    }
    for (size_t t = tokens; t > 0;) {
      t -= kRansLanes;
      for (size_t s = 0; s < N; s++) {
        const __m256i offset = moved_tables<RansEncodeTable>(own, last, streams[s].table_shift + t);
        state[s] = encode_step(state[s], tables->symbol, offset, symbols[s] + channel * stride + t, p[s]);
      }
    }
  }
  for (size_t s = 0; s < N; s++) {
    p[s] -= 4 * kRansLanes;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p[s]), state[s]);
    streams[s].encoded = {p[s], size_t(streams[s].out.data + streams[s].out.size - p[s])};
  }
}

}  // namespace

void rans_encode_avx2(const RansPlan& plan, const RansEncodeTable* tables, Span<RansEncodeStream> streams, size_t stride, size_t tokens) noexcept {
  size_t s = 0;
  for (; s + 4 <= streams.size; s += 4) encode_lockstep<4>(plan, tables, streams.data + s, stride, tokens);
  for (; s < streams.size; s++) encode_lockstep<1>(plan, tables, streams.data + s, stride, tokens);
}

}  // namespace kvreel
