#include "quantized.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "float16.h"
#include "quantized_kernels.h"

namespace kvreel {
namespace {

constexpr int32_t kScaleMin = -127, kScaleMax = 127;
constexpr int32_t kStepMin = -960, kStepMax = 960;  // 1/8 octaves: 2^-120 .. 2^120
constexpr int32_t kMeanLimit = 1 << 24;             // a float holds every integer up to here
constexpr int32_t kLargestQ = 32767;

int32_t clamp(int32_t value, int32_t low, int32_t high) noexcept { return value < low ? low : value > high ? high : value; }

// 2^(eighths / 8), the same float on every machine: a table for the fraction, the exponent by construction.
float step_of(int32_t eighths) noexcept {
  static constexpr float kFraction[8] = {1.0f,        1.090507733f, 1.189207115f, 1.296839555f,
                                         1.414213562f, 1.542210825f, 1.681792831f, 1.834008086f};
  const int32_t e = clamp(eighths, kStepMin, kStepMax);
  return float_of(bits_of(kFraction[e & 7]) + (uint32_t(e >> 3) << 23));
}

// 2^(code / 2)
float tau_of(int32_t code) noexcept { return step_of(4 * code); }

// How much coarser the step of a K channel is, in 1/8 octaves, for the RoPE pair that it belongs to: an octave from fastest to slowest.
int32_t frequency_eighths(const QuantizedParameters& parameters, size_t dim) noexcept {
  if (dim >= parameters.rotary_dims) return 0;
  const size_t pairs = parameters.rotary_dims / 2;
  const size_t pair = parameters.rotary_style == RotaryStyle::kHalf ? dim % pairs : dim / 2;
  return 2 - int32_t(4 * pair / pairs);
}

// A sum in eight parts, so that it does not depend on how a compiler turns the loop into vector code.
template <typename Term>
double sum_of(size_t count, Term term) noexcept {
  double part[8] = {};
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (size_t k = 0; k < 8; k++) part[k] += term(i + k);
  }
  for (size_t k = 0; i < count; i++, k++) part[k] += term(i);
  return ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
}

// One plane of a layer while it is looked at.
struct Plane {
  const float* rows;  // [channel][token]
  size_t channels;
  size_t tokens;
  size_t first;  // tokens before it are kept exact and left out of all statistics
  bool is_key;
};

void describe_tokens(const Plane& plane, const float* means, float* norms, float* sorted, int8_t* codes) noexcept {
  for (size_t t = 0; t < plane.tokens; t++) norms[t] = 0;
  for (size_t c = 0; c < plane.channels; c++) {
    const float* row = plane.rows + c * plane.tokens;
    // K's norm is that of its deviation; V's error is read against the value itself.
    const float mean = plane.is_key ? means[c] : 0;
    for (size_t t = 0; t < plane.tokens; t++) norms[t] += (row[t] - mean) * (row[t] - mean);
  }
  const size_t count = plane.tokens - plane.first;
  std::memcpy(sorted, norms + plane.first, count * sizeof(float));
  std::nth_element(sorted, sorted + count / 2, sorted + count);
  const float median = sorted[count / 2];
  for (size_t t = 0; t < plane.tokens; t++) {
    const bool known = t >= plane.first && median > 0 && norms[t] > 0;
    // Norms are squared here: half an octave of the norm is an octave of the square.
    codes[t] = known ? int8_t(clamp(int32_t(std::lrint(std::log2(norms[t] / median))), kTokenCodeMin, kTokenCodeMax)) : int8_t(0);
  }
}

int32_t base_step_of(const Plane& plane, const int8_t* scale, int32_t gain_eighths) noexcept {
  const double power = sum_of(plane.channels, [&](size_t c) { return std::exp2(scale[c] / 2.0); }) / double(plane.channels);
  const double spread = 0.5 * std::log2(power);  // octaves
  double octaves = spread;
  if (plane.is_key) {
    // Spread^-0.75, but never more than four times in either direction; and spread^0.25 because each channel's scale takes it off again.
    const double shrink = -0.75 * spread;
    octaves = (shrink < -2 ? -2 : shrink > 2 ? 2 : shrink) + 0.25 * spread;
  }
  return clamp(gain_eighths + int32_t(std::lrint(8 * octaves)), kStepMin, kStepMax);
}

int32_t channel_eighths(const QuantizedParameters& parameters, bool is_key, int32_t base, int32_t scale, size_t dim) noexcept {
  // Shifting right rounds down, also below zero.
  return is_key ? base - (scale >> 1) + frequency_eighths(parameters, dim) : base;
}

}  // namespace

