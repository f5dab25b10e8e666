// Quantised planes: the one set of small integers that the coders `rans` and `hevc` carry.
//
// K is un-rotated first where its RoPE parameters are known: without the rotation a channel's values have one mean and one scale.
// Then, for channel c and token t of a plane,
//
//     value = mean[c] * step[c] + q * step[c] * tau[t]
//
// with integers mean and q, and steps that are powers of 2^(1/8), so that both ends compute the same floats:
//  - scale[c], in quarter octaves, is the channel's spread; code[t], in half octaves, the token's norm against the median token's.
//  - V: the step is the same for all channels of a layer and grows with the token's norm: its error is read relative to the token.
//  - K: the step shrinks with the token's norm (attention looks hardest at large keys), falls slowly with the channel's spread, and is
//    coarser for the channels that RoPE turns fastest. It is absolute, not relative to the layer: softmax sees absolute errors.
//  - The first token of a sequence is an attention sink, whose error the model feels far more than any other's: it is kept exact.
// The constants were fitted on two small models; docs/codecs.md has the measurements.
#pragma once

#include "chunk.h"
#include "rans.h"
#include "rotary.h"
#include "row_sink.h"

namespace kvreel {

// What is chosen for a chunk before it is looked at.
struct QuantizedParameters {
  int32_t gain_eighths;  // log2 of the rung's step, in 1/8 octaves
  uint32_t start;        // absolute position of the first token
  uint32_t rotary_dims;  // 0 where K is not to be un-rotated
  RotaryStyle rotary_style;
  Span<const double> thetas;  // none, one, or one a layer
};

constexpr int32_t kTokenCodeMin = -8, kTokenCodeMax = 7;  // half octaves
constexpr int32_t kClassMin = -12;                        // quarter octaves of spread / step; below it nearly every q is 0

// Low bits of wide channels travel raw beside the coder, so that what it sees has a spread of at most 2^(cap / 4): the cap of hevc, and
// the one of rans for a rung. Raw bits fill the rANS states, which else carry nothing, and make tables short, which counts where a value
// takes two bits; but they cost time, and finer rungs have many.
constexpr int32_t kClassCapHevc = 4;
constexpr int32_t rans_class_cap(const QuantizedParameters& parameters) noexcept { return parameters.gain_eighths >= 0 ? 4 : 12; }
constexpr int32_t kClassCapMin = 0, kClassCapMax = 20;

// Which tokens of a chunk are kept exact: the first of a sequence.
constexpr uint32_t exact_tokens(const QuantizedParameters& parameters) noexcept { return parameters.start == 0 ? 1 : 0; }

// rans has a table for each class up to its cap.
constexpr uint32_t tables_of_cap(int32_t cap) noexcept { return uint32_t(cap - kClassMin) + 1; }
constexpr uint32_t kMinQuantizedTables = tables_of_cap(kClassCapMin), kMaxQuantizedTables = tables_of_cap(kClassCapMax);

// The side information of a chunk; goes into the header.
struct QuantizedModel {
  Buffer<int16_t> base_step;   // [layer][plane], 1/8 octaves
  Buffer<int8_t> scale;        // [layer][row]
  Buffer<int32_t> mean;        // [layer][row]
  Buffer<int8_t> token_code;   // [layer][plane][token]
  Buffer<RansFrequencies> tables;  // for rans: tables_of_cap()

