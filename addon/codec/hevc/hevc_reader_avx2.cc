// The fast reader. Same result as hevc_reader.cc; two pictures go side by side through everything that is a row of context
// bins (a decoder is one long chain of dependent steps, and two of them fill the gaps of each other), and bypass bins are
// taken many at a time: they are the quotient of the window by the range, found with a reciprocal.
#include <immintrin.h>

#include <cstring>

#include "hevc_picture.h"
#include "hevc_tables.h"

namespace kvreel {
namespace {

#define KVREEL_INLINE inline __attribute__((always_inline))

// A context of our own that decodes nothing, for the picture that has fewer bins: pStateIdx 63 with valMps 1, which no real
// context uses, has an empty LPS here.
constexpr uint8_t kNothing = kHevcContexts;
constexpr uint8_t kNothingState = 127;

constexpr int kRangeShift = 55;
constexpr uint64_t kLpsMask = uint64_t{255} << kRangeShift;

// By state: bits 62..31 the four LPS ranges by q = 0..3 from the top; bits 8..0 the bin << 8 | next state after the more
// probable symbol, bits 24..16 after the other.
struct DecodeWords {
  uint64_t of[128];
};
constexpr DecodeWords make_decode_words() noexcept {
  DecodeWords words = {};
  for (unsigned state = 0; state < 128; state++) {
    uint64_t word = 0;
    for (int q = 0; q < 4; q++) word |= uint64_t{state == kNothingState ? uint8_t{0} : kHevcRangeLps[state >> 1][q]} << (kRangeShift - 8 * q);
    const unsigned mps = state & 1;
    const uint64_t after_mps = state == kNothingState ? state : mps << 8 | hevc_after_mps(uint8_t(state));
    const uint64_t after_lps = (mps ^ 1) << 8 | hevc_after_lps(uint8_t(state));
    words.of[state] = word | after_mps | after_lps << 16;
  }
  return words;
}
alignas(64) constexpr DecodeWords kDecodeWords = make_decode_words();

// ceil(2^40 / range) for the ranges 256 to 511: exact quotients of 31-bit numbers.
constexpr int kBypassBins = 22;
constexpr int kReciprocalShift = 40;
struct Reciprocals {
  uint64_t of[256];
};
constexpr Reciprocals make_reciprocals() noexcept {
  Reciprocals reciprocals = {};
  for (uint64_t i = 0; i < 256; i++) reciprocals.of[i] = ((uint64_t{1} << kReciprocalShift) + 255 + i) / (256 + i);
  return reciprocals;
}
constexpr Reciprocals kReciprocals = make_reciprocals();

// coeff_abs_level_remaining by [rice][ones in the prefix]: the value at which the suffix starts, and the suffix' length.
// Prefixes that none of our values has give a value that is refused.
struct Remaining {
  uint16_t base;
  uint16_t suffix;
};
struct RemainingTable {
  Remaining of[5][kBypassBins + 1];
};
constexpr RemainingTable make_remaining_table() noexcept {
  RemainingTable table = {};
  for (unsigned rice = 0; rice < 5; rice++) {
    for (unsigned ones = 0; ones <= kBypassBins; ones++) {
      Remaining& entry = table.of[rice][ones];
      if (ones < 4) {
        entry = {uint16_t(ones << rice), uint16_t(rice)};
      } else if (ones < 10) {
        entry = {uint16_t(((1u << (ones - 3)) + 2) << rice), uint16_t(ones - 3 + rice)};
      } else {
        entry = {1024, 0};
      }
    }
  }
  return table;
}
constexpr RemainingTable kRemaining = make_remaining_table();
constexpr unsigned kRiceLimit[5] = {3, 6, 12, 24, 0xffffffffu};

// The arithmetic decoder without its contexts; see CabacDecoder.
struct Engine {
  uint64_t value;
  uint64_t range = uint64_t{510} << kRangeShift;
  uint64_t waiting = 47;  // bits below ivlOffset; the bits below those may be there, too, and are then loaded again
  const uint8_t* next;

