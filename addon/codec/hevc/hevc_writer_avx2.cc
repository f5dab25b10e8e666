// The fast writer. Same bytes as hevc_writer.cc, in two steps for each leaf of a block:
//  - build: each coded 4x4 sub-block becomes a record, a row of context numbers with a bin each, then bypass bins as one number.
//    No arithmetic coding yet, so everything comes from masks over 16 values.
//  - code: the records of two pictures run through two arithmetic coders side by side. A coder is one long chain of dependent
//    steps; two of them fill the gaps of each other (test/addon/hevc/hevc_bench.cc has what that buys).
#include <immintrin.h>

#include <cstring>

#include "hevc_picture.h"
#include "hevc_tables.h"

namespace kvreel {
namespace {

#define KVREEL_INLINE inline __attribute__((always_inline))

// Two contexts of our own: one that codes nothing, to fill the shorter of two records, and end_of_slice_segment_flag, which
// is a context bin of the fixed pStateIdx 63. Its state with valMps 1 is free and stands for "codes nothing".
constexpr uint8_t kNothing = kHevcContexts;
constexpr uint8_t kTerminate = kHevcContexts + 1;
constexpr uint8_t kTerminateState = 126;
constexpr uint8_t kNothingState = 127;

// The range is kept with its highest bit in bit 63, so that one leading-zero count renormalises it.
constexpr int kRangeShift = 55;
constexpr uint64_t kLpsMask = uint64_t{255} << kRangeShift;

// All that coding bin b in state s needs, in one word at [s << 1 | b]:
//  bit 63      1 for the more probable symbol
//  bits 62..31 the four LPS ranges by q = 0..3 from the top, inverted for the more probable symbol: range - lps is then
//              (range - 255) + (255 - lps), and the less probable one is 0 + lps, so that no selection stands in the chain
//  bits 7..0   next state << 1
struct CodeWords {
  uint64_t of[256];
};
constexpr CodeWords make_code_words() noexcept {
  constexpr uint8_t next_of_nothing = uint8_t(kNothingState << 1);
  CodeWords words = {};
  for (int state = 0; state < 128; state++) {
    for (int bin = 0; bin < 2; bin++) {
      const bool mps = state == kNothingState || (state & 1) == bin;
      uint64_t word = uint64_t{mps} << 63;
      for (int q = 0; q < 4; q++) {
        const uint64_t lps = state == kNothingState ? 0 : kHevcRangeLps[state >> 1][q];
        word |= (mps ? 255 - lps : lps) << (kRangeShift - 8 * q);
      }
      const uint8_t next = mps ? hevc_after_mps(uint8_t(state)) : hevc_after_lps(uint8_t(state));
      words.of[state << 1 | bin] = word | (state == kNothingState ? next_of_nothing : uint8_t(next << 1));
    }
  }
  return words;
}
alignas(64) constexpr CodeWords kCodeWords = make_code_words();

// One cache line.
struct alignas(64) Record {
  uint8_t bins[40];  // context | bin << 7 of each context bin; 32 used, room for stores of 8 at the end
  uint64_t bypass;   // the first bin in the highest of `bypass_count` bits
  uint32_t run;      // bins 1 to 16 once more, the first in bit 0, if they are a run
  uint8_t count;     // of context bins
  uint8_t bypass_count;
  uint8_t is_run;    // bins 1 to 16 have one context
};
constexpr int kRecordContexts = 32;
constexpr int kSubBlockContexts = 26;  // coded_sub_block_flag, 16 significance, 8 greater1, 1 greater2
constexpr size_t kLeafRecords = 1000;  // 96 sub-blocks with at most 8 records each, heads, the end

// What one sub-block's magnitudes beyond its flags cost: code << 8 | length by [rice][value].
struct RemainingCodes {
  uint32_t of[5][128];
};
constexpr RemainingCodes make_remaining_codes() noexcept {
  RemainingCodes codes = {};
  for (unsigned rice = 0; rice < 5; rice++) {
    for (unsigned value = 0; value < 128; value++) {
      uint32_t bits = 0;
      uint32_t length = 0;
      if (value >> rice < 4) {
        const unsigned prefix = value >> rice;
        bits = ((1u << prefix) - 1) << (rice + 1) | (value & ((1u << rice) - 1));
        length = prefix + 1 + rice;
      } else {
        unsigned rest = value - (4u << rice);
        unsigned order = rice + 1;
        unsigned ones = 4;
        for (; rest >= 1u << order; order++, ones++) rest -= 1u << order;
        bits = ((1u << ones) - 1) << (order + 1) | rest;
        length = ones + 1 + order;
      }
      codes.of[rice][value] = bits << 8 | length;
    }
  }
  return codes;
}
constexpr RemainingCodes kRemainingCodes = make_remaining_codes();

// A magnitude beyond this raises the Rice parameter; at 4 none does.
constexpr uint8_t kRiceLimit[5] = {3, 6, 12, 24, 255};

// Context numbers inside a set for eight greater1 flags, as bytes, by the flags.
struct Greater1Contexts {
  uint64_t of[256];
};
constexpr Greater1Contexts make_greater1_contexts() noexcept {
  Greater1Contexts contexts = {};
  for (int flags = 0; flags < 256; flags++) {
    uint64_t context = 1;
    for (int i = 0; i < 8; i++) {
      contexts.of[flags] |= context << (8 * i);
      if (flags >> i & 1) {
        context = 0;
      } else if (context > 0 && context < 3) {
        context++;
      }
    }
  }
  return contexts;
}
constexpr Greater1Contexts kGreater1Contexts = make_greater1_contexts();
constexpr uint64_t kEachByte = 0x0101010101010101u;

// Numbers in order of coding of the sub-blocks to the right and below; kNoSubBlock at the edge. The last sub-block in order
// is nobody's neighbour, so its bit is free to say "not coded".
constexpr uint8_t kNoSubBlock = 63;
struct Neighbours {
  uint8_t right[64];
  uint8_t below[64];
};
Neighbours make_neighbours(const HevcResidual& residual) noexcept {
  Neighbours neighbours;
  for (int i = 0; i < residual.sub_blocks; i++) {
    neighbours.right[i] = neighbours.below[i] = kNoSubBlock;
    const HevcPoint at = residual.sub_block_scan[i];
    for (uint8_t j = 0; j < i; j++) {
      const HevcPoint other = residual.sub_block_scan[j];
      if (other.x == at.x + 1 && other.y == at.y) neighbours.right[i] = j;
      if (other.x == at.x && other.y == at.y + 1) neighbours.below[i] = j;
    }
  }
  return neighbours;
}

KVREEL_INLINE __m128i load16(const int8_t* values) noexcept { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(values)); }

KVREEL_INLINE uint32_t zero_mask(__m128i v) noexcept { return uint32_t(_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128()))); }

