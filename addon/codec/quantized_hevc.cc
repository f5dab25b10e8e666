#include "quantized_hevc.h"

#include <cstring>
#include <new>

#include "checksum.h"
#include "quantized_group.h"
#include "varint.h"

namespace kvreel {
namespace {

constexpr size_t kRun = 16;  // values of one 4x4 block
constexpr size_t kStreamValues = 16 * 256 * 256 * 3 / 2;

constexpr size_t padded(size_t tokens) noexcept { return (tokens + kRun - 1) / kRun * kRun; }

// Bytes of a section at most: data so wild that it takes more is refused.
size_t section_bound(const KvShape& shape, uint32_t layers, size_t tokens) noexcept {
  return layers * (layer_rows(shape) * tokens * element_bytes(shape.type) * 3 / 2 + 512) + 4096;
}

// One stream's layers and the place of each of their rows.
struct StreamPlan {
  Buffer<QuantizedRow> rows;  // [layer in stream][row]
  Buffer<uint32_t> place;     // [layer in stream][row]: how many rows come before it

  Status resize(const KvShape& shape, uint32_t layers) noexcept {
    const Status status = rows.resize(layer_rows(shape) * layers);
    return status == Status::kOk ? place.resize(layer_rows(shape) * layers) : status;
  }

  void build(const QuantizedModel& model, const KvShape& shape, const QuantizedParameters& parameters, uint32_t first_layer, uint32_t layers) noexcept {
    const size_t count = layer_rows(shape);
    uint32_t next[kTables + 1] = {};
    for (uint32_t l = 0; l < layers; l++) quantized_rows(model, shape, parameters, first_layer + l, rows.data() + l * count);
    for (size_t r = 0; r < layers * count; r++) next[key(rows[r]) + 1]++;
    for (uint32_t i = 0; i < kTables; i++) next[i + 1] += next[i];
    for (size_t r = 0; r < layers * count; r++) place[r] = next[key(rows[r])]++;
  }

 private:
  static constexpr uint32_t kTables = tables_of_cap(kClassCapHevc);

  // Widest first. A row's tables stand for the spread that is left without its low bits.
  static uint32_t key(const QuantizedRow& row) noexcept {
    const uint32_t last = row.last_table != 0 && row.last_table < row.first_table ? row.last_table : row.first_table;
    return kTables - 1 - (last < kTables ? last : kTables - 1);
  }
};

struct EncodeScratch {
  GroupScratch group;
  Buffer<uint16_t> upper, lower;  // of a whole layer
  Buffer<float> floats, factors;
  Buffer<uint8_t> symbols;  // [row][token], of one layer's group
  Buffer<int8_t> values;
  Buffer<uint8_t> video, side;
  StreamPlan plan;
};

class HevcEncodeJob final : public EncodeJob {
 public:
  HevcEncodeJob(const TensorLayout& layout, uint32_t group_tokens, const QuantizedParameters& parameters, ConstBytes tensor, Bytes out) noexcept
      : layout_(layout), group_tokens_(group_tokens), parameters_(parameters), tensor_(tensor), out_(out), rows_(layer_rows(layout.shape)) {}

  ~HevcEncodeJob() override { delete[] scratch_; }

  Status start(uint32_t workers) noexcept override {
    const KvShape& shape = layout_.shape;
    EncodeBound bound{};
    Status status = hevc_chunk_bound(shape, group_tokens_, &bound);
    if (status != Status::kOk) return status;
    if (out_.size < bound.sections) return Status::kBufferTooSmall;
    size_t bytes = 0;
    if (tensor_bytes(shape, &bytes) != Status::kOk || tensor_.size != bytes) return Status::kInvalidArgument;
    groups_ = group_count(shape.tokens, group_tokens_);
    streams_ = hevc_streams(shape, group_tokens_);
    stream_bound_ = section_bound(shape, streams_.layers, group_tokens_);
    status = model_.resize(shape, 0);
    if (status == Status::kOk) status = sections_.resize(size_t(groups_) * streams_.count);
    if (status == Status::kOk) status = rotation_.build(parameters_, shape);
    if (status != Status::kOk) return status;
    scratch_ = new (std::nothrow) EncodeScratch[workers];
    if (scratch_ == nullptr) return Status::kOutOfMemory;
    const HevcShape video = hevc_stream_shape(shape, streams_.layers, group_tokens_);
    const size_t values = rows_ * shape.tokens;
    for (uint32_t w = 0; w < workers; w++) {
      EncodeScratch& s = scratch_[w];
      if (s.group.resize(shape, group_tokens_) != Status::kOk || s.upper.resize(values) != Status::kOk || s.lower.resize(values) != Status::kOk ||
          s.floats.resize(values) != Status::kOk || s.factors.resize(4 * shape.tokens) != Status::kOk ||
          s.symbols.resize(rows_ * group_tokens_) != Status::kOk || s.values.resize(hevc_values(video)) != Status::kOk ||
          s.video.resize(hevc_encode_bound(video)) != Status::kOk ||
          s.side.resize(streams_.layers * (side_bound(shape, group_tokens_) + kVarintBound) + 16) != Status::kOk ||
          s.plan.resize(shape, streams_.layers) != Status::kOk) {
        return Status::kOutOfMemory;
      }
    }
    return Status::kOk;
  }