  explicit Engine(const uint8_t* data) noexcept : value(load(data)), next(data + 7) {}

  static KVREEL_INLINE uint64_t load(const uint8_t* p) noexcept {
    uint64_t bytes;
    std::memcpy(&bytes, p, 8);
    return __builtin_bswap64(bytes);
  }

  // 48 bits at least are waiting after it: enough for eight context bins of at most six bits.
  KVREEL_INLINE void refill() noexcept {
    value |= load(next) >> 1 >> (8 + waiting);
    const uint64_t bytes = (55 - waiting) >> 3;
    next += bytes;
    waiting += bytes * 8;
  }

  // Returns bin << 8 | next state.
  KVREEL_INLINE unsigned step(unsigned state) noexcept {
    const uint64_t word = kDecodeWords.of[state];
    uint64_t lps = word << (range >> 58 & 24) & kLpsMask;
    uint64_t rest = range - lps;
    uint64_t less = value - rest;
    uint64_t mps_result = word & 0x1ff;
    const uint64_t lps_result = word >> 16 & 0x1ff;
    // value >= rest: the less probable symbol. Which it is cannot be predicted, and compilers make a branch of it.
    asm("cmp %[rest], %[value]\n\t"
        "cmovae %[less], %[value]\n\t"
        "cmovae %[lps], %[rest]\n\t"
        "cmovae %[lps_result], %[mps_result]"
        : [value] "+r"(value), [rest] "+r"(rest), [mps_result] "+r"(mps_result)
        : [less] "r"(less), [lps] "r"(lps), [lps_result] "r"(lps_result)
        : "cc");
    const unsigned shift = unsigned(__builtin_clzll(rest));
    range = rest << shift;
    value <<= shift;
    waiting -= shift;
    return unsigned(mps_result);
  }

  KVREEL_INLINE unsigned decode(uint16_t* states, unsigned context) noexcept {
    const unsigned result = step(states[context]);
    states[context] = uint16_t(result & 255);
    return result >> 8;
  }

  // The next kBypassBins bypass bins, the first one highest; none is taken. Needs as many bits waiting.
  KVREEL_INLINE uint64_t peek() const noexcept {
    return ((value >> (64 - 9 - kBypassBins)) * kReciprocals.of[(range >> kRangeShift) - 256]) >> kReciprocalShift;
  }

  // Takes the first `count` of the bins that peek() gave.
  KVREEL_INLINE void take(uint64_t bins, unsigned count) noexcept {
    value = (value << count) - (bins >> (kBypassBins - count)) * range;
    waiting -= count;
  }
};

struct Lane {
  Engine engine;
  uint16_t states[kHevcContexts + 1];
  const uint8_t* start;
  const uint8_t* end;
  bool any[3];

  explicit Lane(const HevcPictureData& picture) noexcept : engine(picture.data), start(picture.data), end(picture.data + picture.size) {
    for (int i = 0; i < kHevcContexts; i++) states[i] = kHevcInitialStates.of[i];
    states[kNothing] = kNothingState;
  }

  unsigned code(unsigned context) noexcept {
    engine.refill();
    return engine.decode(states, context);
  }

  unsigned bypass(unsigned count) noexcept {
    if (count == 0) return 0;
    engine.refill();
    const uint64_t bins = engine.peek();
    engine.take(bins, count);
    return unsigned(bins >> (kBypassBins - count));
  }

  unsigned terminate() noexcept {
    engine.refill();
    engine.range -= uint64_t{2} << kRangeShift;
    if (engine.value >= engine.range) return 1;
    const int shift = __builtin_clzll(engine.range);
    engine.range <<= shift;
    engine.value <<= shift;
    engine.waiting -= unsigned(shift);
    return 0;
  }

  bool is_overrun() const noexcept { return engine.next > end + 8; }