// Bit i: 16 values from i * 16 are not all zero.
KVREEL_INLINE uint64_t coded_sub_blocks(const int8_t* values, int count) noexcept {
  uint64_t coded = 0;
  for (int i = 0; i < count; i++) {
    const __m128i v = load16(values + i * 16);
    coded |= uint64_t{!_mm_testz_si128(v, v)} << i;
  }
  return coded;
}

// Builds the records of one picture, leaf by leaf.
class Builder {
 public:
  explicit Builder(Record* records) noexcept : records_(records) {
    for (int plane = 0; plane < 2; plane++) neighbours_[plane] = make_neighbours(kHevcResiduals[plane]);
    start();
  }

  void start() noexcept {
    record_ = records_;
    clear();
  }

  // Closes what is open. Returns the number of records.
  size_t finish() noexcept {
    if (record_->count != 0) {
      join();
      record_++;
    }
    return size_t(record_ - records_);
  }

  // The flags before a block's first leaf. Remembers which planes of which leaves are coded. Returns whether any is.
  bool block(const int8_t* values, unsigned skipped_neighbours) noexcept {
    any_[1] = any_[2] = false;
    bool coded = false;
    for (int leaf = 0; leaf < 4; leaf++) {
      const int8_t* const v = values + leaf * kHevcLeafValues;
      coded_[leaf][0] = coded_sub_blocks(v, 64);
      coded_[leaf][1] = coded_sub_blocks(v + 1024, 16);
      coded_[leaf][2] = coded_sub_blocks(v + 1280, 16);
      any_[1] |= coded_[leaf][1] != 0;
      any_[2] |= coded_[leaf][2] != 0;
      coded |= (coded_[leaf][0] | coded_[leaf][1] | coded_[leaf][2]) != 0;
    }
    add(kCtxSplitCu, 0);
    add(kCtxTransquantBypass, 1);
    add(uint8_t(kCtxSkip + skipped_neighbours), !coded);
    if (!coded) return false;
    add(kCtxPredMode, 0);
    add(kCtxPartMode, 1);
    add(kCtxMerge, 1);
    add(kCtxCbfChroma, any_[1]);
    add(kCtxCbfChroma, any_[2]);
    return true;
  }