  uint32_t phases() const noexcept override { return 2; }
  uint32_t units(uint32_t phase) const noexcept override { return phase == 0 ? layout_.shape.layers : groups_ * streams_.count; }
  Status run(uint32_t phase, uint32_t unit, uint32_t worker) noexcept override {
    return phase == 0 ? describe_layer(unit, scratch_[worker]) : encode_stream(unit, scratch_[worker]);
  }

  Status settle(uint32_t phase) noexcept override {
    if (phase == 1) {
      move_sections_together({sections_.data(), sections_.size()}, 1, out_);
      return Status::kOk;
    }
    const Status status = model_bytes_.resize(QuantizedModel::bound(layout_.shape));
    return status == Status::kOk ? model_.write(layout_.shape, {model_bytes_.data(), model_bytes_.size()}, &model_length_) : status;
  }

 private:
  Status load(const GroupContext& context, size_t token_begin, size_t tokens, EncodeScratch& s) noexcept {
    LayerAddress address;
    const Status status = layer_address(layout_.order, layout_.shape, layout_.block_tokens, context.layer, &address);
    if (status != Status::kOk) return status;
    load_rows(tensor_.data, address, layout_.shape, token_begin, tokens, s.upper.data(), s.lower.data(), tokens);
    load_floats(context, s.upper.data(), s.lower.data(), token_begin, tokens, s.floats.data());
    return Status::kOk;
  }

  Status describe_layer(uint32_t layer, EncodeScratch& s) noexcept {
    const GroupContext context{layout_.shape, parameters_, model_, rotation_, layer, nullptr};
    const Status status = load(context, 0, layout_.shape.tokens, s);
    if (status != Status::kOk) return status;
    return describe_quantized_layer(s.floats.data(), layout_.shape, parameters_, layer, s.factors.data(), &model_);
  }

  Status encode_stream(uint32_t unit, EncodeScratch& s) noexcept {
    const KvShape& shape = layout_.shape;
    const uint32_t first_layer = unit % streams_.count * streams_.layers;
    const uint32_t layers = shape.layers - first_layer < streams_.layers ? shape.layers - first_layer : streams_.layers;
    const size_t begin = size_t(unit / streams_.count) * group_tokens_;
    const size_t tokens = shape.tokens - begin < group_tokens_ ? shape.tokens - begin : group_tokens_;
    const HevcShape video_shape = hevc_stream_shape(shape, layers, tokens);
    const size_t values = hevc_values(video_shape);
    s.plan.build(model_, shape, parameters_, first_layer, layers);
    std::memset(s.values.data(), 0, values);
    uint8_t* side = s.side.data();
    for (uint32_t l = 0; l < layers; l++) {
      const GroupContext context{shape, parameters_, model_, rotation_, first_layer + l, s.plan.rows.data() + l * rows_};
      Status status = load(context, begin, tokens, s);
      if (status != Status::kOk) return status;
      int16_t* const q = s.group.q.data();
      quantize_group(context, s.floats.data(), begin, tokens, s.factors.data(), q);
      s.group.low_bits.prepare(model_, shape, context.layer, begin, tokens);
      const size_t escapes = group_symbols(context, s.group.low_bits, q, tokens, tokens, s.symbols.data(), tokens);
      side += write_varint(escapes, side);
      side += write_side(context, s.group.low_bits, q, s.upper.data(), s.lower.data(), tokens, s.symbols.data(), tokens, begin, tokens, side);
      for (size_t r = 0; r < rows_; r++) {
        int8_t* const run = s.values.data() + size_t(s.plan.place[l * rows_ + r]) * padded(tokens);
        const uint8_t* symbols = s.symbols.data() + r * tokens;
        for (size_t t = 0; t < tokens; t++) run[t] = int8_t(symbols[t] - kSymbolZero);
      }
    }
    size_t video = 0;
    const Status status = hevc_encode(video_shape, {s.values.data(), values}, {s.video.data(), s.video.size()}, &video, cancel_);
    if (status != Status::kOk) return status;
    return write_section(unit, {s.video.data(), video}, {s.side.data(), size_t(side - s.side.data())}, section_bound(shape, layers, tokens));
  }