  // After terminate() == 1: the last bit taken is the stop bit, and only zeros up to a byte follow it.
  bool ends_here() const noexcept {
    const size_t bits = size_t(engine.next - start) * 8 - size_t(engine.waiting);
    const size_t size = size_t(end - start);
    if ((bits + 7) / 8 != size) return false;
    const unsigned rest = unsigned(size * 8 - bits);
    return (start[size - 1] & ((2u << rest) - 1)) == 1u << rest;
  }

  // The flags before a block's first leaf. False if they are none of ours.
  bool block(unsigned skipped_neighbours, bool* skipped) noexcept {
    if (is_overrun() || code(kCtxSplitCu) != 0 || code(kCtxTransquantBypass) != 1) return false;
    *skipped = code(kCtxSkip + skipped_neighbours) != 0;
    if (*skipped) return true;
    if (code(kCtxPredMode) != 0 || code(kCtxPartMode) != 1 || code(kCtxMerge) != 1) return false;
    any[1] = code(kCtxCbfChroma) != 0;
    any[2] = code(kCtxCbfChroma) != 0;
    return true;
  }

  void leaf(bool coded[3]) noexcept {
    coded[1] = any[1] && code(kCtxCbfChroma + 1) != 0;
    coded[2] = any[2] && code(kCtxCbfChroma + 1) != 0;
    coded[0] = code(kCtxCbfLuma) != 0;
  }