  void leaf(const int8_t* values, int leaf) noexcept {
    need(3);
    if (any_[1]) add(kCtxCbfChroma + 1, coded_[leaf][1] != 0);
    if (any_[2]) add(kCtxCbfChroma + 1, coded_[leaf][2] != 0);
    add(kCtxCbfLuma, coded_[leaf][0] != 0);
    if (coded_[leaf][0] != 0) residual<false>(values, coded_[leaf][0]);
    if (coded_[leaf][1] != 0) residual<true>(values + 1024, coded_[leaf][1]);
    if (coded_[leaf][2] != 0) residual<true>(values + 1280, coded_[leaf][2]);
  }

  void end_of_slice(bool last) noexcept {
    need(1);
    add(kTerminate, last);
  }

 private:
  KVREEL_INLINE void clear() noexcept {
    std::memset(record_->bins, kNothing, sizeof record_->bins);
    record_->bypass = 0;
    record_->count = 0;
    record_->bypass_count = 0;
    record_->is_run = 0;
    bins_ = 0;
  }

  // Puts the bins beside their contexts.
  KVREEL_INLINE void join() noexcept {
    const __m256i places = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bits = _mm256_set1_epi64x(int64_t(0x8040201008040201u));
    const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(int(bins_)), places);
    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bits), bits);
    __m256i* const row = reinterpret_cast<__m256i*>(record_->bins);
    _mm256_store_si256(row, _mm256_or_si256(_mm256_load_si256(row), _mm256_and_si256(set, _mm256_set1_epi8(char(128)))));
  }

  KVREEL_INLINE void next() noexcept {
    join();
    record_++;
    clear();
  }

  KVREEL_INLINE void need(int contexts) noexcept {
    if (record_->count + contexts > kRecordContexts) next();
  }

  KVREEL_INLINE void add(uint8_t context, unsigned bin) noexcept {
    record_->bins[record_->count] = context;
    bins_ |= bin << record_->count;
    record_->count++;
  }

  void last_position(const HevcResidual& residual, bool chroma, int first) noexcept {
    const HevcPoint corner = residual.sub_block_scan[first / 16];
    const HevcPoint inside = kHevcScan.of4[first % 16];
    const unsigned position[2] = {corner.x * 4u + inside.x, corner.y * 4u + inside.y};
    const unsigned longest = chroma ? 7 : 9;
    need(18);
    for (int axis = 0; axis < 2; axis++) {
      const unsigned prefix = hevc_last_prefix(position[axis]);
      const unsigned base = axis == 0 ? kCtxLastX : kCtxLastY;
      for (unsigned bin = 0; bin < prefix; bin++) add(uint8_t(base + hevc_last_context(chroma, bin)), 1);
      if (prefix < longest) add(uint8_t(base + hevc_last_context(chroma, prefix)), 0);
      const unsigned bits = hevc_last_suffix_bits(prefix);
      record_->bypass = record_->bypass << bits | (position[axis] - hevc_last_base(prefix));
      record_->bypass_count = uint8_t(record_->bypass_count + bits);
    }
    next();
  }

  template <bool kChroma>
  void residual(const int8_t* values, uint64_t coded) noexcept {
    const HevcResidual& residual = kHevcResiduals[kChroma];
    constexpr int count = kChroma ? 16 : 64;
    const int first = int(__builtin_ctzll(coded));
    const int first_value = first * 16 + int(__builtin_ctz(~zero_mask(load16(values + first * 16))));
    last_position(residual, kChroma, first_value);
    const Neighbours& neighbours = neighbours_[kChroma];
    const uint64_t context_map = coded & ~(uint64_t{1} << (count - 1));
    bool had_greater1 = false;
    for (int i = first; i < count; i++) {
      const unsigned around = unsigned(context_map >> neighbours.right[i] & 1) | unsigned(context_map >> neighbours.below[i] & 1) << 1;
      const bool is_last = i == count - 1;
      const bool is_first = i == first;
      if (!is_last && !is_first) {
        const unsigned is_coded = unsigned(coded >> i & 1);
        need(is_coded ? kSubBlockContexts : 1);
        add(uint8_t(kCtxSubBlock + 2 * kChroma + (around != 0)), is_coded);
        if (!is_coded) continue;
        had_greater1 = sub_block<kChroma, false>(values + i * 16, around, 0, false, had_greater1);
      } else {
        need(kSubBlockContexts);
        const unsigned start = is_first ? unsigned(first_value) % 16 + 1 : 0;
        had_greater1 = is_last ? sub_block<kChroma, true>(values + i * 16, around, start, true, had_greater1)
                               : sub_block<kChroma, false>(values + i * 16, around, start, true, had_greater1);
      }
    }
  }

  // Everything of a coded sub-block behind its flag; significance from the `start`th value on. Returns whether any greater1 flag was 1.
  template <bool kChroma, bool kLast>
  KVREEL_INLINE bool sub_block(const int8_t* values, unsigned around, unsigned start, bool inferred, bool had_greater1) noexcept {
    const __m128i v = load16(values);
    const uint32_t nonzero = zero_mask(v) ^ 0xffff;
    const __m128i magnitude = _mm_abs_epi8(v);
    const uint32_t greater1 = uint32_t(_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_max_epu8(magnitude, _mm_set1_epi8(2)), magnitude)));
    Record& record = *record_;
    unsigned count = record.count;

    // Significance. The last flag is not sent if it must be 1.
    const unsigned flags = 16 - start - (!inferred && nonzero == 0x8000);
    const __m128i base = _mm_set1_epi8(char(hevc_significance_context(kChroma, kLast)));
    const __m128i contexts = _mm_add_epi8(base, load16(reinterpret_cast<const int8_t*>(kHevcSignificance[around])));
    alignas(16) uint8_t row[32];
    if (start == 0) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(record.bins + count), contexts);
    } else {
      _mm_store_si128(reinterpret_cast<__m128i*>(row), contexts);
      _mm_store_si128(reinterpret_cast<__m128i*>(row + 16), _mm_set1_epi8(char(kNothing)));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(record.bins + count), load16(reinterpret_cast<const int8_t*>(row + start)));
    }
    uint64_t bins = bins_ | uint64_t{nonzero >> start} << count;
    record.run = nonzero;
    record.is_run = !kLast && around == 3 && count == 1 && flags == 16;
    count += flags;
    if (kLast && flags > 0) record.bins[count - 1] = kCtxSignificant + (kChroma ? 27 : 0);
    if (kLast && nonzero == 0) {
      bins_ = uint32_t(bins);
      record.count = uint8_t(count);
      return had_greater1;
    }

    // greater1 and greater2. A store of 8 contexts, then what came too much is taken back.
    const uint32_t eight = _pdep_u32(255, nonzero);
    const uint32_t eight_greater1 = greater1 & eight;
    const uint32_t ones = _pext_u32(greater1, nonzero) & 255;
    const unsigned total = unsigned(_mm_popcnt_u32(nonzero));
    const unsigned set = (kLast || kChroma ? 0u : 2u) + had_greater1;
    const uint64_t greater1_contexts = kGreater1Contexts.of[ones] + kEachByte * (kCtxGreater1 + (kChroma ? 16u : 0u) + set * 4);
    std::memcpy(record.bins + count, &greater1_contexts, 8);
    // `bins` may reach beyond the flags where the inferred 1 is: clear it.
    bins = _bzhi_u64(bins, count) | uint64_t{ones} << count;
    count += total < 8 ? total : 8;
    const unsigned has_greater1 = eight_greater1 != 0;
    const uint32_t first_greater1 = eight_greater1 & (0u - eight_greater1);
    const uint32_t greater2 = uint32_t(_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_max_epu8(magnitude, _mm_set1_epi8(3)), magnitude)));
    const uint8_t greater2_context = uint8_t(kCtxGreater2 + (kChroma ? 4 : 0) + set);
    const uint64_t rest = kEachByte * kNothing ^ uint64_t{has_greater1 ? uint8_t(greater2_context ^ kNothing) : uint8_t{0}};
    std::memcpy(record.bins + count, &rest, 8);
    bins |= uint64_t{(first_greater1 & greater2) != 0} << count;
    count += has_greater1;
    bins_ = uint32_t(bins);
    record.count = uint8_t(count);

    // Signs, first coded highest, so from the reversed vector; then what remains of the magnitudes.
    const __m128i reversed = _mm_shuffle_epi8(v, _mm_setr_epi8(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
    uint64_t bypass = _pext_u32(uint32_t(_mm_movemask_epi8(reversed)), zero_mask(reversed) ^ 0xffff);
    unsigned bypass_count = total;
    uint32_t more = (eight_greater1 & ~first_greater1) | (first_greater1 & greater2) | (nonzero & ~eight);
    if (more != 0) {
      alignas(16) uint8_t of[16];
      _mm_store_si128(reinterpret_cast<__m128i*>(of), magnitude);
      unsigned rice = 0;
      do {
        const unsigned i = __builtin_ctz(more);
        more &= more - 1;
        const unsigned taken = 1 + (eight >> i & 1) + (first_greater1 >> i & 1);
        const uint32_t code = kRemainingCodes.of[rice][of[i] - taken];
        const unsigned length = code & 255;
        rice += of[i] > kRiceLimit[rice];
        if (bypass_count + length > 64) {
          close(bypass, bypass_count);
          bypass_count = 0;
        }
        bypass = bypass << length | code >> 8;
        bypass_count += length;
      } while (more != 0);
    }
    close(bypass, bypass_count);
    return has_greater1 != 0;
  }

  KVREEL_INLINE void close(uint64_t bypass, unsigned count) noexcept {
    record_->bypass = bypass;
    record_->bypass_count = uint8_t(count);
    next();
  }

  Record* records_;
  Record* record_ = nullptr;
  uint32_t bins_ = 0;  // of the open record, the first one in bit 0
  uint64_t coded_[4][3];
  bool any_[3];
  Neighbours neighbours_[2];
};