  Status write_section(uint32_t unit, ConstBytes video, ConstBytes side, size_t bound) noexcept {
    uint8_t head[kVarintBound];
    const size_t head_bytes = write_varint(video.size, head), length = head_bytes + video.size + side.size;
    if (length > bound) return Status::kUnsupported;
    uint8_t* const out = out_.data + unit * stream_bound_;
    std::memcpy(out, head, head_bytes);
    std::memcpy(out + head_bytes, video.data, video.size);
    std::memcpy(out + head_bytes + video.size, side.data, side.size);
    sections_[unit] = {unit * stream_bound_, length, xxh3_64({out, length})};
    return Status::kOk;
  }

  const TensorLayout layout_;
  const uint32_t group_tokens_;
  const QuantizedParameters parameters_;
  const ConstBytes tensor_;
  const Bytes out_;
  const size_t rows_;
  uint32_t groups_ = 0;
  HevcStreams streams_{};
  size_t stream_bound_ = 0;
  EncodeScratch* scratch_ = nullptr;
  RowRotation rotation_;
  QuantizedModel model_;
};

struct DecodeScratch {
  GroupScratch group;
  Buffer<int8_t> values;
  Buffer<uint8_t> symbols;  // [row][token]
  StreamPlan plan;
};

class HevcDecodeJob final : public ChunkJob {
 public:
  HevcDecodeJob(const DecodeRequest& request, const QuantizedParameters& parameters) noexcept
      : request_(request), parameters_(parameters), rows_(layer_rows(request.source)) {}

  ~HevcDecodeJob() override { delete[] scratch_; }

  Status start(uint32_t workers) noexcept override {
    EncodeBound bound{};
    Status status = hevc_chunk_bound(request_.source, request_.group_tokens, &bound);
    if (status == Status::kOk) status = request_.sink->start(workers, request_.group_tokens);
    if (status == Status::kOk) status = model_.read(request_.model, request_.source, false);
    if (status == Status::kOk) status = rotation_.build(parameters_, request_.source);
    if (status != Status::kOk) return status;
    streams_ = hevc_streams(request_.source, request_.group_tokens);
    first_stream_ = request_.selection.layer_begin / streams_.layers;
    stream_count_ = (request_.selection.layer_begin + request_.selection.layer_count - 1) / streams_.layers - first_stream_ + 1;
    scratch_ = new (std::nothrow) DecodeScratch[workers];
    if (scratch_ == nullptr) return Status::kOutOfMemory;
    const HevcShape video = hevc_stream_shape(request_.source, streams_.layers, request_.group_tokens);
    for (uint32_t w = 0; w < workers; w++) {
      DecodeScratch& s = scratch_[w];
      if (s.group.resize(request_.source, request_.group_tokens) != Status::kOk || s.values.resize(hevc_values(video)) != Status::kOk ||
          s.symbols.resize(rows_ * request_.group_tokens) != Status::kOk || s.plan.resize(request_.source, streams_.layers) != Status::kOk) {
        return Status::kOutOfMemory;
      }
    }
    return Status::kOk;
  }

  uint32_t phases() const noexcept override { return 1; }
  uint32_t units(uint32_t) const noexcept override { return request_.selection.group_count * stream_count_; }
  Status settle(uint32_t) noexcept override { return Status::kOk; }

  Status run(uint32_t, uint32_t unit, uint32_t worker) noexcept override {
    DecodeScratch& s = scratch_[worker];
    ConstBytes in;
    const Status opened = request_.open_section(unit, &in);
    if (opened != Status::kOk) return opened;

    const uint32_t first_layer = (first_stream_ + unit % stream_count_) * streams_.layers;
    const uint32_t layers = request_.source.layers - first_layer < streams_.layers ? request_.source.layers - first_layer : streams_.layers;
    const uint32_t group = unit / stream_count_;
    const size_t begin = size_t(request_.selection.group_begin + group) * request_.group_tokens;
    const size_t tokens = request_.source.tokens - begin < request_.group_tokens ? request_.source.tokens - begin : request_.group_tokens;
    const HevcShape video_shape = hevc_stream_shape(request_.source, layers, tokens);
    size_t used = 0;
    uint64_t video = 0;
    if (!read_varint(in, &used, &video) || video > in.size - used) return Status::kCorrupt;
    const Status decoded = hevc_decode(video_shape, in.sub(used, video), {s.values.data(), hevc_values(video_shape)}, cancel_);
    if (decoded != Status::kOk) return decoded;
    in = in.from(used + video);

    s.plan.build(model_, request_.source, parameters_, first_layer, layers);
    for (uint32_t l = 0; l < layers; l++) {
      const GroupContext context{request_.source, parameters_, model_, rotation_, first_layer + l, s.plan.rows.data() + l * rows_};
      s.group.low_bits.prepare(model_, request_.source, context.layer, begin, tokens);
      ConstBytes side;
      if (!take_side(context, s.group.low_bits, begin, tokens, &in, &side)) return Status::kCorrupt;
      if (context.layer < request_.selection.layer_begin || context.layer >= request_.selection.layer_begin + request_.selection.layer_count) continue;
      for (size_t r = 0; r < rows_; r++) {
        const int8_t* run = s.values.data() + size_t(s.plan.place[l * rows_ + r]) * padded(tokens);
        uint8_t* const symbols = s.symbols.data() + r * tokens;
        for (size_t t = 0; t < tokens; t++) symbols[t] = uint8_t(run[t] + kSymbolZero);
      }
      if (side.size > 0) std::memcpy(s.group.side.data(), side.data, side.size);
      const Status status = restore_group(context, s.symbols.data(), {s.group.side.data(), side.size}, begin, tokens, &s.group, request_.sink,
                                          context.layer - request_.selection.layer_begin, size_t(group) * request_.group_tokens, worker);
      if (status != Status::kOk) return status;
    }
    return in.size == 0 ? Status::kOk : Status::kCorrupt;
  }

