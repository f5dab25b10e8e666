#include "quantized_rans.h"

#include <cstring>
#include <new>

#include "checksum.h"
#include "quantized_group.h"
#include "varint.h"

namespace kvreel {
namespace {

// Groups that go through rANS together.
constexpr size_t kLockstep = 8;

// Bytes of a section at most: data so wild that its integers take more than half as much again as its elements is refused.
size_t section_bound(const KvShape& shape, size_t tokens) noexcept { return layer_rows(shape) * tokens * element_bytes(shape.type) * 3 / 2 + 512; }

// Bytes that are needed to find out how long a section is.
size_t section_room(const KvShape& shape, size_t tokens) noexcept {
  return kVarintBound + rans_encode_bound(layer_rows(shape), tokens) + side_bound(shape, tokens);
}

// How many of a section's side bytes travel in the rANS states.
size_t carried_bytes(size_t side, size_t tokens) noexcept { return side < rans_carried_bytes(tokens) ? side : rans_carried_bytes(tokens); }

// Rows walked table by table.
struct PlanMemory {
  Buffer<uint16_t> order;
  Buffer<uint8_t> first_table, last_table;

  Status resize(size_t rows) noexcept {
    if (order.resize(rows) != Status::kOk || first_table.resize(rows) != Status::kOk) return Status::kOutOfMemory;
    return last_table.resize(rows);
  }

  RansPlan plan(const QuantizedRow* rows) noexcept {
    uint32_t next[257] = {};
    for (size_t r = 0; r < order.size(); r++) {
      first_table[r] = rows[r].first_table;
      last_table[r] = rows[r].last_table;
      next[rows[r].first_table + 1]++;
    }
    for (uint32_t i = 0; i < 256; i++) next[i + 1] += next[i];
    for (size_t r = 0; r < order.size(); r++) order[next[rows[r].first_table]++] = uint16_t(r);
    return {{order.data(), order.size()}, first_table.data(), last_table.data()};
  }
};

// A token of K moves its rows' tables by an octave of spread for each half octave of its norm.
void table_shifts(const QuantizedModel& model, const KvShape& shape, uint32_t layer, size_t token_begin, size_t tokens, int32_t* shifts) noexcept {
  const int8_t* codes = model.token_code.data() + size_t(layer) * shape.planes * shape.tokens + token_begin;
  for (size_t t = 0; t < tokens; t++) shifts[t] = 4 * codes[t];
}

struct EncodeScratch {
  Buffer<uint16_t> upper, lower;
  Buffer<float> floats, factors;
  Buffer<int16_t> q;
  Buffer<uint8_t> symbols, streams, sides, section;
  Buffer<QuantizedRow> rows;
  Buffer<int32_t> shifts;
  Buffer<uint32_t> histograms;
  LowBits low_bits;
  PlanMemory plan;
};

class RansEncodeJob final : public EncodeJob {
 public:
  RansEncodeJob(const TensorLayout& layout, uint32_t group_tokens, const QuantizedParameters& parameters, ConstBytes tensor, Bytes out) noexcept
      : layout_(layout), group_tokens_(group_tokens), parameters_(parameters), tensor_(tensor), out_(out), rows_(layer_rows(layout.shape)) {}

  ~RansEncodeJob() override { delete[] scratch_; }

