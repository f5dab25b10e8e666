#include "jobs.h"

using namespace kvreel;
using namespace kvreel_test;

namespace {

struct QuantizedCoder {
  Coder coder;
  bool with_tables;  // in its model
};
constexpr QuantizedCoder kCoders[] = {{Coder::kRans, true}, {Coder::kHevc, false}};
constexpr ElementType kFloats[] = {ElementType::kBf16, ElementType::kF16, ElementType::kF32};
constexpr int32_t kGains[] = {-40, -32, -24, -16, -8, 1};
constexpr double kThetas[] = {10000.0, 1000000.0, 10000.0};

enum Kind : uint32_t { kNormal, kChannels, kOutliers, kZeros, kConstant, kSigns, kTokens, kDenormals, kSmall, kKinds };
const char* const kKindNames[] = {"normal", "channels", "outliers", "zeros", "constant", "signs", "tokens", "denormals", "small"};

void describe_case(const ChunkParameters& parameters, Kind kind) { at_case = describe(parameters) + ", " + kKindNames[kind]; }

// In order kSplit; what kTokens and kOutliers mean by a token holds for that order.
std::vector<uint8_t> make_tensor(const KvShape& shape, Kind kind, Random* random) {
  std::vector<uint8_t> tensor;
  const size_t count = bytes_of(shape) / element_bytes(shape.type);
  tensor.reserve(bytes_of(shape));
  for (size_t i = 0; i < count; i++) {
    const size_t dim = i % shape.head_dim, token = i / shape.head_dim % shape.tokens;
    float value = float(random->normal());
    switch (kind) {
      case kChannels: value = value * std::exp2(float(dim % 11) - 5) + float(dim % 5) - 2; break;
      case kOutliers: value *= random->below(200) == 0 ? 1e4f : 1; break;
      case kZeros: value = 0; break;
      case kConstant: value = 1.7f; break;
      case kSigns: value = i % 2 == 0 ? 0.25f : -0.25f; break;
      case kTokens: value *= std::exp2(float(token % 13) - 6); break;
      case kDenormals: value *= shape.type == ElementType::kF16 ? 1e-7f : 1e-40f; break;
      case kSmall: value *= 1e-6f; break;
      default: break;
    }
    append(&tensor, shape.type, value);
  }
  return tensor;
}

// Half the gap between neighbours of a value's size: what storing it as an element may cost.
double rounding(ElementType type, double value) {
  const int fraction = type == ElementType::kBf16 ? 7 : type == ElementType::kF16 ? 10 : 23;
  const int lowest = type == ElementType::kF16 ? -14 : -126;
  const int exponent = value == 0 ? lowest : std::ilogb(value);
  return std::ldexp(0.5, (exponent < lowest ? lowest : exponent) - fraction);
}

// Steps of every element of a chunk in order kSplit, from the model that was stored with it: what the format promises.
class Steps {
 public:
  Steps(const ChunkParameters& parameters, const Encoded& encoded, bool with_tables) : shape_(parameters.layout.shape), parameters_(parameters.quantized) {
    CHECK(model_.read(in(encoded.model), shape_, with_tables) == Status::kOk);
    rows_.resize(layer_rows(shape_) * shape_.layers);
    factors_.resize(size_t(4) * shape_.tokens * shape_.layers);
    for (uint32_t layer = 0; layer < shape_.layers; layer++) {
      quantized_rows(model_, shape_, parameters_, layer, rows_.data() + layer * layer_rows(shape_));
      token_factors(model_, shape_, layer, 0, shape_.tokens, factors_.data() + size_t(4) * shape_.tokens * layer);
    }
  }
  double step(size_t layer, size_t row, size_t token) const {
    const float* tau = factors_.data() + 4 * shape_.tokens * layer + (row_is_key(shape_, row) ? 0 : 2 * shape_.tokens);
    return double(at(layer, row).step) * tau[token];
  }
  // Root of the sum of squares of the steps of all channels that turn together with this one.
  double turned_step(size_t layer, size_t row, size_t token) const {
    const size_t dim = row % shape_.head_dim, pairs = parameters_.rotary_dims / 2;
    const bool turns = dim < parameters_.rotary_dims && (row_is_key(shape_, row) || shape_.planes == 1);
    if (!turns) return step(layer, row, token);
    const bool half = parameters_.rotary_style == RotaryStyle::kHalf;
    const size_t partner = half ? (dim < pairs ? row + pairs : row - pairs) : dim % 2 == 0 ? row + 1 : row - 1;
    return std::hypot(step(layer, row, token), step(layer, partner, token));
  }
  double offset(size_t layer, size_t row) const { return at(layer, row).offset; }