 private:
  // Cuts the next layer's side bytes off `in`.
  bool take_side(const GroupContext& context, LowBits& low_bits, size_t begin, size_t tokens, ConstBytes* in, ConstBytes* side) const noexcept {
    size_t used = 0;
    uint64_t escapes = 0;
    if (!read_varint(*in, &used, &escapes) || escapes > rows_ * tokens) return false;
    const size_t length = side_bytes(context, low_bits, begin, tokens) + 2 * escapes;
    if (length > in->size - used) return false;
    *side = in->sub(used, length);
    *in = in->from(used + length);
    return true;
  }

  const DecodeRequest request_;
  const QuantizedParameters parameters_;
  const size_t rows_;
  HevcStreams streams_{};
  uint32_t first_stream_ = 0, stream_count_ = 0;
  RowRotation rotation_;
  QuantizedModel model_;
  DecodeScratch* scratch_ = nullptr;
};

}  // namespace

HevcStreams hevc_streams(const KvShape& shape, uint32_t group_tokens) noexcept {
  const size_t layer_values = layer_rows(shape) * padded(group_tokens);
  const size_t fit = kStreamValues / layer_values;
  const uint32_t most = fit == 0 ? 1 : fit < shape.layers ? uint32_t(fit) : shape.layers;
  const uint32_t count = (shape.layers + most - 1) / most;
  const uint32_t layers = (shape.layers + count - 1) / count;
  return {(shape.layers + layers - 1) / layers, layers};
}

HevcShape hevc_stream_shape(const KvShape& shape, uint32_t layers, size_t tokens) noexcept {
  const size_t values = layers * layer_rows(shape) * padded(tokens);
  // The largest class that gives at least two pictures, which are coded side by side.
  HevcShape video{256, 256, 0};
  for (uint16_t side = 512; side <= 2048 && values > size_t(side) * side * 3 / 2; side = uint16_t(2 * side)) video = {side, side, 0};
  const size_t picture = size_t(video.width) * video.height * 3 / 2, pictures = (values + picture - 1) / picture;
  video.pictures = pictures <= 32767 ? uint16_t(pictures) : uint16_t(0);
  return video;
}

Status hevc_chunk_bound(const KvShape& shape, uint32_t group_tokens, EncodeBound* bound) noexcept {
  size_t bytes = 0;
  const Status status = tensor_bytes(shape, &bytes);
  if (status != Status::kOk) return status;
  if (group_tokens == 0 || group_tokens > shape.tokens) return Status::kInvalidArgument;
  if (element_bytes(shape.type) == 1) return Status::kUnsupported;
  const HevcStreams streams = hevc_streams(shape, group_tokens);
  if (hevc_stream_shape(shape, streams.layers, group_tokens).pictures == 0) return Status::kUnsupported;
  bound->model = QuantizedModel::bound(shape);
  const uint64_t count = uint64_t(group_count(shape.tokens, group_tokens)) * streams.count;
  return checked_bytes({count, section_bound(shape, streams.layers, group_tokens)}, &bound->sections) ? Status::kOk : Status::kInvalidArgument;
}

EncodeJob* hevc_encode_job(const TensorLayout& layout, uint32_t group_tokens, const QuantizedParameters& parameters, ConstBytes tensor, Bytes out) noexcept {
  return new (std::nothrow) HevcEncodeJob(layout, group_tokens, parameters, tensor, out);
}

ChunkJob* hevc_decode_job(const DecodeRequest& request, const QuantizedParameters& parameters) noexcept {
  return new (std::nothrow) HevcDecodeJob(request, parameters);
}

}  // namespace kvreel