  Status start(uint32_t workers) noexcept override {
    const KvShape& shape = layout_.shape;
    EncodeBound bound{};
    Status status = rans_encode_bound(shape, group_tokens_, &bound);
    if (status != Status::kOk) return status;
    if (out_.size < bound.sections) return Status::kBufferTooSmall;
    size_t bytes = 0;
    if (tensor_bytes(shape, &bytes) != Status::kOk || tensor_.size != bytes) return Status::kInvalidArgument;
    groups_ = group_count(shape.tokens, group_tokens_);
    layer_bound_ = groups_ * section_bound(shape, group_tokens_);
    status = model_.resize(shape, tables_of_cap(rans_class_cap(parameters_)));
    if (status == Status::kOk) status = sections_.resize(size_t(shape.layers) * groups_);
    if (status == Status::kOk) status = encode_tables_.resize(model_.tables.size());
    if (status == Status::kOk) status = rotation_.build(parameters_, shape);
    if (status != Status::kOk) return status;
    scratch_ = new (std::nothrow) EncodeScratch[workers];
    if (scratch_ == nullptr) return Status::kOutOfMemory;
    workers_ = workers;
    const size_t values = rows_ * shape.tokens;
    for (uint32_t w = 0; w < workers; w++) {
      EncodeScratch& s = scratch_[w];
      if (s.upper.resize(values) != Status::kOk || s.lower.resize(values) != Status::kOk || s.floats.resize(values) != Status::kOk ||
          s.factors.resize(4 * shape.tokens) != Status::kOk || s.q.resize(values) != Status::kOk || s.symbols.resize(values) != Status::kOk ||
          s.streams.resize(kLockstep * kvreel::rans_encode_bound(rows_, group_tokens_)) != Status::kOk ||
          s.sides.resize(kLockstep * side_room()) != Status::kOk || s.section.resize(section_room(shape, group_tokens_)) != Status::kOk ||
          s.rows.resize(rows_) != Status::kOk || s.shifts.resize(shape.tokens) != Status::kOk || s.low_bits.resize(shape.tokens) != Status::kOk ||
          s.histograms.resize(model_.tables.size() * kRansSymbols) != Status::kOk || s.plan.resize(rows_) != Status::kOk) {
        return Status::kOutOfMemory;
      }
      std::memset(s.histograms.data(), 0, s.histograms.size() * sizeof(uint32_t));
    }
    return Status::kOk;
  }

  uint32_t phases() const noexcept override { return 2; }
  uint32_t units(uint32_t) const noexcept override { return layout_.shape.layers; }
  Status run(uint32_t phase, uint32_t layer, uint32_t worker) noexcept override {
    return phase == 0 ? describe_layer(layer, scratch_[worker]) : encode_layer(layer, scratch_[worker]);
  }
  Status settle(uint32_t phase) noexcept override { return phase == 0 ? build_tables() : close_gaps(); }

 private:
  GroupContext context(uint32_t layer, EncodeScratch& s) const noexcept {
    return {layout_.shape, parameters_, model_, rotation_, layer, s.rows.data()};
  }

  Status load_layer(uint32_t layer, EncodeScratch& s) noexcept {
    LayerAddress address;
    const Status status = layer_address(layout_.order, layout_.shape, layout_.block_tokens, layer, &address);
    if (status != Status::kOk) return status;
    const size_t tokens = layout_.shape.tokens;
    load_rows(tensor_.data, address, layout_.shape, 0, tokens, s.upper.data(), s.lower.data(), tokens);
    load_floats(context(layer, s), s.upper.data(), s.lower.data(), 0, tokens, s.floats.data());
    return Status::kOk;
  }

  // The whole layer as symbols; returns the number of escapes.
  size_t quantize_layer(uint32_t layer, EncodeScratch& s) noexcept {
    const size_t tokens = layout_.shape.tokens;
    quantized_rows(model_, layout_.shape, parameters_, layer, s.rows.data());
    const GroupContext layer_context = context(layer, s);
    quantize_group(layer_context, s.floats.data(), 0, tokens, s.factors.data(), s.q.data());
    s.low_bits.prepare(model_, layout_.shape, layer, 0, tokens);
    table_shifts(model_, layout_.shape, layer, 0, tokens, s.shifts.data());
    return group_symbols(layer_context, s.low_bits, s.q.data(), tokens, tokens, s.symbols.data(), tokens);
  }

  Status describe_layer(uint32_t layer, EncodeScratch& s) noexcept {
    Status status = load_layer(layer, s);
    if (status == Status::kOk) status = describe_quantized_layer(s.floats.data(), layout_.shape, parameters_, layer, s.factors.data(), &model_);
    if (status != Status::kOk) return status;
    quantize_layer(layer, s);
    const RansPlan plan = s.plan.plan(s.rows.data());
    const size_t tokens = layout_.shape.tokens;
    for (size_t r = 0; r < rows_; r++) {
      const uint8_t* symbols = s.symbols.data() + r * tokens;
      if (plan.last_table_of_channel[r] == 0) {
        uint32_t* const histogram = s.histograms.data() + plan.table_of_channel[r] * kRansSymbols;
        for (size_t t = 0; t < tokens; t++) histogram[symbols[t]]++;
      } else {
        for (size_t t = 0; t < tokens; t++) s.histograms[rans_table_of(plan, r, s.shifts.data(), t) * kRansSymbols + symbols[t]]++;
      }
    }
    return Status::kOk;
  }