void quantized_rows(const QuantizedModel& model, const KvShape& shape, const QuantizedParameters& parameters, uint32_t layer, QuantizedRow* rows) noexcept {
  const int32_t cap = model.class_cap();
  const size_t count = layer_rows(shape), plane_rows = size_t(shape.kv_heads) * shape.head_dim;
  for (size_t r = 0; r < count; r++) {
    const bool is_key = row_is_key(shape, r);
    const int32_t scale = model.scale[layer * count + r];
    const int32_t base = model.base_step[layer * shape.planes + r / plane_rows];
    const int32_t eighths = clamp(channel_eighths(parameters, is_key, base, scale, r % shape.head_dim), kStepMin, kStepMax);
    // Quarter octaves of spread / step.
    const int32_t spread_class = (2 * scale - eighths) >> 1;
    const int32_t low_bits = spread_class > cap || is_key ? (spread_class - cap + 3) >> 2 : 0;
    const int32_t last = is_key || low_bits > 0 ? spread_class - 4 * low_bits : clamp(spread_class, kClassMin, cap);
    QuantizedRow& row = rows[r];
    row.step = step_of(eighths);
    row.inverse_step = step_of(-eighths);
    row.offset = float(model.mean[layer * count + r]) * row.step;
    row.low_bits = int8_t(clamp(low_bits, -100, 100));
    row.first_table = uint8_t(clamp((is_key ? spread_class : last) - kClassMin, 0, 255));
    row.last_table = is_key ? uint8_t(clamp(last - kClassMin, 1, cap - kClassMin)) : 0;
  }
}

Status describe_quantized_layer(const float* rows, const KvShape& shape, const QuantizedParameters& parameters, uint32_t layer, float* scratch,
                                QuantizedModel* model) noexcept {
  const size_t tokens = shape.tokens, channels = size_t(shape.kv_heads) * shape.head_dim, all_rows = layer_rows(shape);
  float* const norms = scratch;
  float* const sorted = scratch + tokens;
  float* const inverse_tau = scratch + 2 * tokens;
  float* const reach = scratch + 3 * tokens;  // what a token's deviation is multiplied by before it is divided by the step
  const size_t first = exact_tokens(parameters) < tokens ? exact_tokens(parameters) : 0;
  Buffer<float> means;
  if (means.resize(channels) != Status::kOk) return Status::kOutOfMemory;
  for (uint32_t p = 0; p < shape.planes; p++) {
    const Plane plane{rows + p * channels * tokens, channels, tokens, first, row_is_key(shape, p * channels)};
    const double count = double(tokens - first);
    for (size_t c = 0; c < channels; c++) {
      const float* row = plane.rows + c * tokens + first;
      const double mean = sum_of(tokens - first, [&](size_t t) { return double(row[t]); }) / count;
      if (!(std::fabs(mean) < 3e38)) return Status::kUnsupported;  // a NaN or an infinity among them
      means[c] = float(mean);
    }
    int8_t* const codes = model->token_code.data() + (size_t(layer) * shape.planes + p) * tokens;
    describe_tokens(plane, means.data(), norms, sorted, codes);
    for (size_t t = 0; t < tokens; t++) {
      inverse_tau[t] = tau_of(-codes[t]);
      reach[t] = plane.is_key ? 1 / inverse_tau[t] : inverse_tau[t];
    }
    int8_t* const scale = model->scale.data() + size_t(layer) * all_rows + p * channels;
    for (size_t c = 0; c < channels; c++) {
      const float* row = plane.rows + c * tokens + first;
      const double square = sum_of(tokens - first, [&](size_t t) {
                              const float deviation = (row[t] - means[c]) * inverse_tau[first + t];
                              return double(deviation * deviation);
                            }) / count;
      if (!(square < 1e77)) return Status::kUnsupported;
      scale[c] = square > 0 ? int8_t(clamp(int32_t(std::lrint(2 * std::log2(square))), kScaleMin, kScaleMax)) : int8_t(kScaleMin);
    }
    int32_t base = base_step_of(plane, scale, parameters.gain_eighths);
    int32_t* const mean = model->mean.data() + size_t(layer) * all_rows + p * channels;
    // q has 16 bits: where a value is so far out that it would not fit, the whole plane is made coarser.
    for (bool fits = false; !fits; base += 8) {
      fits = true;
      model->base_step[size_t(layer) * shape.planes + p] = int16_t(base);
      for (size_t c = 0; c < channels && fits; c++) {
        const int32_t eighths = channel_eighths(parameters, plane.is_key, base, scale[c], c % shape.head_dim);
        const double step = step_of(eighths), steps = std::rint(means[c] / step);
        const float* row = plane.rows + c * tokens;
        // The larger of two floats that are not negative is the one whose bits are larger; integers let compilers vectorise.
        int32_t largest_bits = 0;
        for (size_t t = first; t < tokens; t++) {
          const int32_t distance = int32_t(bits_of(std::fabs(row[t] - means[c]) * reach[t]));
          largest_bits = distance > largest_bits ? distance : largest_bits;
        }
        const float largest = float_of(uint32_t(largest_bits));
        if (!(largest < 3e38f)) return Status::kUnsupported;
        fits = (std::fabs(steps) < kMeanLimit && largest / step < kLargestQ - 2) || base >= kStepMax - 8;
        mean[c] = int32_t(std::fabs(steps) < kMeanLimit ? steps : 0);
      }
    }
  }
  return Status::kOk;
}