// What both coders look up, in one place, so that one register reaches it.
struct Tables {
  CodeWords words = kCodeWords;
  uint16_t states[2][128];  // state << 1 of each context; not bytes, which the compiler would take for anything's

  Tables() noexcept {
    for (auto& row : states) {
      for (int i = 0; i < kHevcContexts; i++) row[i] = uint16_t(kHevcInitialStates.of[i] << 1);
      row[kNothing] = kNothingState << 1;
      row[kTerminate] = kTerminateState << 1;
    }
  }
};

// An arithmetic coder, as CabacEncoder, with the range at the top of its word. It starts one byte early with seven zero bits
// pending: with the bit that the standard drops they make a zero byte, which is in nobody's way.
struct Coder {
  uint64_t low = 0;
  uint64_t range = uint64_t{510} << kRangeShift;
  uint64_t pending = 7;
  uint8_t* out;

  explicit Coder(uint8_t* start) noexcept : out(start - 1) {}

  KVREEL_INLINE void code_word(uint64_t word) noexcept {
    const uint64_t mps = uint64_t(int64_t(word) >> 63);
    const uint64_t next = ((range - kLpsMask) & mps) + (word << (range >> 58 & 24) & kLpsMask);
    low += ((range - next) & ~mps) >> kRangeShift;
    const unsigned shift = unsigned(__builtin_clzll(next));
    range = next << shift;
    low <<= shift;
    pending += shift;
  }