  Status build_tables() noexcept {
    for (uint32_t table = 0; table < model_.tables.size(); table++) {
      uint32_t total[kRansSymbols] = {};
      for (uint32_t w = 0; w < workers_; w++) {
        for (size_t s = 0; s < kRansSymbols; s++) total[s] += scratch_[w].histograms[table * kRansSymbols + s];
      }
      rans_normalise(total, kSymbolEscape, &model_.tables[table]);
      rans_build_encode_table(model_.tables[table], &encode_tables_[table]);
    }
    const Status status = model_bytes_.resize(QuantizedModel::bound(layout_.shape));
    return status == Status::kOk ? model_.write(layout_.shape, {model_bytes_.data(), model_bytes_.size()}, &model_length_) : status;
  }

  Status encode_layer(uint32_t layer, EncodeScratch& s) noexcept {
    const Status status = load_layer(layer, s);
    if (status != Status::kOk) return status;
    quantize_layer(layer, s);
    const RansPlan plan = s.plan.plan(s.rows.data());
    const size_t tokens = layout_.shape.tokens;
    for (size_t r = 0; r < rows_; r++) {
      uint8_t* symbols = s.symbols.data() + r * tokens;
      // A symbol that got no slot in its table is sent as an escape.
      const auto keep = [](const RansEncodeTable& table, uint8_t symbol) noexcept { return table.symbol[symbol] != 0 ? symbol : kSymbolEscape; };
      if (plan.last_table_of_channel[r] == 0) {
        const RansEncodeTable& table = encode_tables_[plan.table_of_channel[r]];
        for (size_t t = 0; t < tokens; t++) symbols[t] = keep(table, symbols[t]);
      } else {
        for (size_t t = 0; t < tokens; t++) symbols[t] = keep(encode_tables_[rans_table_of(plan, r, s.shifts.data(), t)], symbols[t]);
      }
    }
    uint64_t offset = layer * layer_bound_;
    const uint32_t full = layout_.shape.tokens / group_tokens_;
    for (uint32_t g = 0; g < groups_;) {
      // Groups of equal length go through the rANS encoder together; the last one may be shorter.
      const uint32_t count = g >= full ? 1 : full - g < kLockstep ? full - g : uint32_t(kLockstep);
      const size_t group_tokens = g >= full ? tokens - size_t(full) * group_tokens_ : group_tokens_;
      const Status encoded = encode_groups(layer, g, count, group_tokens, plan, s, &offset);
      if (encoded != Status::kOk) return encoded;
      g += count;
    }
    return Status::kOk;
  }

  // Writes `count` sections to `out_` from *offset and moves it on.
  Status encode_groups(uint32_t layer, uint32_t group, uint32_t count, size_t tokens, const RansPlan& plan, EncodeScratch& s, uint64_t* offset) noexcept {
    const size_t stride = layout_.shape.tokens, bound = kvreel::rans_encode_bound(rows_, group_tokens_);
    const GroupContext layer_context = context(layer, s);
    RansEncodeStream streams[kLockstep];
    size_t side[kLockstep], fixed[kLockstep];
    for (uint32_t i = 0; i < count; i++) {
      const size_t begin = size_t(group + i) * group_tokens_;
      uint8_t* const bytes = s.sides.data() + i * side_room();
      s.low_bits.prepare(model_, layout_.shape, layer, begin, tokens);
      fixed[i] = side_bytes(layer_context, s.low_bits, begin, tokens);
      side[i] = write_side(layer_context, s.low_bits, s.q.data() + begin, s.upper.data() + begin, s.lower.data() + begin, stride,
                           s.symbols.data() + begin, stride, begin, tokens, bytes);
      streams[i] = {s.symbols.data() + begin, s.shifts.data() + begin, {}, {s.streams.data() + i * bound, bound}, {}};
      std::memcpy(streams[i].carried.byte, bytes, carried_bytes(side[i], tokens));
    }
    rans_encode(plan, encode_tables_.data(), {streams, count}, stride, tokens);
    for (uint32_t i = 0; i < count; i++) {
      const size_t carried = carried_bytes(side[i], tokens);
      uint8_t* p = s.section.data();
      p += write_varint((side[i] - fixed[i]) / 2, p);
      std::memcpy(p, streams[i].encoded.data, streams[i].encoded.size);
      p += streams[i].encoded.size;
      std::memcpy(p, s.sides.data() + i * side_room() + carried, side[i] - carried);
      p += side[i] - carried;
      const size_t length = size_t(p - s.section.data());
      if (length > section_bound(layout_.shape, tokens)) return Status::kUnsupported;
      std::memcpy(out_.data + *offset, s.section.data(), length);
      sections_[size_t(layer) * groups_ + group + i] = {*offset, length, xxh3_64({s.section.data(), length})};
      *offset += length;
    }
    return Status::kOk;
  }