 private:
  const QuantizedRow& at(size_t layer, size_t row) const { return rows_[layer * layer_rows(shape_) + row]; }

  const KvShape shape_;
  const QuantizedParameters parameters_;
  QuantizedModel model_;
  std::vector<QuantizedRow> rows_;
  std::vector<float> factors_;
};

struct Errors {
  double worst = 0;     // error / (half a step and what rounding costs)
  double rms_step = 0;  // of all but exact tokens
  double rms_error = 0;
  bool first_is_exact = true;
};

// `before` and `after` in order kSplit.
Errors compare(const ChunkParameters& parameters, const Steps& steps, const std::vector<uint8_t>& before, const std::vector<uint8_t>& after) {
  const KvShape& s = parameters.layout.shape;
  const size_t width = element_bytes(s.type), rows = layer_rows(s);
  Errors errors;
  size_t count = 0;
  for (size_t layer = 0; layer < s.layers; layer++) {
    for (size_t row = 0; row < rows; row++) {
      for (size_t token = 0; token < s.tokens; token++) {
        const size_t line = (layer * rows + row) / s.head_dim, i = (line * s.tokens + token) * s.head_dim + row % s.head_dim;
        if (token < exact_tokens(parameters.quantized)) {
          errors.first_is_exact &= std::memcmp(before.data() + i * width, after.data() + i * width, width) == 0;
          continue;
        }
        const double was = element(before, s.type, i), is = element(after, s.type, i), step = steps.turned_step(layer, row, token);
        // Beside half a step: rounding to an element, and single precision in what is taken off, rotated and put back.
        const double arithmetic = 4e-7 * (std::fabs(was) + std::fabs(is) + std::fabs(steps.offset(layer, row)) + step) * 4;
        const double allowed = 0.5 * step + rounding(s.type, std::fabs(was) + 0.5 * step) + arithmetic;
        errors.worst = std::fmax(errors.worst, std::fabs(is - was) / allowed);
        errors.rms_error += (is - was) * (is - was);
        errors.rms_step += steps.step(layer, row, token) * steps.step(layer, row, token);
        count++;
      }
    }
  }
  if (count == 0) return errors;
  errors.rms_error = std::sqrt(errors.rms_error / double(count));
  errors.rms_step = std::sqrt(errors.rms_step / double(count));
  return errors;
}

// Everything that has to hold for one tensor, given in order kSplit. Returns how far the decoded tensor is from it.
Errors check_tensor(const ChunkParameters& parameters, bool with_tables, const std::vector<uint8_t>& split, uint32_t parts, Random* random) {
  const TensorLayout& layout = parameters.layout;
  std::vector<uint8_t> tensor(split.size()), decoded, again;
  CHECK(unpack(layout.order, layout.shape, layout.block_tokens, in(split), out(tensor)) == Status::kOk);
  const Encoded encoded = encode(parameters, tensor, 1);
  CHECK(encoded.status == Status::kOk);
  if (encoded.status != Status::kOk) return {};
  CHECK(same(encoded, encode(parameters, tensor, 3)));
  CHECK(decode(parameters, encoded, &decoded, 1) == Status::kOk);
  cpu_force_scalar(true);
  CHECK(same(encoded, encode(parameters, tensor, 2)));
  CHECK(decode(parameters, encoded, &again, 3) == Status::kOk && again == decoded);
  cpu_force_scalar(false);
  for (uint32_t i = 0; i < parts; i++) check_part(parameters, encoded, decoded, random);

  std::vector<uint8_t> after(split.size());
  CHECK(pack(layout.order, layout.shape, layout.block_tokens, in(decoded), out(after)) == Status::kOk);
  const Errors errors = compare(parameters, Steps(parameters, encoded, with_tables), split, after);
  CHECK(errors.first_is_exact && errors.worst <= 1);

  RowSink verifying(layout, in(tensor));
  CHECK(decode(parameters, encoded, whole(parameters), encoded.sections, &verifying, 2) == Status::kOk);
  const ErrorSums sums = verifying.errors();
  uint64_t different = 0;
  double largest = 0, squared = 0;
  for (size_t i = 0; i < tensor.size() / element_bytes(layout.shape.type); i++) {
    const double error = std::fabs(double(element(split, layout.shape.type, i)) - element(after, layout.shape.type, i));
    const size_t width = element_bytes(layout.shape.type);
    different += std::memcmp(split.data() + i * width, after.data() + i * width, width) != 0;
    largest = std::fmax(largest, error);
    squared += error * error;
  }
  CHECK(sums.different == different && sums.max_absolute == largest && std::fabs(sums.squared_error - squared) <= 1e-9 * squared);
  return errors;
}

// No rotation, the whole head, or half of it; start at a sequence's first token or later.
QuantizedParameters make_quantized(uint32_t turn, uint32_t layers, uint32_t head_dim, bool is_mla) {
  QuantizedParameters q{kGains[turn % 6], turn % 3 == 0 ? 0 : 4096 * turn, 0, RotaryStyle(turn / 2 % 2), {}};
  if (is_mla || turn % 4 == 0) return q;
  q.rotary_dims = (turn % 4 == 1 ? head_dim / 2 : head_dim) / 2 * 2;
  if (q.rotary_dims != 0) q.thetas = {kThetas, turn % 5 == 0 ? layers : 1};
  return q;
}

}  // namespace