  // One byte of Record::bins.
  KVREEL_INLINE void code(const CodeWords& words, uint16_t* states, uint8_t bin) noexcept {
    uint16_t& state = states[bin & 127];
    const uint64_t word = words.of[state | bin >> 7];
    state = uint16_t(word & 255);
    code_word(word);
  }

  KVREEL_INLINE void bypass(uint64_t bins, unsigned count) noexcept {
    low = (low << count) + (range >> kRangeShift) * bins;
    pending += count;
  }

  KVREEL_INLINE void flush() noexcept {
    if (pending < 32) return;
    pending -= 32;
    const uint64_t bits = low >> (pending + 10);
    low = _bzhi_u64(low, pending + 10);
    if (bits >> 32 != 0) {
      uint8_t* p = out;
      do {
        p--;
      } while (++*p == 0);
    }
    const uint32_t bytes = __builtin_bswap32(uint32_t(bits));
    std::memcpy(out, &bytes, 4);
    out += 4;
  }

  ptrdiff_t bits(const uint8_t* start) const noexcept { return (out - start) * 8 + ptrdiff_t(pending); }

  uint8_t* finish() noexcept {
    flush();
    uint64_t rest = low >> 7 | 1;
    unsigned count = unsigned(pending) + 3;
    const unsigned padding = (0u - count) & 7;
    rest <<= padding;
    count += padding;
    if (rest >> count & 1) {
      uint8_t* p = out;
      do {
        p--;
      } while (++*p == 0);
    }
    while (count > 0) {
      count -= 8;
      *out++ = uint8_t(rest >> count);
    }
    return out;
  }
};