  // Each layer was written where it could have been at its largest; now they are moved together.
  Status close_gaps() noexcept {
    move_sections_together({sections_.data(), sections_.size()}, groups_, out_);
    return Status::kOk;
  }

  // Side bytes of one group, with space for what vector stores write too much.
  size_t side_room() const noexcept { return side_bound(layout_.shape, group_tokens_) + 16; }

  const TensorLayout layout_;
  const uint32_t group_tokens_;
  const QuantizedParameters parameters_;
  const ConstBytes tensor_;
  const Bytes out_;
  const size_t rows_;
  uint32_t groups_ = 0, workers_ = 0;
  uint64_t layer_bound_ = 0;
  EncodeScratch* scratch_ = nullptr;
  RowRotation rotation_;
  QuantizedModel model_;
  Buffer<RansEncodeTable> encode_tables_;
};

struct DecodeScratch {
  GroupScratch group;
  Buffer<uint8_t> symbols;  // [lockstep][row][token]
  Buffer<int32_t> shifts;   // [lockstep][token]
  Buffer<QuantizedRow> rows;
  PlanMemory plan;
};

class RansDecodeJob final : public ChunkJob {
 public:
  RansDecodeJob(const DecodeRequest& request, const QuantizedParameters& parameters) noexcept
      : request_(request), parameters_(parameters), rows_(layer_rows(request.source)) {}

  ~RansDecodeJob() override { delete[] scratch_; }

  Status start(uint32_t workers) noexcept override {
    EncodeBound bound{};
    Status status = rans_encode_bound(request_.source, request_.group_tokens, &bound);
    if (status == Status::kOk) status = request_.sink->start(workers, request_.group_tokens);
    if (status == Status::kOk) status = model_.read(request_.model, request_.source, true);
    if (status == Status::kOk) status = rotation_.build(parameters_, request_.source);
    if (status == Status::kOk) status = tables_.resize(model_.tables.size());
    if (status != Status::kOk) return status;
    for (size_t i = 0; i < tables_.size(); i++) rans_build_decode_table(model_.tables[i], &tables_[i]);
    scratch_ = new (std::nothrow) DecodeScratch[workers];
    if (scratch_ == nullptr) return Status::kOutOfMemory;
    for (uint32_t w = 0; w < workers; w++) {
      DecodeScratch& s = scratch_[w];
      if (s.group.resize(request_.source, request_.group_tokens) != Status::kOk || s.symbols.resize(kLockstep * rows_ * request_.group_tokens) != Status::kOk ||
          s.shifts.resize(kLockstep * request_.group_tokens) != Status::kOk || s.rows.resize(rows_) != Status::kOk || s.plan.resize(rows_) != Status::kOk) {
        return Status::kOutOfMemory;
      }
    }
    return Status::kOk;
  }

  uint32_t phases() const noexcept override { return 1; }
  uint32_t units(uint32_t) const noexcept override { return request_.selection.layer_count; }

  Status run(uint32_t, uint32_t unit, uint32_t worker) noexcept override {
    DecodeScratch& s = scratch_[worker];
    quantized_rows(model_, request_.source, parameters_, request_.selection.layer_begin + unit, s.rows.data());
    const RansPlan plan = s.plan.plan(s.rows.data());
    const size_t full = request_.selection.group_begin + request_.selection.group_count <= request_.source.tokens / request_.group_tokens ? request_.selection.group_count : request_.selection.group_count - 1;
    Status status = Status::kOk;
    for (size_t g = 0; g < request_.selection.group_count && status == Status::kOk;) {
      const size_t count = g >= full ? 1 : full - g < kLockstep ? full - g : kLockstep;
      status = decode_groups(unit, g, count, plan, s, worker);
      g += count;
    }
    return status;
  }

