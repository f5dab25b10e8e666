// A group of tokens of one layer between integers and what a coder carries: symbols of eight bits, and beside them the raw low bits of wide
// channels, the few values that do not fit (escapes), and the tokens that are kept exact.
#pragma once

#include "quantized.h"

namespace kvreel {

// A symbol is q, less its raw low bits, plus 128. 0 stands for an escape.
constexpr int32_t kSymbolZero = 128;
constexpr uint8_t kSymbolEscape = 0;

// How many low bits each token of each row sends raw. Rows differ only in `low_bits`: each level is worked out when a group first asks.
class LowBits {
 public:
  static constexpr int32_t kMost = 14;  // a value at most

  Status resize(size_t tokens) noexcept;
  // For tokens [token_begin, token_begin + tokens) of a layer.
  void prepare(const QuantizedModel& model, const KvShape& shape, uint32_t layer, size_t token_begin, size_t tokens) noexcept;

  struct Level {
    const uint64_t* masks;   // [token / 4]: the low bits of each of four 16-bit lanes
    const uint16_t* factor;  // [token]: 2^bits
    const uint16_t* half;    // [token]: 2^(bits - 1), or 0
    const uint16_t* width;   // [token]: bits
  };
  // Of the whole row.
  size_t bits(const QuantizedRow& row, bool is_key) const noexcept {
    const int32_t low_bits = row.low_bits < kLowest ? kLowest - 1 : row.low_bits < kHighest ? row.low_bits : kHighest;
    return row_bits_[is_key][low_bits - (kLowest - 1)];
  }
  // Null where no token of the row sends any.
  const Level* level(const QuantizedRow& row, bool is_key) noexcept {
    if (row.low_bits + largest_code_[is_key] <= 0) return nullptr;
    const int32_t low_bits = row.low_bits < kHighest ? row.low_bits : kHighest;
    Level& level = levels_[is_key][low_bits - kLowest];
    if (level.masks == nullptr) work_out(&level, low_bits, is_key);
    return &level;
  }

 private:
  static constexpr int32_t kLowest = 1 - kTokenCodeMax, kHighest = kMost - kTokenCodeMin, kLevels = kHighest - kLowest + 1;

  // Of a token whose code is `code`, in a row of K; 0 for V.
  static uint32_t token_bits(int32_t low_bits, int32_t code) noexcept {
    const int32_t wanted = low_bits + code;
    return uint32_t(wanted < 0 ? 0 : wanted < kMost ? wanted : kMost);
  }
  void work_out(Level* level, int32_t low_bits, bool is_key) noexcept;

  size_t tokens_ = 0;
  const int8_t* key_codes_ = nullptr;
  int32_t largest_code_[2] = {};   // [is_key]; V's tokens do not move its low bits
  uint32_t row_bits_[2][kLevels + 1] = {};  // [is_key][low_bits - (kLowest - 1)]
  Level levels_[2][kLevels] = {};  // [is_key][low_bits - kLowest]; no masks until it is worked out
  Buffer<uint64_t> masks_;
  Buffer<uint16_t> factors_;
};

// What one layer's group needs to be taken apart and put together again; one for each worker.
struct GroupScratch {
  LowBits low_bits;
  Buffer<int16_t> q;        // [row][token]
  Buffer<float> floats;     // [row of a head][token]
  Buffer<float> factors;    // four of [token]
  Buffer<uint16_t> upper, lower;
  Buffer<uint8_t> side;     // bytes beside the symbols, with room for loads and stores past the end
  Status resize(const KvShape& shape, size_t tokens) noexcept;
};

// The rows of a layer that is being coded, and what belongs to them.
struct GroupContext {
  const KvShape& shape;  // of the whole chunk
  const QuantizedParameters& parameters;
  const QuantizedModel& model;
  const RowRotation& rotation;
  uint32_t layer;
  const QuantizedRow* rows;
};

// Bytes beside the symbols of a group, at most and as it is.
size_t side_bound(const KvShape& shape, size_t tokens) noexcept;
// Low bits and exact tokens only: escapes come on top, two bytes each. `low_bits` is prepared.
size_t side_bytes(const GroupContext& context, LowBits& low_bits, size_t token_begin, size_t tokens) noexcept;

// q -> symbols, for all rows of a group: symbols[row * stride + token]. Returns the number of escapes. `low_bits` is prepared.
size_t group_symbols(const GroupContext& context, LowBits& low_bits, const int16_t* q, size_t q_stride, size_t tokens, uint8_t* symbols,
                     size_t stride) noexcept;
// Writes what goes beside the symbols and returns its length. `upper`, `lower` are the original elements (of 32-bit ones both are read).
size_t write_side(const GroupContext& context, LowBits& low_bits, const int16_t* q, const uint16_t* upper, const uint16_t* lower, size_t q_stride,
                  const uint8_t* symbols, size_t stride, size_t token_begin, size_t tokens, uint8_t* out) noexcept;
// Symbols ([row][token], without gaps) and side bytes -> elements, into the sink as tokens from `sink_token` of `sink_layer`. `side` may be read 8 bytes past its end.
Status restore_group(const GroupContext& context, const uint8_t* symbols, ConstBytes side, size_t token_begin, size_t tokens, GroupScratch* scratch,
                     RowSink* sink, uint32_t sink_layer, size_t sink_token, uint32_t worker) noexcept;

// Elements of a layer as floats, K un-rotated: [row][token], as the elements.
void load_floats(const GroupContext& context, const uint16_t* upper, const uint16_t* lower, size_t token_begin, size_t tokens, float* floats) noexcept;
// Floats -> q for tokens from `token_begin`; tokens that are kept exact become 0. `factors` holds four of [tokens].
void quantize_group(const GroupContext& context, const float* floats, size_t token_begin, size_t tokens, float* factors, int16_t* q) noexcept;

// Low bits of one row, four tokens at a time: exposed for the vector twins and their test. Both move *bit on by the level's bits.
// add_low_row turns q without its low bits into q.
void pack_low_row(const int16_t* q, size_t tokens, const LowBits::Level& level, uint8_t* out, size_t* bit) noexcept;
void add_low_row(const uint8_t* in, size_t tokens, const LowBits::Level& level, int16_t* q, size_t* bit) noexcept;
#if defined(KVREEL_AVX2)
void pack_low_row_bmi2(const int16_t* q, size_t tokens, const LowBits::Level& level, uint8_t* out, size_t* bit) noexcept;
void add_low_row_bmi2(const uint8_t* in, size_t tokens, const LowBits::Level& level, int16_t* q, size_t* bit) noexcept;
#endif

}  // namespace kvreel