TEST(shapes, "every element type, order, shape, group length, rotation and kind of data comes back within half a step, alike from both variants") {
  for (const QuantizedCoder& coder : kCoders) {
    Random random{31};
    uint32_t turn = 0;
    for (const uint32_t tokens : {1u, 2u, 15u, 16u, 17u, 40u, 250u, 256u, 300u}) {
      for (const uint32_t head_dim : {1u, 2u, 3u, 16u, 40u, 64u, 128u}) {
        for (const uint32_t group : {1u, 5u, 16u, 256u, 0xffffffffu}) {
          if (group > tokens && group != 0xffffffff) continue;
          // An HEVC stream has at least one picture: many short groups take long.
          if (coder.coder == Coder::kHevc && group < 16 && tokens > 20) continue;
          for (const ElementType type : kFloats) {
            turn++;
            const bool small = size_t(tokens) * head_dim <= 1500;
            if (!small && (turn * 7 + turn / 30) % 6 != 0) continue;
            if (coder.coder == Coder::kHevc && turn % 4 != 0) continue;
            const KvShape shape{small ? 1 + turn % 3 : 1, 2, tokens, small && turn % 2 != 0 ? 3u : 1u, head_dim, type};
            const TensorLayout layout = make_layout(LayoutOrder(turn % kLayoutOrders), shape, &random);
            const QuantizedParameters quantized = make_quantized(random.below(1000), shape.layers, head_dim, layout.shape.planes == 1);
            const ChunkParameters parameters{coder.coder, layout, group < tokens ? group : tokens, quantized};
            const Kind kind = Kind(random.below(kKinds));
            describe_case(parameters, kind);
            check_tensor(parameters, coder.with_tables, make_tensor(layout.shape, kind, &random), 1, &random);
          }
        }
      }
    }
  }
}

TEST(kinds, "every kind of data of every element type comes back within half a step at every gain") {
  for (const QuantizedCoder& coder : kCoders) {
    Random random{32};
    for (const ElementType type : kFloats) {
      for (uint32_t kind = 0; kind < kKinds; kind++) {
        for (const int32_t gain : kGains) {
          if (coder.coder == Coder::kHevc && gain % 16 != 0 && gain != 1) continue;
          const KvShape shape{2, 2, 40, 2, 16, type};
          const ChunkParameters parameters{coder.coder, {LayoutOrder::kSplit, shape, 0}, 16, {gain, 0, 16, RotaryStyle::kHalf, {kThetas, 1}}};
          describe_case(parameters, Kind(kind));
          check_tensor(parameters, coder.with_tables, make_tensor(shape, Kind(kind), &random), 1, &random);
        }
      }
    }
  }
}