  Status resize(const KvShape& shape, uint32_t table_count) noexcept;
  int32_t class_cap() const noexcept { return tables.size() > 0 ? int32_t(tables.size()) - 1 + kClassMin : kClassCapHevc; }
  static size_t bound(const KvShape& shape) noexcept;
  Status write(const KvShape& shape, Bytes out, size_t* written) const noexcept;
  Status read(ConstBytes in, const KvShape& shape, bool with_tables) noexcept;
};

// What one channel's arithmetic needs.
struct QuantizedRow {
  float offset;         // mean * step
  float step;           // of a token of code 0
  float inverse_step;
  uint8_t first_table;  // class - kClassMin of a token of code 0, at most 255
  uint8_t last_table;   // never 0 for K, whose tables move with the token; 0 for V
  int8_t low_bits;      // of a token of code 0; a token of K has low_bits + code, if that is more than 0
};

// Rows of a layer; `rows` holds one entry a channel. A model from outside cannot make this fail, only make nonsense.
void quantized_rows(const QuantizedModel& model, const KvShape& shape, const QuantizedParameters& parameters, uint32_t layer, QuantizedRow* rows) noexcept;

// Whether a row belongs to K; MLA's one plane counts as V.
constexpr bool row_is_key(const KvShape& shape, size_t row) noexcept { return shape.planes == 2 && row < size_t(shape.kv_heads) * shape.head_dim; }

// RoPE tables with the tokens innermost, as rows want them: one for each different theta.
class RowRotation {
 public:
  Status build(const QuantizedParameters& parameters, const KvShape& shape) noexcept;
  // Turns K's rows [channel * stride + token] of a layer back (undo) or forth; `token_begin` is the place of column 0 in the chunk.
  void apply(const KvShape& shape, uint32_t layer, float* rows, size_t stride, size_t token_begin, size_t tokens, bool undo) const noexcept;
  // The same for the rows of one head only.
  void apply_to_head(uint32_t layer, float* rows, size_t stride, size_t token_begin, size_t tokens, bool undo) const noexcept;

 private:
  QuantizedParameters parameters_{};
  uint32_t tokens_ = 0;
  Buffer<uint32_t> table_of_layer_;
  Buffer<float> memory_;
  Buffer<RotaryTable> tables_;
};

// Describes one layer: fills its part of the model. `rows` are the layer's elements as floats, K un-rotated. Returns kUnsupported where an
// element is not finite. `scratch` holds 4 * tokens floats.
Status describe_quantized_layer(const float* rows, const KvShape& shape, const QuantizedParameters& parameters, uint32_t layer, float* scratch,
                                QuantizedModel* model) noexcept;

// tau of each token for K (to the power -1) and V (+1), and the inverses: four arrays of `count`, of tokens from `token_begin`.
void token_factors(const QuantizedModel& model, const KvShape& shape, uint32_t layer, size_t token_begin, size_t count, float* factors) noexcept;

// ---- Loops, each with a twin for AVX2 that gives the same results.

void elements_to_floats(const uint16_t* upper, const uint16_t* lower, size_t count, ElementType type, float* out) noexcept;
void floats_to_elements(const float* values, size_t count, ElementType type, uint16_t* upper, uint16_t* lower) noexcept;
// `count` rows of `tokens`: q = round((value - offset) * inverse_step * inverse_tau), halves to even, clamped to 16 bits.
void quantize_rows(const float* values, size_t count, size_t tokens, const QuantizedRow* rows, const float* inverse_tau, int16_t* q) noexcept;
// value = offset + q * step * tau
void dequantize_rows(const int16_t* q, size_t count, size_t tokens, const QuantizedRow* rows, const float* tau, float* values) noexcept;
// q = symbol - 128
void symbols_to_integers(const uint8_t* symbols, size_t count, int16_t* q) noexcept;
// The inverse for one row: symbol = ((q + half) >> width) + 128, or 0 (an escape) where that is not 1 to 255. Returns the number of escapes.
// `half` and `width` are null for a row without low bits.
size_t symbols_of_row(const int16_t* q, const uint16_t* half, const uint16_t* width, size_t tokens, uint8_t* symbols) noexcept;

#if defined(KVREEL_AVX2)
void elements_to_floats_avx2(const uint16_t* upper, const uint16_t* lower, size_t count, ElementType type, float* out) noexcept;
void floats_to_elements_avx2(const float* values, size_t count, ElementType type, uint16_t* upper, uint16_t* lower) noexcept;
void quantize_rows_avx2(const float* values, size_t count, size_t tokens, const QuantizedRow* rows, const float* inverse_tau, int16_t* q) noexcept;
void dequantize_rows_avx2(const int16_t* q, size_t count, size_t tokens, const QuantizedRow* rows, const float* tau, float* values) noexcept;
void symbols_to_integers_avx2(const uint8_t* symbols, size_t count, int16_t* q) noexcept;
size_t symbols_of_row_avx2(const int16_t* q, const uint16_t* half, const uint16_t* width, size_t tokens, uint8_t* symbols) noexcept;
#endif

}  // namespace kvreel