// So many bypass bins may follow on 31 pending bits: with the 10 bits of ivlLow and a carry they fill the 64. Three steps empty any record.
constexpr unsigned kBypassStep = 22;

template <bool kTwo>
KVREEL_INLINE void flush(Coder& a, Coder& b) noexcept {
  if ((a.pending | (kTwo ? b.pending : 0)) < 32) return;
  a.flush();
  if (kTwo) b.flush();
}

// Sixteen significance flags in one context each, with its state in a register.
template <bool kTwo>
KVREEL_INLINE void code_run(Tables& tables, Coder& a, Coder& b, const Record& ra, const Record& rb) noexcept {
  uint16_t& state_a = tables.states[0][ra.bins[1] & 127];
  uint16_t& state_b = tables.states[1][rb.bins[1] & 127];
  uint64_t sa = state_a;
  uint64_t sb = state_b;
  uint64_t bins_a = ra.run;
  uint64_t bins_b = rb.run;
  for (int i = 0; i < 16; i++) {
    const uint64_t word_a = tables.words.of[sa | (bins_a & 1)];
    sa = word_a & 255;
    bins_a >>= 1;
    a.code_word(word_a);
    if (kTwo) {
      const uint64_t word_b = tables.words.of[sb | (bins_b & 1)];
      sb = word_b & 255;
      bins_b >>= 1;
      b.code_word(word_b);
    }
    flush<kTwo>(a, b);
  }
  state_a = uint16_t(sa);
  if (kTwo) state_b = uint16_t(sb);
}

template <bool kTwo>
void code_records(Tables& tables, Coder* coders, const Record* const records[2], const size_t counts[2]) noexcept {
  alignas(64) static const Record nothing = [] {
    Record record = {};
    std::memset(record.bins, kNothing, sizeof record.bins);
    return record;
  }();
  // Copies whose address nobody has, so that they can live in registers.
  Coder a = coders[0];
  Coder b = coders[kTwo];
  const Record* next_a = records[0];
  const Record* next_b = records[kTwo];
  const Record* const end_a = next_a + counts[0];
  const Record* const end_b = next_b + (kTwo ? counts[1] : 0);
  while (next_a != end_a || next_b != end_b) {
    const Record& ra = next_a != end_a ? *next_a++ : nothing;
    const Record& rb = next_b != end_b ? *next_b++ : nothing;
    const int contexts = kTwo && rb.count > ra.count ? rb.count : ra.count;
    int i = 0;
    if (ra.is_run && (!kTwo || rb.is_run)) {
      a.code(tables.words, tables.states[0], ra.bins[0]);
      if (kTwo) b.code(tables.words, tables.states[1], rb.bins[0]);
      flush<kTwo>(a, b);
      code_run<kTwo>(tables, a, b, ra, rb);
      i = 17;
    }
    for (; i < contexts; i++) {
      a.code(tables.words, tables.states[0], ra.bins[i]);
      if (kTwo) b.code(tables.words, tables.states[1], rb.bins[i]);
      flush<kTwo>(a, b);
    }
    uint64_t bypass_a = ra.bypass;
    uint64_t bypass_b = rb.bypass;
    unsigned left_a = ra.bypass_count;
    unsigned left_b = kTwo ? rb.bypass_count : 0;
    while ((left_a | left_b) != 0) {
      const unsigned step_a = left_a < kBypassStep ? left_a : kBypassStep;
      left_a -= step_a;
      a.bypass(_bzhi_u64(bypass_a >> left_a, step_a), step_a);
      if (kTwo) {
        const unsigned step_b = left_b < kBypassStep ? left_b : kBypassStep;
        left_b -= step_b;
        b.bypass(_bzhi_u64(bypass_b >> left_b, step_b), step_b);
      }
      flush<kTwo>(a, b);
      if ((left_a | left_b) != 0) continue;
      // What one record did not hold is in the next ones, which have no context bins. Taking them here keeps the sub-blocks
      // of both pictures side by side.
      if (next_a != end_a && next_a->count == 0) {
        bypass_a = next_a->bypass;
        left_a = next_a++->bypass_count;
      }
      if (kTwo && next_b != end_b && next_b->count == 0) {
        bypass_b = next_b->bypass;
        left_b = next_b++->bypass_count;
      }
    }
  }
  coders[0] = a;
  if (kTwo) coders[1] = b;
}