TEST(errors, "the error of normal data has the spread of an evenly spread error of one step, and V's step is the gain times its spread") {
  for (const QuantizedCoder& coder : kCoders) {
    Random random{33};
    for (const int32_t gain : {-40, -24, -8}) {
      for (const uint32_t planes : {1u, 2u}) {
        const KvShape shape{2, planes, 256, 1, 64, ElementType::kF32};
        const ChunkParameters parameters{coder.coder, {planes == 1 ? LayoutOrder::kMla : LayoutOrder::kSplit, shape, 0}, 64, {gain, 512, 0, {}, {}}};
        describe_case(parameters, kNormal);
        const Errors errors = check_tensor(parameters, coder.with_tables, make_tensor(shape, kNormal, &random), 0, &random);
        const double ratio = errors.rms_error / (errors.rms_step * std::sqrt(1.0 / 12));
        CHECK(ratio > 0.95 && ratio < 1.05);
        // K of spread 1 has the same step.
        const double expected = std::exp2(gain / 8.0) * std::sqrt(1.0 / 12);
        CHECK(errors.rms_error > 0.8 * expected && errors.rms_error < 1.2 * expected);
      }
    }
  }
}

TEST(thetas, "each layer is rotated by its own theta") {
  constexpr double kA = 10000.0, kB = 1000000.0;
  constexpr double kOwn[] = {kA, kB, kA}, kOnlyA[] = {kA, kA, kA}, kOnlyB[] = {kB, kB, kB};
  for (const QuantizedCoder& coder : kCoders) {
    Random random{39};
    const KvShape shape{3, 2, 32, 1, 16, ElementType::kF32};
    ChunkParameters parameters{coder.coder, {LayoutOrder::kSplit, shape, 0}, 16, {-40, 512, 16, RotaryStyle::kHalf, {kOwn, 3}}};
    const Encoded encoded = encode(parameters, make_tensor(shape, kNormal, &random), 1);
    std::vector<uint8_t> own, other;
    CHECK(decode(parameters, encoded, &own, 1) == Status::kOk);
    for (const double* thetas : {kOnlyA, kOnlyB}) {
      parameters.quantized.thetas = {thetas, 3};
      describe_case(parameters, kNormal);
      CHECK(decode(parameters, encoded, &other, 1) == Status::kOk);
      const size_t layer_bytes = own.size() / 3, key_bytes = layer_bytes / 2;
      for (size_t layer = 0; layer < 3; layer++) {
        const bool keys_are_same = std::memcmp(own.data() + layer * layer_bytes, other.data() + layer * layer_bytes, key_bytes) == 0;
        CHECK(keys_are_same == (thetas[layer] == kOwn[layer]));
        CHECK(std::memcmp(own.data() + layer * layer_bytes + key_bytes, other.data() + layer * layer_bytes + key_bytes, key_bytes) == 0);
      }
    }
  }
}

TEST(sink_token, "the first token of a sequence comes back bit for bit, also where it is a NaN; a chunk of one such token is exact") {
  for (const QuantizedCoder& coder : kCoders) {
    Random random{34};
    for (const ElementType type : kFloats) {
      for (const uint32_t tokens : {1u, 17u}) {
        const KvShape shape{2, 2, tokens, 1, 8, type};
        const ChunkParameters parameters{coder.coder, {LayoutOrder::kLmcache2ltd, shape, 0}, tokens, {-16, 0, 8, RotaryStyle::kHalf, {kThetas, 1}}};
        describe_case(parameters, kOutliers);
        check_tensor(parameters, coder.with_tables, make_tensor(shape, kOutliers, &random), 0, &random);
        if (tokens == 1) continue;
        std::vector<uint8_t> tensor = make_tensor(shape, kNormal, &random), decoded;
        const size_t width = element_bytes(type);
        // Order kLmcache2ltd: the first token of K of layer 0 comes first.
        for (size_t b = 0; b < width; b++) tensor[b] = 0xff;
        const Encoded encoded = encode(parameters, tensor, 1);
        CHECK(encoded.status == Status::kOk);
        CHECK(decode(parameters, encoded, &decoded, 1) == Status::kOk && std::memcmp(decoded.data(), tensor.data(), 8 * width) == 0);
      }
    }
  }
}