void token_factors(const QuantizedModel& model, const KvShape& shape, uint32_t layer, size_t token_begin, size_t count, float* factors) noexcept {
  float* const key = factors;
  float* const key_inverse = factors + count;
  float* const value = factors + 2 * count;
  float* const value_inverse = factors + 3 * count;
  const int8_t* codes = model.token_code.data() + size_t(layer) * shape.planes * shape.tokens + token_begin;
  const int8_t* value_codes = codes + (shape.planes - 1) * shape.tokens;
  for (size_t t = 0; t < count; t++) {
    key[t] = tau_of(-codes[t]);
    key_inverse[t] = tau_of(codes[t]);
    value[t] = tau_of(value_codes[t]);
    value_inverse[t] = tau_of(-value_codes[t]);
  }
}

Status RowRotation::build(const QuantizedParameters& parameters, const KvShape& shape) noexcept {
  const uint32_t layers = shape.layers, tokens = shape.tokens;
  parameters_ = parameters;
  tokens_ = tokens;
  if (parameters.rotary_dims == 0) return Status::kOk;
  if (parameters.rotary_dims > shape.head_dim) return Status::kInvalidArgument;
  const Span<const double> thetas = parameters.thetas;
  if (thetas.size != 1 && thetas.size != layers) return Status::kInvalidArgument;
  const size_t floats = rotary_table_floats(parameters.rotary_dims, tokens);
  if (floats == 0) return Status::kInvalidArgument;
  // Models have one theta, or two in turns: build each once.
  uint32_t different = 0;
  if (table_of_layer_.resize(layers) != Status::kOk) return Status::kOutOfMemory;
  for (uint32_t layer = 0; layer < layers; layer++) {
    const double theta = thetas[thetas.size == 1 ? 0 : layer];
    uint32_t same = 0;
    while (same < layer && thetas[thetas.size == 1 ? 0 : same] != theta) same++;
    table_of_layer_[layer] = same < layer ? table_of_layer_[same] : different++;
  }
  if (memory_.resize(floats * different) != Status::kOk || tables_.resize(different) != Status::kOk) return Status::kOutOfMemory;
  uint32_t built = 0;
  for (uint32_t layer = 0; layer < layers; layer++) {
    if (table_of_layer_[layer] != built) continue;
    const RotaryParameters rotary{thetas[thetas.size == 1 ? 0 : layer], parameters.rotary_dims, parameters.rotary_style};
    const Status status = build_rotary_table(rotary, parameters.start, tokens, {memory_.data() + floats * built, floats}, &tables_[built]);
    if (status != Status::kOk) return status;
    built++;
  }
  return Status::kOk;
}

void RowRotation::apply(const KvShape& shape, uint32_t layer, float* rows, size_t stride, size_t token_begin, size_t tokens, bool undo) const noexcept {
  for (size_t head = 0; head < shape.kv_heads; head++) {
    apply_to_head(layer, rows + head * shape.head_dim * stride, stride, token_begin, tokens, undo);
  }
}

void RowRotation::apply_to_head(uint32_t layer, float* rows, size_t stride, size_t token_begin, size_t tokens, bool undo) const noexcept {
  if (parameters_.rotary_dims == 0) return;
  const RotaryTable& table = tables_[table_of_layer_[layer]];
  const auto rotate = quantized_kernels().rotate;
  const size_t pairs = table.rotary_dims / 2;
  const bool half = table.style == RotaryStyle::kHalf;
  for (size_t pair = 0; pair < pairs; pair++) {
    float* const first = rows + (half ? pair : 2 * pair) * stride;
    const size_t at = pair * tokens_ + token_begin;
    rotate(first, first + (half ? pairs : 1) * stride, table.cosines + at, table.sines + at, tokens, undo);
  }
}

}  // namespace kvreel