  // last_sig_coeff_x and _y, as the number of the first value in order of coding that is not zero.
  template <bool kChroma>
  unsigned first_value(const uint8_t* order) noexcept {
    constexpr unsigned longest = kChroma ? 7 : 9;
    unsigned position[2];
    for (unsigned axis = 0; axis < 2; axis++) {
      const unsigned base = axis == 0 ? kCtxLastX : kCtxLastY;
      unsigned prefix = 0;
      while (prefix < longest && code(base + hevc_last_context(kChroma, prefix)) != 0) prefix++;
      position[axis] = prefix;
    }
    for (unsigned& p : position) p = hevc_last_base(p) + bypass(hevc_last_suffix_bits(p));
    const unsigned sub_block = order[(position[1] / 4) * 8 + position[0] / 4];
    const uint8_t* const inside = order + 64;
    return sub_block * 16 + inside[(position[1] % 4) * 4 + position[0] % 4];
  }
};

// Of one residual: where sub-blocks stand in the order of coding.
struct Order {
  uint8_t right[64];      // number of the sub-block to the right; kNoSubBlock at the edge
  uint8_t below[64];
  uint8_t number[64 + 16];  // of the sub-block at [y * 8 + x], then of the value in it at [y * 4 + x]
};
// The last sub-block in order is nobody's neighbour, so its bit is free to say "not coded".
constexpr uint8_t kNoSubBlock = 63;

Order make_order(const HevcResidual& residual) noexcept {
  Order order = {};
  std::memset(order.right, kNoSubBlock, sizeof order.right);
  std::memset(order.below, kNoSubBlock, sizeof order.below);
  for (int i = 0; i < residual.sub_blocks; i++) order.number[residual.sub_block_scan[i].y * 8 + residual.sub_block_scan[i].x] = uint8_t(i);
  for (int n = 0; n < 16; n++) order.number[64 + kHevcScan.of4[n].y * 4 + kHevcScan.of4[n].x] = uint8_t(n);
  const int side = residual.chroma ? 4 : 8;
  for (int i = 0; i < residual.sub_blocks; i++) {
    const HevcPoint at = residual.sub_block_scan[i];
    if (at.x + 1 < side) order.right[i] = order.number[at.y * 8 + at.x + 1];
    if (at.y + 1 < side) order.below[i] = order.number[(at.y + 1) * 8 + at.x];
  }
  return order;
}

// What is known of one sub-block of one picture while it is decoded. Masks have the first value in order of coding in bit 15.
struct SubBlock {
  unsigned around;        // coded neighbours
  bool may_infer;         // its flag was sent, so that sixteen zeros are impossible
  unsigned had_greater1;  // in the sub-block before
  uint32_t nonzero;
  uint32_t greater1;      // in the order of coding of the flags, the last in bit 0
  unsigned flags;         // how many
  unsigned greater2;
};

KVREEL_INLINE __m128i spread(uint32_t mask) noexcept {
  const __m128i bit = _mm_setr_epi8(char(128), 64, 32, 16, 8, 4, 2, 1, char(128), 64, 32, 16, 8, 4, 2, 1);
  const __m128i bytes = _mm_shuffle_epi8(_mm_cvtsi32_si128(int(mask)), _mm_setr_epi8(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0));
  return _mm_cmpeq_epi8(_mm_and_si128(bytes, bit), bit);
}

// Signs and what remains of the magnitudes; writes the values. Returns whether one is beyond int8.
KVREEL_INLINE bool bypass_part(Engine& e, const SubBlock& s, int8_t* values) noexcept {
  const unsigned total = unsigned(_mm_popcnt_u32(s.nonzero));
  const unsigned behind = total - s.flags;  // nonzero values without flags
  const uint32_t greater1 = _pdep_u32(s.greater1 << behind, s.nonzero);
  const uint32_t eight = _pdep_u32(((1u << s.flags) - 1) << behind, s.nonzero);
  const uint32_t first = s.greater1 != 0 ? 0x80000000u >> __builtin_clz(greater1) : 0;
  uint32_t more = (greater1 & ~first) | (s.greater2 != 0 ? first : 0) | (s.nonzero & ~eight);
  e.refill();
  uint64_t bins = e.peek();
  const uint32_t negative = _pdep_u32(uint32_t(bins >> (kBypassBins - total)), s.nonzero);
  const __m128i sign = spread(negative);
  const __m128i magnitude = _mm_sub_epi8(_mm_setzero_si128(), _mm_add_epi8(spread(s.nonzero), spread(greater1)));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(values), _mm_sub_epi8(_mm_xor_si128(magnitude, sign), sign));
  unsigned used = total;
  unsigned rice = 0;
  unsigned beyond = 0;
  while (more != 0) {
    const unsigned n = unsigned(__builtin_clz(more)) - 16;
    const uint32_t bit = 0x8000u >> n;
    more ^= bit;
    // Bins from the top of 64 bits, zeros behind them.
    uint64_t buffer = bins << (64 - kBypassBins) << used;
    unsigned ones = unsigned(__builtin_clzll(~buffer));
    Remaining entry = kRemaining.of[rice][ones];
    if (used + ones + 1 + entry.suffix > kBypassBins) {
      e.take(bins, used);
      e.refill();
      bins = e.peek();
      used = 0;
      buffer = bins << (64 - kBypassBins);
      ones = unsigned(__builtin_clzll(~buffer));
      entry = kRemaining.of[rice][ones];
      if (ones >= 10) return true;
    }
    const unsigned suffix = unsigned(buffer << (ones + 1) >> 1 >> (63 - entry.suffix));
    const unsigned taken = 1 + ((eight & bit) != 0) + ((first & bit) != 0);
    const unsigned value = taken + entry.base + suffix;
    const unsigned is_negative = (negative & bit) != 0;
    used += ones + 1 + entry.suffix;
    rice += value > kRiceLimit[rice];
    beyond |= value > 127 + is_negative;
    values[n] = int8_t((value ^ (0u - is_negative)) + is_negative);
  }
  e.take(bins, used);
  return beyond != 0;
}

// Significance flags from the `start`th on, greater1 and greater2 of one sub-block, or of two in lockstep.
template <bool kChroma, bool kLast, bool kTwo>
KVREEL_INLINE void context_part(Engine& a, Engine& b, uint16_t* states_a, uint16_t* states_b, SubBlock& sa, SubBlock& sb, unsigned start) noexcept {
  constexpr unsigned base = hevc_significance_context(kChroma, kLast);
  constexpr unsigned dc = kCtxSignificant + (kChroma ? 27 : 0);
  uint32_t nonzero_a = sa.nonzero;
  uint32_t nonzero_b = sb.nonzero;
  if (start == 0 && sa.around == 3 && (!kTwo || sb.around == 3)) {
    // One context for all: its state stays in a register.
    unsigned state_a = states_a[base + 2];
    unsigned state_b = kTwo ? states_b[base + 2] : 0u;
    for (int half = 0; half < 2; half++) {
      a.refill();
      if (kTwo) b.refill();
      for (int n = half; n < 8; n++) {
        const unsigned result_a = a.step(state_a);
        state_a = result_a & 255;
        nonzero_a = nonzero_a << 1 | result_a >> 8;
        if (kTwo) {
          const unsigned result_b = b.step(state_b);
          state_b = result_b & 255;
          nonzero_b = nonzero_b << 1 | result_b >> 8;
        }
      }
    }
    states_a[base + 2] = uint16_t(state_a);
    if (kTwo) states_b[base + 2] = uint16_t(state_b);
  } else {
    const uint8_t* const row_a = kHevcSignificance[sa.around];
    const uint8_t* const row_b = kHevcSignificance[sb.around];
    for (unsigned n = start; n < 15; n++) {
      if (n == start || n % 8 == 0) {
        a.refill();
        if (kTwo) b.refill();
      }
      nonzero_a = nonzero_a << 1 | a.decode(states_a, base + row_a[n]);
      if (kTwo) nonzero_b = nonzero_b << 1 | b.decode(states_b, base + row_b[n]);
    }
  }
  a.refill();
  if (kTwo) b.refill();
  if (start < 16) {
    // The last flag: not sent where it must be 1.
    const bool inferred_a = !kLast && sa.may_infer && nonzero_a == 0;
    const bool inferred_b = !kLast && sb.may_infer && nonzero_b == 0;
    const unsigned context = kLast ? dc : base + 2;
    nonzero_a = nonzero_a << 1 | a.decode(states_a, inferred_a ? kNothing : context) | inferred_a;
    if (kTwo) nonzero_b = nonzero_b << 1 | b.decode(states_b, inferred_b ? kNothing : context) | inferred_b;
  }
  sa.nonzero = nonzero_a;
  sb.nonzero = nonzero_b;

  const unsigned total_a = unsigned(_mm_popcnt_u32(nonzero_a));
  const unsigned total_b = kTwo ? unsigned(_mm_popcnt_u32(nonzero_b)) : 0;
  sa.flags = total_a < 8 ? total_a : 8;
  sb.flags = total_b < 8 ? total_b : 8;
  const unsigned flags = sa.flags > sb.flags ? sa.flags : sb.flags;
  const unsigned set_a = (kLast || kChroma ? 0u : 2u) + sa.had_greater1;
  const unsigned set_b = (kLast || kChroma ? 0u : 2u) + sb.had_greater1;
  const unsigned first_a = kCtxGreater1 + (kChroma ? 16u : 0u) + set_a * 4;
  const unsigned first_b = kCtxGreater1 + (kChroma ? 16u : 0u) + set_b * 4;
  uint32_t greater1_a = 0;
  uint32_t greater1_b = 0;
  for (unsigned i = 0; i < flags; i++) {
    const unsigned rising = i < 3 ? i + 1 : 3;
    if (i == 6) {
      a.refill();
      if (kTwo) b.refill();
    }
    const unsigned context_a = first_a + (greater1_a != 0 ? 0 : rising);
    greater1_a = greater1_a << 1 | a.decode(states_a, i < sa.flags ? context_a : kNothing);
    if (kTwo) {
      const unsigned context_b = first_b + (greater1_b != 0 ? 0 : rising);
      greater1_b = greater1_b << 1 | b.decode(states_b, i < sb.flags ? context_b : kNothing);
    }
  }
  // Bins of "nothing" are zeros behind the real ones.
  greater1_a >>= flags - sa.flags;
  if (kTwo) greater1_b >>= flags - sb.flags;
  sa.greater1 = greater1_a;
  sb.greater1 = greater1_b;
  sa.greater2 = sb.greater2 = 0;
  if ((greater1_a | greater1_b) != 0) {
    constexpr unsigned greater2 = kCtxGreater2 + (kChroma ? 4 : 0);
    sa.greater2 = a.decode(states_a, greater1_a != 0 ? greater2 + set_a : kNothing);
    if (kTwo) sb.greater2 = b.decode(states_b, greater1_b != 0 ? greater2 + set_b : kNothing);
  }
}

KVREEL_INLINE unsigned coded_around(const Order& order, uint64_t coded, int i) noexcept {
  return unsigned(coded >> order.right[i] & 1) | unsigned(coded >> order.below[i] & 1) << 1;
}

// The residual of one picture while it is decoded.
struct Residual {
  uint16_t* states;
  int8_t* values;
  const uint8_t* limit;    // of the bytes: beyond it there is nothing but padding
  unsigned first_value;    // 16 * sub-blocks where nothing is coded
  uint64_t coded;          // bit i: sub-block i in order
  unsigned had_greater1;
};

// Everything of one sub-block of one picture.
template <bool kChroma>
KVREEL_INLINE bool sub_block(Engine& e, Residual& r, SubBlock& s, int i, unsigned start) noexcept {
  SubBlock none = {};
  if (i == (kChroma ? 15 : 63)) {
    context_part<kChroma, true, false>(e, e, r.states, r.states, s, none, start);
  } else {
    context_part<kChroma, false, false>(e, e, r.states, r.states, s, none, start);
  }
  r.had_greater1 = s.greater1 != 0;
  return bypass_part(e, s, r.values + i * 16);
}

// Decodes what comes before the part that two pictures share: the first coded sub-block whole, as only some of its flags are
// sent, and of each later one the flag that says whether it is coded. Returns whether sub-block `i` is left to be decoded.
template <bool kChroma>
KVREEL_INLINE bool begin_sub_block(Engine& e, Residual& r, const Order& order, SubBlock& s, int i, bool* beyond) noexcept {
  const int first = int(r.first_value / 16);
  const bool is_last = i == (kChroma ? 15 : 63);
  if (i < first) return false;
  s = {coded_around(order, r.coded, i), !is_last, r.had_greater1, 0, 0, 0, 0};
  if (i == first) {
    s.may_infer = false;
    s.nonzero = 1;
    *beyond |= sub_block<kChroma>(e, r, s, i, r.first_value % 16 + 1);
    r.coded |= uint64_t{!is_last} << i;
    return false;
  }
  if (is_last) return true;
  e.refill();
  const bool is_coded = e.decode(r.states, kCtxSubBlock + 2u * kChroma + (s.around != 0)) != 0;
  r.coded |= uint64_t{is_coded} << i;
  if (!is_coded) std::memset(r.values + i * 16, 0, 16);
  return is_coded;
}

// The residual of one picture, or of two side by side. False where a value is beyond int8 or the bytes are at their end.
template <bool kChroma, bool kTwo>
__attribute__((noinline)) bool read_residual(Lane* lanes, const Residual* residuals, const Order& order) noexcept {
  constexpr int count = kChroma ? 16 : 64;
  // Copies whose address nobody has, so that they can live in registers.
  Engine a = lanes[0].engine;
  Engine b = lanes[kTwo].engine;
  Residual ra = residuals[0];
  Residual rb = residuals[kTwo];
  const unsigned first = (kTwo && rb.first_value < ra.first_value ? rb : ra).first_value / 16;
  bool beyond = false;
  std::memset(ra.values, 0, ra.first_value / 16 * 16);
  if (kTwo) std::memset(rb.values, 0, rb.first_value / 16 * 16);
  for (int i = int(first); i < count; i++) {
    if (a.next > ra.limit || (kTwo && b.next > rb.limit)) return false;
    SubBlock sa = {};
    SubBlock sb = {};
    const bool is_a = begin_sub_block<kChroma>(a, ra, order, sa, i, &beyond);
    const bool is_b = kTwo && begin_sub_block<kChroma>(b, rb, order, sb, i, &beyond);
    if (is_a && is_b) {
      if (i == count - 1) {
        context_part<kChroma, true, kTwo>(a, b, ra.states, rb.states, sa, sb, 0);
      } else {
        context_part<kChroma, false, kTwo>(a, b, ra.states, rb.states, sa, sb, 0);
      }
      ra.had_greater1 = sa.greater1 != 0;
      rb.had_greater1 = sb.greater1 != 0;
      beyond |= bypass_part(a, sa, ra.values + i * 16);
      beyond |= bypass_part(b, sb, rb.values + i * 16);
    } else if (is_a) {
      beyond |= sub_block<kChroma>(a, ra, sa, i, 0);
    } else if (is_b) {
      beyond |= sub_block<kChroma>(b, rb, sb, i, 0);
    }
    if (beyond) return false;
  }
  lanes[0].engine = a;
  if (kTwo) lanes[1].engine = b;
  return true;
}

template <bool kChroma, bool kTwo>
bool read_plane(Lane* lanes, const bool coded[2][3], int plane, int8_t* const values[2], const Order& order) noexcept {
  Residual residuals[2] = {};
  for (unsigned lane = 0; lane <= kTwo; lane++) {
    const unsigned first_value = coded[lane][plane] ? lanes[lane].first_value<kChroma>(order.number) : kChroma ? 256 : 1024;
    residuals[lane] = {lanes[lane].states, values[lane] + kHevcResiduals[plane].first_value, lanes[lane].end + 8, first_value, 0, 0};
  }
  return read_residual<kChroma, kTwo>(lanes, residuals, order);
}

template <bool kTwo>
bool read_pictures(HevcShape shape, const HevcPictureData* pictures) noexcept {
  const size_t columns = shape.width / 64u;
  const size_t blocks = hevc_picture_blocks(shape);
  const Order luma = make_order(kHevcResiduals[0]);
  const Order chroma = make_order(kHevcResiduals[1]);
  Lane lanes[2] = {Lane(pictures[0]), Lane(pictures[kTwo])};
  uint64_t skipped_above[2] = {0, 0};
  for (size_t block = 0; block < blocks; block++) {
    const size_t column = block % columns;
    bool skipped[2] = {true, true};
    for (unsigned lane = 0; lane <= kTwo; lane++) {
      uint64_t& above = skipped_above[lane];
      const unsigned left = column > 0 ? above >> (column - 1) & 1 : 0;
      if (!lanes[lane].block(left + unsigned(above >> column & 1), &skipped[lane])) return false;
      above = (above & ~(uint64_t{1} << column)) | uint64_t{skipped[lane]} << column;
    }
    for (int leaf = 0; leaf < 4; leaf++) {
      bool coded[2][3] = {};
      int8_t* values[2] = {nullptr, nullptr};
      for (unsigned lane = 0; lane <= kTwo; lane++) {
        values[lane] = pictures[lane].values + block * kHevcBlockValues + leaf * kHevcLeafValues;
        if (!skipped[lane]) lanes[lane].leaf(coded[lane]);
      }
      if (!read_plane<false, kTwo>(lanes, coded, 0, values, luma)) return false;
      if (!read_plane<true, kTwo>(lanes, coded, 1, values, chroma)) return false;
      if (!read_plane<true, kTwo>(lanes, coded, 2, values, chroma)) return false;
    }
    for (unsigned lane = 0; lane <= kTwo; lane++) {
      if (lanes[lane].terminate() != (block + 1 == blocks)) return false;
    }
  }
  return lanes[0].ends_here() && (!kTwo || lanes[1].ends_here());
}

}  // namespace

bool hevc_read_pictures_avx2(HevcShape shape, const HevcPictureData* pictures, unsigned count) noexcept {
  return count == 2 ? read_pictures<true>(shape, pictures) : read_pictures<false>(shape, pictures);
}

}  // namespace kvreel