TEST(not_finite, "a NaN or an infinity anywhere but in an exact token is left to other coders") {
  for (const QuantizedCoder& coder : kCoders) {
    Random random{35};
    for (const ElementType type : kFloats) {
      const KvShape shape{2, 2, 20, 1, 8, type};
      for (const uint32_t rotary : {0u, 8u}) {
        const ChunkParameters parameters{coder.coder, {LayoutOrder::kSplit, shape, 0}, 16, {-16, 0, rotary, RotaryStyle::kHalf, {kThetas, rotary ? 1u : 0u}}};
        for (const float value : {float(INFINITY), -float(INFINITY), float(NAN)}) {
          for (const size_t line : {size_t(1), size_t(19), size_t(21), size_t(79)}) {
            std::vector<uint8_t> tensor = make_tensor(shape, kNormal, &random), one;
            append(&one, type, value);
            std::memcpy(tensor.data() + (line * 8 + random.below(8)) * one.size(), one.data(), one.size());
            describe_case(parameters, kNormal);
            at_case += " line " + std::to_string(line) + " value " + std::to_string(value);
            for (const uint32_t workers : {1u, 3u}) CHECK(encode(parameters, tensor, workers).status == Status::kUnsupported);
            cpu_force_scalar(true);
            CHECK(encode(parameters, tensor, 1).status == Status::kUnsupported);
            cpu_force_scalar(false);
          }
        }
      }
    }
  }
}

TEST(extremes, "values from the smallest to the largest are coded within half a step or left to other coders") {
  for (const QuantizedCoder& coder : kCoders) {
    Random random{36};
    int coded = 0;
    for (const ElementType type : kFloats) {
      for (int exponent = -150; exponent < 128; exponent += 9) {
        const KvShape shape{1, 2, 20, 1, 8, type};
        const ChunkParameters parameters{coder.coder, {LayoutOrder::kSplit, shape, 0}, 16, {-24, 16, 8, RotaryStyle::kInterleaved, {kThetas, 1}}};
        std::vector<uint8_t> tensor;
        for (size_t i = 0; tensor.size() < bytes_of(shape); i++) append(&tensor, type, std::ldexp(float(random.normal()), exponent));
        describe_case(parameters, kNormal);
        at_case += " exponent " + std::to_string(exponent);
        const Status status = encode(parameters, tensor, 1).status;
        CHECK(status == Status::kOk || status == Status::kUnsupported);
        // Spreads of 2^-31 .. 2^31 have a scale; an f16 ends at 65504.
        CHECK(status == Status::kOk || exponent > (type == ElementType::kF16 ? 12 : 30));
        if (status == Status::kOk) coded++, check_tensor(parameters, coder.with_tables, tensor, 0, &random);
      }
    }
    CHECK(coded > 50);
  }
}

TEST(refusals, "parameters that contradict each other are refused before any work, by encoder and decoder alike") {
  for (const QuantizedCoder& coder : kCoders) {
    Random random{37};
    const KvShape shape{2, 2, 20, 1, 8, ElementType::kBf16};
    const ChunkParameters good{coder.coder, {LayoutOrder::kSplit, shape, 0}, 16, {-16, 5, 8, RotaryStyle::kHalf, {kThetas, 1}}};
    const std::vector<uint8_t> tensor = make_tensor(shape, kNormal, &random);
    const Encoded encoded = encode(good, tensor, 1);
    std::vector<uint8_t> decoded;
    CHECK(decode(good, encoded, &decoded, 1) == Status::kOk);
    const auto refuse = [&](const char* what, const ChunkParameters& bad) {
      at_case = what + (" " + describe(bad));
      CHECK(encode(bad, tensor, 1).status == Status::kInvalidArgument);
      CHECK(decode(bad, encoded, &decoded, 1) == Status::kInvalidArgument);
    };
    ChunkParameters bad = good;
    for (const uint32_t dims : {1u, 3u, 10u, 16u, 65538u, 0xfffffffeu}) {
      bad.quantized.rotary_dims = dims;
      refuse("odd, or more than a head has", bad);
    }
    for (const double theta : {0.0, -1.0, 0.5, 1e31, double(NAN), double(INFINITY)}) {
      bad = good;
      bad.quantized.thetas = {&theta, 1};
      refuse("no theta", bad);
    }
    for (const size_t thetas : {0u, 3u}) {
      bad = good;
      bad.quantized.thetas = {kThetas, thetas};
      refuse("thetas", bad);
    }
    for (const uint32_t start : {kMaxPosition, kMaxPosition - 19, 0xffffffffu}) {
      bad = good;
      bad.quantized.start = start;
      refuse("start", bad);
    }
    bad = good;
    bad.quantized.rotary_style = RotaryStyle(2);
    refuse("style", bad);
    EncodeBound bound{};
    for (const uint32_t group : {0u, 21u, 0xffffffffu}) {
      bad = good;
      bad.group_tokens = group;
      CHECK(encode_bound(bad, &bound) == Status::kInvalidArgument);
      CHECK(decode(bad, encoded, &decoded, 1) == Status::kInvalidArgument);
    }
    for (const ElementType type : {ElementType::kF8E4m3, ElementType::kF8E5m2, ElementType::kU8}) {
      bad = good;
      bad.layout.shape.type = type;
      CHECK(encode(bad, std::vector<uint8_t>(tensor.size() / 2), 1).status == Status::kUnsupported);
      CHECK(decode(bad, encoded, &decoded, 1) == Status::kUnsupported);
    }
    at_case.clear();
    CHECK(encode_bound(good, &bound) == Status::kOk);
    std::vector<uint8_t> room(bound.sections - 1);
    const std::unique_ptr<EncodeJob> job(make_encode_job(good, in(tensor), out(room)));
    CHECK(run_job(job.get(), 1) == Status::kBufferTooSmall);
    CHECK(encode(good, std::vector<uint8_t>(tensor.size() - 1), 1).status == Status::kInvalidArgument);
  }
}