  Status settle(uint32_t) noexcept override { return Status::kOk; }

 private:
  Status decode_groups(uint32_t unit, size_t group, size_t count, const RansPlan& plan, DecodeScratch& s, uint32_t worker) noexcept {
    const uint32_t layer = request_.selection.layer_begin + unit;
    const GroupContext context{request_.source, parameters_, model_, rotation_, layer, s.rows.data()};
    const size_t first = (request_.selection.group_begin + group) * request_.group_tokens;
    const size_t tokens = first + request_.group_tokens <= request_.source.tokens ? request_.group_tokens : request_.source.tokens - first;
    RansStream streams[kLockstep];
    ConstBytes side_rest[kLockstep];
    size_t side[kLockstep];
    for (size_t i = 0; i < count; i++) {
      ConstBytes in;
      const Status opened = request_.open_section(size_t(unit) * request_.selection.group_count + group + i, &in);
      if (opened != Status::kOk) return opened;
      size_t used = 0;
      uint64_t escapes = 0;
      if (!read_varint(in, &used, &escapes) || escapes > rows_ * tokens) return Status::kCorrupt;
      in = in.from(used);
      const size_t begin = first + i * request_.group_tokens;
      s.group.low_bits.prepare(model_, request_.source, layer, begin, tokens);
      side[i] = side_bytes(context, s.group.low_bits, begin, tokens) + 2 * escapes;
      const size_t rest = side[i] - carried_bytes(side[i], tokens);
      if (in.size < rest) return Status::kCorrupt;
      side_rest[i] = in.from(in.size - rest);
      int32_t* const shifts = s.shifts.data() + i * tokens;
      table_shifts(model_, request_.source, layer, begin, tokens, shifts);
      streams[i] = {in.first(in.size - rest), s.symbols.data() + i * rows_ * tokens, shifts, {}};
    }
    const Status decoded = rans_decode(plan, tables_.data(), {streams, count}, tokens, tokens);
    if (decoded != Status::kOk) return decoded;
    for (size_t i = 0; i < count; i++) {
      const size_t begin = first + i * request_.group_tokens, carried = carried_bytes(side[i], tokens);
      uint8_t* const bytes = s.group.side.data();
      std::memcpy(bytes, streams[i].carried.byte, carried);
      if (side_rest[i].size > 0) std::memcpy(bytes + carried, side_rest[i].data, side_rest[i].size);
      s.group.low_bits.prepare(model_, request_.source, layer, begin, tokens);
      const Status status = restore_group(context, streams[i].symbols, {bytes, side[i]}, begin, tokens, &s.group, request_.sink, unit,
                                          (group + i) * request_.group_tokens, worker);
      if (status != Status::kOk) return status;
    }
    return Status::kOk;
  }

  const DecodeRequest request_;
  const QuantizedParameters parameters_;
  const size_t rows_;
  RowRotation rotation_;
  QuantizedModel model_;
  Buffer<RansDecodeTable> tables_;
  DecodeScratch* scratch_ = nullptr;
};

}  // namespace

Status rans_encode_bound(const KvShape& shape, uint32_t group_tokens, EncodeBound* bound) noexcept {
  size_t bytes = 0;
  const Status status = tensor_bytes(shape, &bytes);
  if (status != Status::kOk) return status;
  if (group_tokens == 0 || group_tokens > shape.tokens) return Status::kInvalidArgument;
  if (element_bytes(shape.type) == 1) return Status::kUnsupported;
  bound->model = QuantizedModel::bound(shape);
  const bool fits = checked_bytes({shape.layers, group_count(shape.tokens, group_tokens), section_bound(shape, group_tokens)}, &bound->sections);
  return fits ? Status::kOk : Status::kInvalidArgument;
}

EncodeJob* rans_encode_job(const TensorLayout& layout, uint32_t group_tokens, const QuantizedParameters& parameters, ConstBytes tensor, Bytes out) noexcept {
  return new (std::nothrow) RansEncodeJob(layout, group_tokens, parameters, tensor, out);
}

ChunkJob* rans_decode_job(const DecodeRequest& request, const QuantizedParameters& parameters) noexcept {
  return new (std::nothrow) RansDecodeJob(request, parameters);
}

}  // namespace kvreel