template <bool kTwo>
void write_pictures(HevcShape shape, HevcPictureValues* pictures, Record* scratch) noexcept {
  constexpr unsigned lanes = kTwo ? 2 : 1;
  const size_t columns = shape.width / 64u;
  const size_t blocks = hevc_picture_blocks(shape);
  Record* const records[2] = {scratch, scratch + kLeafRecords};
  Builder builders[2] = {Builder(records[0]), Builder(records[1])};
  Tables tables;
  Coder coders[2] = {Coder(pictures[0].out), Coder(pictures[lanes - 1].out)};
  uint64_t skipped_above[2] = {0, 0};
  for (size_t block = 0; block < blocks; block++) {
    const size_t column = block % columns;
    bool coded[2];
    for (int leaf = 0; leaf < 4; leaf++) {
      size_t counts[2] = {0, 0};
      for (unsigned lane = 0; lane < lanes; lane++) {
        const int8_t* const values = pictures[lane].values + block * kHevcBlockValues;
        Builder& builder = builders[lane];
        builder.start();
        if (leaf == 0) {
          uint64_t& above = skipped_above[lane];
          const unsigned left = column > 0 ? above >> (column - 1) & 1 : 0;
          coded[lane] = builder.block(values, left + unsigned(above >> column & 1));
          above = (above & ~(uint64_t{1} << column)) | uint64_t{!coded[lane]} << column;
        }
        if (coded[lane]) builder.leaf(values + leaf * kHevcLeafValues, leaf);
        if (leaf == 3) builder.end_of_slice(block + 1 == blocks);
        counts[lane] = builder.finish();
      }
      code_records<kTwo>(tables, coders, records, counts);
    }
    for (unsigned lane = 0; lane < lanes; lane++) {
      // Beyond its limit: refused as a whole, and the other picture with it, as the stream is.
      if (coders[lane].bits(pictures[lane].out) > hevc_picture_limit_bits(blocks)) return;
    }
  }
  for (unsigned lane = 0; lane < lanes; lane++) pictures[lane].written = size_t(coders[lane].finish() - pictures[lane].out);
}

}  // namespace

static_assert(kTerminate < 128, "a context and its bin must fit a byte");
static_assert(2 * kLeafRecords * sizeof(Record) + 64 <= kHevcWriterScratch, "the scratch must hold the records of two leaves");

void hevc_write_pictures_avx2(HevcShape shape, HevcPictureValues* pictures, unsigned count, uint8_t* scratch) noexcept {
  Record* const records = reinterpret_cast<Record*>((reinterpret_cast<uintptr_t>(scratch) + 63) & ~uintptr_t{63});
  for (unsigned i = 0; i < count; i++) pictures[i].written = 0;
  if (count == 2) {
    write_pictures<true>(shape, pictures, records);
  } else {
    write_pictures<false>(shape, pictures, records);
  }
}

}  // namespace kvreel