TEST(damage, "a model or section that was cut, lengthened or flipped is corrupt, or has a checksum that fits and decodes to other values") {
  for (const QuantizedCoder& coder : kCoders) {
    Random random{38};
    const uint32_t stride = coder.coder == Coder::kHevc ? 13 : 1;
    const KvShape shape{2, 2, 40, 1, 8, ElementType::kBf16};
    const ChunkParameters parameters{coder.coder, {LayoutOrder::kSplit, shape, 0}, 16, {-16, 0, 8, RotaryStyle::kHalf, {kThetas, 1}}};
    describe_case(parameters, kOutliers);
    const Encoded encoded = encode(parameters, make_tensor(shape, kOutliers, &random), 1);
    std::vector<uint8_t> decoded, again;
    Encoded bad = encoded;
    for (size_t length = 0; length < encoded.model.size(); length++) {
      bad.model.assign(encoded.model.begin(), encoded.model.begin() + ptrdiff_t(length));
      CHECK(decode(parameters, bad, &decoded, 1) == Status::kCorrupt);
    }
    bad.model = encoded.model;
    bad.model.push_back(0);
    CHECK(decode(parameters, bad, &decoded, 1) == Status::kCorrupt);
    for (size_t bit = 0; bit < encoded.model.size() * 8; bit += stride) {
      bad.model = encoded.model;
      bad.model[bit / 8] ^= uint8_t(1u << (bit % 8));
      const Status fast = decode(parameters, bad, &decoded, 1);
      cpu_force_scalar(true);
      const Status scalar = decode(parameters, bad, &again, 1);
      cpu_force_scalar(false);
      CHECK((fast == Status::kOk || fast == Status::kCorrupt) && fast == scalar);
      CHECK(fast != Status::kOk || decoded == again);
    }
    bad = encoded;
    for (size_t bit = 0; bit < encoded.object.size() * 8; bit += stride) {
      bad.object[bit / 8] ^= uint8_t(1u << (bit % 8));
      CHECK(decode(parameters, bad, &decoded, 1) == Status::kCorrupt);
      bad.object[bit / 8] ^= uint8_t(1u << (bit % 8));
    }
    for (size_t s = 0; s < encoded.sections.size(); s++) {
      for (uint64_t length = 0; length <= encoded.sections[s].length + 2; length++) {
        if (length == encoded.sections[s].length) continue;
        const Encoded other = with_length(encoded, s, length);
        CHECK(decode(parameters, other, &decoded, 1) == Status::kCorrupt);
      }
    }
    for (const uint64_t offset : {uint64_t(encoded.object.size()), uint64_t(encoded.object.size()) + 1, UINT64_MAX, UINT64_MAX - 4}) {
      bad = encoded;
      bad.sections.back().offset = offset;
      CHECK(decode(parameters, bad, &decoded, 1) == Status::kCorrupt);
    }
  }
}
