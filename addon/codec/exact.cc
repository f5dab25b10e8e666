#include "exact.h"

#include <cmath>
#include <cstring>
#include <new>

#include "checksum.h"
#include "cpu.h"
#include "exact_model.h"
#include "little_endian.h"
#include "rows.h"
#include "varint.h"

namespace kvreel {
namespace {

// A channel's class while its table is not yet numbered: spread << 4 | place in bin << 2 | balance of signs.
constexpr uint32_t kClasses = 256;
// Groups that go through rANS together.
constexpr size_t kLockstep = 8;
constexpr int kSpreadBias = 3;

// Raw low bits at most, by element type: where a channel spreads widely, finer bins than these buy nothing.
uint32_t max_shift(ElementType type) noexcept { return type == ElementType::kF16 ? 10 : element_bytes(type) == 1 ? 3 : 7; }

uint32_t shift_of_class(uint32_t channel_class, ElementType type) noexcept {
  const int shift = int(channel_class >> 4) - kSpreadBias;
  if (shift < 0) return 0;
  return uint32_t(shift) < max_shift(type) ? uint32_t(shift) : max_shift(type);
}

// The row loops in the variant that this processor runs.
ExactSums sum_row(const uint16_t* row, size_t tokens, uint32_t bits) noexcept {
#if defined(KVREEL_AVX2)
  if (cpu_has_avx2()) return exact_sum_row_avx2(row, tokens, bits);
#endif
  return exact_sum_row(row, tokens, bits);
}

uint64_t deviation_of_row(const uint16_t* row, size_t tokens, uint32_t bits, uint16_t mean) noexcept {
#if defined(KVREEL_AVX2)
  if (cpu_has_avx2()) return exact_deviation_of_row_avx2(row, tokens, bits, mean);
#endif
  return exact_deviation_of_row(row, tokens, bits, mean);
}

size_t symbols_of_row(const uint16_t* row, size_t tokens, const ExactChannel& channel, ExactBinRange range, uint32_t bits, uint8_t* symbols) noexcept {
#if defined(KVREEL_AVX2)
  if (cpu_has_avx2()) return exact_symbols_of_row_avx2(row, tokens, channel, range, bits, symbols);
#endif
  return exact_symbols_of_row(row, tokens, channel, range, bits, symbols);
}

void restore_rows(const uint8_t* symbols, size_t tokens, Span<const ExactChannel> channels, uint32_t bits, const uint8_t* low, uint16_t* out) noexcept {
#if defined(KVREEL_AVX2)
  if (cpu_has_avx512()) return exact_restore_rows_avx512(symbols, tokens, channels, bits, low, out);
  if (tokens % 16 == 0 && cpu_has_avx2()) return exact_restore_rows_avx2(symbols, tokens, channels, bits, low, out);
#endif
  exact_restore_rows(symbols, tokens, channels, bits, low, out);
}

size_t pack_rows(const uint16_t* values, size_t stride, size_t tokens, Span<const ExactChannel> channels, uint8_t* out) noexcept {
#if defined(KVREEL_AVX2)
  if (tokens % 16 == 0 && cpu_has_avx2()) return exact_pack_rows_avx2(values, stride, tokens, channels, out);
#endif
  return exact_pack_rows(values, stride, tokens, channels, out);
}

// Looks at one channel and chooses how it is coded; returns its class. `channel->table` is left to be set.
uint32_t describe_channel(const uint16_t* row, size_t tokens, ElementType type, ExactChannel* channel) noexcept {
  const uint32_t bits = exact_magnitude_bits(type);
  const ExactSums sums = sum_row(row, tokens, bits);
  const double mean = double(sums.magnitude) / double(tokens);
  const double spread = double(deviation_of_row(row, tokens, bits, uint16_t(mean))) / double(tokens);
  // Bins half as wide as the mean deviation: finer ones gain less than their larger tables cost.
  int level = spread < 0.125 ? 0 : std::ilogb(spread) - 1 + kSpreadBias;
  if (level < 0) level = 0;
  if (level > 15) level = 15;
  channel->shift = uint8_t(shift_of_class(uint32_t(level) << 4, type));
  const double mean_in_bins = std::ldexp(mean, -int(channel->shift));
  channel->mean_bin = uint16_t(mean_in_bins);
  const uint32_t place = uint32_t((mean_in_bins - channel->mean_bin) * 4);
  double rarer_sign = double(sums.negative) / double(tokens);
  channel->flip = rarer_sign > 0.5;
  if (channel->flip) rarer_sign = 1 - rarer_sign;
  const uint32_t balance = rarer_sign < 0.1 ? 0 : rarer_sign < 0.25 ? 1 : rarer_sign < 0.4 ? 2 : 3;
  return uint32_t(level) << 4 | place << 2 | balance;
}

// The bins that deserve slots in a table: all but tails so rare that escapes are cheaper. The tails' counts become the escape's.
ExactBinRange choose_bins(uint32_t histogram[kRansSymbols]) noexcept {
  uint64_t total = 0;
  for (size_t s = 0; s < kRansSymbols; s++) total += histogram[s];
  const auto rare = [&](uint32_t bin) { return uint64_t(histogram[2 * bin] + histogram[2 * bin + 1]) * kRansScale * 3 < total; };
  ExactBinRange range{0, kExactBins};
  while (range.begin < range.end && rare(range.begin)) range.begin++;
  while (range.end > range.begin && rare(range.end - 1u)) range.end--;
  for (uint32_t s = 0; s < 2 * kExactBins; s++) {
    if (s / 2 >= range.begin && s / 2 < range.end) continue;
    histogram[kExactEscape] += histogram[s];
    histogram[s] = 0;
  }
  return range;
}

// Size of a section's parts that do not depend on the data, for `tokens` tokens.
struct SectionShape {
  size_t low_bits;    // bytes of raw low bits of all channels
  size_t carried;     // how many of those the rANS states carry
  size_t low_halves;  // bytes of raw lower halves of 32-bit elements
};

// How many of a group's low bits travel in the rANS states.
size_t carried_bytes(size_t low_bits, size_t tokens) noexcept {
  return low_bits < rans_carried_bytes(tokens) ? low_bits : rans_carried_bytes(tokens);
}

SectionShape section_shape(bool has_low_halves, Span<const ExactChannel> channels, size_t tokens) noexcept {
  SectionShape shape{};
  for (size_t c = 0; c < channels.size; c++) shape.low_bits += exact_low_bytes(channels[c], tokens);
  shape.carried = carried_bytes(shape.low_bits, tokens);
  shape.low_halves = has_low_halves ? 2 * channels.size * tokens : 0;
  return shape;
}

// A section: LEB128 varint 1 + number of escapes, rANS stream, low bits that it does not carry, escaped values (u16), lower halves (u16).
// Where that would be longer than the elements themselves: varint 0, then the elements by row and token.
size_t section_bound(size_t rows, size_t tokens, ElementType type) noexcept { return 1 + rows * tokens * element_bytes(type); }

size_t coded_section_bound(size_t rows, size_t tokens) noexcept {
  return kVarintBound + rans_encode_bound(rows, tokens) + rows * ((tokens * kExactMaxShift + 7) / 8) + 2 * rows * tokens + 2 * rows * tokens;
}

struct EncodeScratch {
  Buffer<uint16_t> rows, low_halves;
  Buffer<uint8_t> symbols, section;
  Buffer<uint8_t> low_bits, streams;  // [lockstep]
  Buffer<uint16_t> order;
  Buffer<uint8_t> table_of_channel;
  Buffer<uint16_t> escapes;
  Buffer<uint32_t> histograms;  // [token's parity][class][symbol]: two, so that equal neighbours do not wait for each other
  bool low_halves_seen = false;
};

class ExactEncodeJob final : public EncodeJob {
 public:
  ExactEncodeJob(const TensorLayout& layout, uint32_t group_tokens, ConstBytes tensor, Bytes out) noexcept
      : layout_(layout), group_tokens_(group_tokens), tensor_(tensor), out_(out), rows_(layer_rows(layout.shape)) {}

  ~ExactEncodeJob() override { delete[] scratch_; }

  Status start(uint32_t workers) noexcept override {
    const KvShape& shape = layout_.shape;
    EncodeBound bound{};
    const Status status = exact_encode_bound(shape, group_tokens_, &bound);
    if (status != Status::kOk) return status;
    if (out_.size < bound.sections) return Status::kBufferTooSmall;
    size_t bytes = 0;
    if (tensor_bytes(shape, &bytes) != Status::kOk || tensor_.size != bytes) return Status::kInvalidArgument;
    scratch_ = new (std::nothrow) EncodeScratch[workers];
    if (scratch_ == nullptr) return Status::kOutOfMemory;
    workers_ = workers;
    groups_ = group_count(shape.tokens, group_tokens_);
    layer_bound_ = groups_ * section_bound(rows_, group_tokens_, shape.type);
    if (classes_.resize(rows_ * shape.layers) != Status::kOk || model_.channels.resize(rows_ * shape.layers) != Status::kOk ||
        sections_.resize(size_t(shape.layers) * groups_) != Status::kOk) {
      return Status::kOutOfMemory;
    }
    const bool wide = element_bytes(shape.type) == 4;
    for (uint32_t w = 0; w < workers; w++) {
      EncodeScratch& s = scratch_[w];
      const size_t values = rows_ * shape.tokens, in_group = rows_ * group_tokens_;
      if (s.rows.resize(values) != Status::kOk || s.symbols.resize(values) != Status::kOk || s.low_halves.resize(wide ? values : 0) != Status::kOk ||
          s.low_bits.resize(kLockstep * low_bits_room()) != Status::kOk || s.streams.resize(kLockstep * rans_encode_bound(rows_, group_tokens_)) != Status::kOk ||
          s.section.resize(coded_section_bound(rows_, group_tokens_)) != Status::kOk ||
          s.order.resize(rows_) != Status::kOk || s.table_of_channel.resize(rows_) != Status::kOk || s.escapes.resize(in_group) != Status::kOk ||
          s.histograms.resize(2 * kClasses * kRansSymbols) != Status::kOk) {
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
  Status load_layer(uint32_t layer, EncodeScratch& s) noexcept {
    LayerAddress address;
    const Status status = layer_address(layout_.order, layout_.shape, layout_.block_tokens, layer, &address);
    if (status != Status::kOk) return status;
    const size_t tokens = layout_.shape.tokens;
    load_rows(tensor_.data, address, layout_.shape, 0, tokens, s.rows.data(), s.low_halves.data(), tokens);
    return Status::kOk;
  }

  Status describe_layer(uint32_t layer, EncodeScratch& s) noexcept {
    const Status status = load_layer(layer, s);
    if (status != Status::kOk) return status;
    const size_t tokens = layout_.shape.tokens;
    const ElementType type = layout_.shape.type;
    for (size_t r = 0; r < rows_; r++) {
      ExactChannel& channel = model_.channels[layer * rows_ + r];
      const uint16_t* row = s.rows.data() + r * tokens;
      const uint32_t channel_class = describe_channel(row, tokens, type, &channel);
      classes_[layer * rows_ + r] = uint8_t(channel_class);
      uint8_t* symbols = s.symbols.data();
      symbols_of_row(row, tokens, channel, {0, kExactBins}, exact_magnitude_bits(type), symbols);
      uint32_t* even = s.histograms.data() + channel_class * kRansSymbols;
      uint32_t* odd = even + kClasses * kRansSymbols;
      size_t t = 0;
      for (; t + 2 <= tokens; t += 2) {
        even[symbols[t]]++;
        odd[symbols[t + 1]]++;
      }
      if (t < tokens) even[symbols[t]]++;
    }
    for (size_t i = 0; i < s.low_halves.size() && !s.low_halves_seen; i++) s.low_halves_seen = s.low_halves[i] != 0;
    return Status::kOk;
  }

  Status build_tables() noexcept {
    uint8_t table_of_class[kClasses] = {};
    bool used[kClasses] = {};
    uint32_t count = 0;
    for (size_t c = 0; c < classes_.size(); c++) used[classes_[c]] = true;
    for (bool u : used) count += u;
    if (model_.tables.resize(count) != Status::kOk || encode_tables_.resize(count) != Status::kOk ||
        bins_.resize(count) != Status::kOk) {
      return Status::kOutOfMemory;
    }
    uint32_t table = 0;
    for (uint32_t k = 0; k < kClasses; k++) {
      if (!used[k]) continue;
      uint32_t total[kRansSymbols] = {};
      for (uint32_t w = 0; w < workers_; w++) {
        const uint32_t* even = scratch_[w].histograms.data() + k * kRansSymbols;
        for (size_t s = 0; s < kRansSymbols; s++) total[s] += even[s] + even[kClasses * kRansSymbols + s];
      }
      bins_[table] = choose_bins(total);
      model_.tables[table].shift = uint8_t(shift_of_class(k, layout_.shape.type));
      rans_normalise(total, kRansSymbols, &model_.tables[table].frequencies);
      rans_build_encode_table(model_.tables[table].frequencies, &encode_tables_[table]);
      table_of_class[k] = uint8_t(table++);
    }
    for (size_t c = 0; c < classes_.size(); c++) model_.channels[c].table = table_of_class[classes_[c]];
    for (uint32_t w = 0; w < workers_; w++) model_.has_low_halves |= scratch_[w].low_halves_seen;
    const Status status = model_bytes_.resize(ExactModel::bound(model_.tables.size(), model_.channels.size()));
    return status == Status::kOk ? model_.write({model_bytes_.data(), model_bytes_.size()}, &model_length_) : status;
  }

  Status encode_layer(uint32_t layer, EncodeScratch& s) noexcept {
    const Status status = load_layer(layer, s);
    if (status != Status::kOk) return status;
    const Span<const ExactChannel> channels{model_.channels.data() + layer * rows_, rows_};
    const RansPlan plan = exact_plan(channels, s.order.data(), s.table_of_channel.data());
    const size_t tokens = layout_.shape.tokens;
    const uint32_t magnitude_bits = exact_magnitude_bits(layout_.shape.type);
    size_t escapes = 0;
    for (size_t r = 0; r < rows_; r++) {
      escapes += symbols_of_row(s.rows.data() + r * tokens, tokens, channels[r], bins_[channels[r].table], magnitude_bits, s.symbols.data() + r * tokens);
    }
    uint64_t offset = layer * layer_bound_;
    const uint32_t full = layout_.shape.tokens / group_tokens_;
    for (uint32_t g = 0; g < groups_;) {
      // Groups of equal length go through the rANS encoder together; the last one may be shorter.
      const uint32_t count = g >= full ? 1 : full - g < kLockstep ? full - g : kLockstep;
      const size_t group_tokens = g >= full ? tokens - size_t(full) * group_tokens_ : group_tokens_;
      offset += encode_groups(layer, g, count, group_tokens, plan, channels, escapes > 0, s, offset);
      g += count;
    }
    return Status::kOk;
  }

  // Writes `count` sections to `out_` from `offset` and returns their length.
  uint64_t encode_groups(uint32_t layer, uint32_t group, uint32_t count, size_t tokens, const RansPlan& plan, Span<const ExactChannel> channels,
                         bool has_escapes, EncodeScratch& s, uint64_t offset) noexcept {
    const size_t stride = layout_.shape.tokens, bound = rans_encode_bound(rows_, group_tokens_);
    RansEncodeStream streams[kLockstep];
    size_t low_bits = 0;
    for (uint32_t i = 0; i < count; i++) {
      const size_t begin = size_t(group + i) * group_tokens_;
      uint8_t* const low = s.low_bits.data() + i * low_bits_room();
      low_bits = pack_rows(s.rows.data() + begin, stride, tokens, channels, low);
      streams[i] = {s.symbols.data() + begin, nullptr, {}, {s.streams.data() + i * bound, bound}, {}};
      std::memcpy(streams[i].carried.byte, low, carried_bytes(low_bits, tokens));
    }
    rans_encode(plan, encode_tables_.data(), {streams, count}, stride, tokens);
    uint64_t written = 0;
    for (uint32_t i = 0; i < count; i++) {
      const size_t begin = size_t(group + i) * group_tokens_;
      const ConstBytes low{s.low_bits.data() + i * low_bits_room(), low_bits};
      const size_t length = join_section(streams[i].encoded, low, begin, tokens, has_escapes, s);
      uint8_t* const out = out_.data + offset + written;
      std::memcpy(out, s.section.data(), length);
      sections_[size_t(layer) * groups_ + group + i] = {offset + written, length, xxh3_64({out, length})};
      written += length;
    }
    return written;
  }

  // Puts the parts of a section together in s.section and returns its length.
  size_t join_section(ConstBytes stream, ConstBytes low_bits, size_t begin, size_t tokens, bool has_escapes, EncodeScratch& s) noexcept {
    const size_t stride = layout_.shape.tokens;
    const size_t escape_count = has_escapes ? collect_escapes(s, begin, tokens, stride) : 0;
    const size_t carried = carried_bytes(low_bits.size, tokens);
    uint8_t* p = s.section.data();
    p += write_varint(1 + escape_count, p);
    std::memcpy(p, stream.data, stream.size);
    p += stream.size;
    std::memcpy(p, low_bits.data + carried, low_bits.size - carried);
    p += low_bits.size - carried;
    for (size_t i = 0; i < escape_count; i++, p += 2) store_u16(p, s.escapes[i]);
    if (model_.has_low_halves) {
      for (size_t r = 0; r < rows_; r++) {
        for (size_t t = 0; t < tokens; t++, p += 2) store_u16(p, s.low_halves[r * stride + begin + t]);
      }
    }
    const size_t coded = size_t(p - s.section.data());
    return coded < section_bound(rows_, tokens, layout_.shape.type) ? coded : store_group(s, begin, tokens, stride);
  }

  size_t store_group(EncodeScratch& s, size_t begin, size_t tokens, size_t stride) noexcept {
    uint8_t* p = s.section.data();
    *p++ = 0;
    const size_t width = element_bytes(layout_.shape.type);
    for (size_t r = 0; r < rows_; r++) {
      for (size_t t = 0; t < tokens; t++, p += width) {
        const size_t at = r * stride + begin + t;
        if (width == 1) {
          *p = uint8_t(s.rows[at]);
        } else {
          if (width == 4) store_u16(p, s.low_halves[at]);
          store_u16(p + width - 2, s.rows[at]);
        }
      }
    }
    return size_t(p - s.section.data());
  }

  size_t collect_escapes(EncodeScratch& s, size_t begin, size_t tokens, size_t stride) noexcept {
    size_t count = 0;
    for (size_t r = 0; r < rows_; r++) {
      const uint8_t* symbols = s.symbols.data() + r * stride + begin;
      if (std::memchr(symbols, kExactEscape, tokens) == nullptr) continue;
      for (size_t t = 0; t < tokens; t++) {
        if (symbols[t] == kExactEscape) s.escapes[count++] = s.rows[r * stride + begin + t];
      }
    }
    return count;
  }

  // Of one group, with space for what vector stores write too much.
  size_t low_bits_room() const noexcept { return 2 * rows_ * group_tokens_ + 16; }

  // Each layer was written where it could have been at its largest; now they are moved together.
  Status close_gaps() noexcept {
    move_sections_together({sections_.data(), sections_.size()}, groups_, out_);
    return Status::kOk;
  }

  const TensorLayout layout_;
  const uint32_t group_tokens_;
  const ConstBytes tensor_;
  const Bytes out_;
  const size_t rows_;
  uint32_t groups_ = 0, workers_ = 0;
  uint64_t layer_bound_ = 0;
  EncodeScratch* scratch_ = nullptr;
  Buffer<uint8_t> classes_;
  ExactModel model_;
  Buffer<RansEncodeTable> encode_tables_;
  Buffer<ExactBinRange> bins_;
};

struct DecodeScratch {
  Buffer<uint8_t> symbols;    // [lockstep][row][token]
  Buffer<uint8_t> low_bits;   // padded for loads past the end
  Buffer<uint16_t> rows, low_halves;
  Buffer<uint16_t> order;
  Buffer<uint8_t> table_of_channel;
};

// Where the parts of one section lie; only `stored` where it was not coded.
struct SectionParts {
  ConstBytes stream, low_bits, escapes, low_halves, stored;
};

Status split_section(ConstBytes in, const SectionShape& shape, size_t stored_bytes, SectionParts* parts) noexcept {
  size_t used = 0;
  uint64_t first = 0;
  if (!read_varint(in, &used, &first)) return Status::kCorrupt;
  in = in.from(used);
  *parts = {};
  if (first == 0) {
    parts->stored = in;
    return in.size == stored_bytes ? Status::kOk : Status::kCorrupt;
  }
  const uint64_t escapes = first - 1;
  const size_t low_bits = shape.low_bits - shape.carried;
  if (in.size < low_bits + shape.low_halves || escapes > (in.size - low_bits - shape.low_halves) / 2) return Status::kCorrupt;
  const size_t stream = in.size - low_bits - shape.low_halves - 2 * escapes;
  parts->stream = in.first(stream);
  parts->low_bits = in.sub(stream, low_bits);
  parts->escapes = in.sub(stream + low_bits, 2 * escapes);
  parts->low_halves = in.from(stream + low_bits + 2 * escapes);
  return Status::kOk;
}

class ExactDecodeJob final : public ChunkJob {
 public:
  explicit ExactDecodeJob(const DecodeRequest& request) noexcept : request_(request), rows_(layer_rows(request.source)) {}

  ~ExactDecodeJob() override { delete[] scratch_; }

  Status start(uint32_t workers) noexcept override {
    EncodeBound bound{};
    Status status = exact_encode_bound(request_.source, request_.group_tokens, &bound);
    if (status == Status::kOk) status = request_.sink->start(workers, request_.group_tokens);
    if (status != Status::kOk) return status;
    status = model_.read(request_.model, rows_ * request_.source.layers, exact_magnitude_bits(request_.source.type));
    if (status != Status::kOk) return status;
    if (model_.has_low_halves && element_bytes(request_.source.type) != 4) return Status::kCorrupt;
    if (tables_.resize(model_.tables.size()) != Status::kOk) return Status::kOutOfMemory;
    for (size_t i = 0; i < tables_.size(); i++) rans_build_decode_table(model_.tables[i].frequencies, &tables_[i]);
    scratch_ = new (std::nothrow) DecodeScratch[workers];
    if (scratch_ == nullptr) return Status::kOutOfMemory;
    const size_t in_group = rows_ * request_.group_tokens;
    const bool wide = element_bytes(request_.source.type) == 4;
    for (uint32_t w = 0; w < workers; w++) {
      DecodeScratch& s = scratch_[w];
      if (s.symbols.resize(kLockstep * in_group) != Status::kOk || s.low_bits.resize(2 * in_group + kExactLowPadding) != Status::kOk ||
          s.rows.resize(in_group) != Status::kOk || s.low_halves.resize(wide ? in_group : 0) != Status::kOk || s.order.resize(rows_) != Status::kOk ||
          s.table_of_channel.resize(rows_) != Status::kOk) {
        return Status::kOutOfMemory;
      }
    }
    return Status::kOk;
  }

  uint32_t phases() const noexcept override { return 1; }
  uint32_t units(uint32_t) const noexcept override { return request_.selection.layer_count; }

  Status run(uint32_t, uint32_t unit, uint32_t worker) noexcept override {
    DecodeScratch& s = scratch_[worker];
    const Span<const ExactChannel> channels{model_.channels.data() + (request_.selection.layer_begin + unit) * rows_, rows_};
    const RansPlan plan = exact_plan(channels, s.order.data(), s.table_of_channel.data());
    Status status = Status::kOk;
    // Groups of equal length go through the rANS decoder together; the last one may be shorter.
    const size_t full = request_.selection.group_begin + request_.selection.group_count <= request_.source.tokens / request_.group_tokens ? request_.selection.group_count : request_.selection.group_count - 1;
    for (size_t g = 0; g < request_.selection.group_count && status == Status::kOk;) {
      const size_t count = g >= full ? 1 : full - g < kLockstep ? full - g : kLockstep;
      status = decode_groups(unit, g, count, plan, channels, s, worker);
      g += count;
    }
    return status;
  }

  Status settle(uint32_t) noexcept override { return Status::kOk; }

 private:
  Status decode_groups(uint32_t unit, size_t group, size_t count, const RansPlan& plan, Span<const ExactChannel> channels,
                       DecodeScratch& s, uint32_t worker) noexcept {
    const size_t begin = (request_.selection.group_begin + group) * request_.group_tokens;
    const size_t tokens = begin + request_.group_tokens <= request_.source.tokens ? request_.group_tokens : request_.source.tokens - begin;
    const SectionShape shape = section_shape(model_.has_low_halves, channels, tokens);
    SectionParts parts[kLockstep];
    RansStream streams[kLockstep];
    size_t coded = 0;
    for (size_t i = 0; i < count; i++) {
      ConstBytes bytes;
      const Status opened = request_.open_section(size_t(unit) * request_.selection.group_count + group + i, &bytes);
      if (opened != Status::kOk) return opened;
      const Status status = split_section(bytes, shape, rows_ * tokens * element_bytes(request_.source.type), &parts[i]);
      if (status != Status::kOk) return status;
      if (parts[i].stored.size == 0) {
        streams[coded] = {parts[i].stream, s.symbols.data() + coded * rows_ * tokens, nullptr, {}};
        coded++;
      }
    }
    const Status status = rans_decode(plan, tables_.data(), {streams, coded}, tokens, tokens);
    if (status != Status::kOk) return status;
    const RansStream* stream = streams;
    for (size_t i = 0; i < count; i++) {
      if (parts[i].stored.size != 0) {
        copy_rows(parts[i].stored, s);
      } else if (!restore_group(*stream++, parts[i], shape, channels, tokens, s)) {
        return Status::kCorrupt;
      }
      const Status put = request_.sink->put(s.rows.data(), s.low_halves.data(), unit, (group + i) * request_.group_tokens, tokens, worker);
      if (put != Status::kOk) return put;
    }
    return Status::kOk;
  }

  void copy_rows(ConstBytes stored, DecodeScratch& s) noexcept {
    const size_t width = element_bytes(request_.source.type);
    for (size_t i = 0; i * width < stored.size; i++) {
      const uint8_t* p = stored.data + i * width;
      if (width == 4) s.low_halves[i] = load_u16(p);
      s.rows[i] = width == 1 ? *p : load_u16(p + width - 2);
    }
  }

  bool restore_group(const RansStream& stream, const SectionParts& parts, const SectionShape& shape, Span<const ExactChannel> channels, size_t tokens,
                     DecodeScratch& s) noexcept {
    std::memcpy(s.low_bits.data(), stream.carried.byte, shape.carried);
    if (parts.low_bits.size > 0) std::memcpy(s.low_bits.data() + shape.carried, parts.low_bits.data, parts.low_bits.size);
    restore_rows(stream.symbols, tokens, channels, exact_magnitude_bits(request_.source.type), s.low_bits.data(), s.rows.data());
    if (!place_escapes(stream.symbols, rows_ * tokens, parts.escapes, s.rows.data())) return false;
    if (parts.low_halves.size == 0 && s.low_halves.size() != 0) std::memset(s.low_halves.data(), 0, 2 * s.low_halves.size());
    for (size_t i = 0; 2 * i < parts.low_halves.size; i++) s.low_halves[i] = load_u16(parts.low_halves.data + 2 * i);
    return true;
  }

  // Each escape, in the order of `rows`, has its value; and the other way round.
  static bool place_escapes(const uint8_t* symbols, size_t count, ConstBytes escapes, uint16_t* rows) noexcept {
    const uint8_t* const end = symbols + count;
    for (const uint8_t* p = symbols; (p = static_cast<const uint8_t*>(std::memchr(p, kExactEscape, size_t(end - p)))) != nullptr; p++) {
      if (escapes.size == 0) return false;
      rows[p - symbols] = load_u16(escapes.data);
      escapes = escapes.from(2);
    }
    return escapes.size == 0;
  }

  const DecodeRequest request_;
  const size_t rows_;
  ExactModel model_;
  Buffer<RansDecodeTable> tables_;
  DecodeScratch* scratch_ = nullptr;
};

}  // namespace

Status exact_encode_bound(const KvShape& shape, uint32_t group_tokens, EncodeBound* bound) noexcept {
  size_t bytes = 0;
  const Status status = tensor_bytes(shape, &bytes);
  if (status != Status::kOk) return status;
  if (group_tokens == 0 || group_tokens > shape.tokens) return Status::kInvalidArgument;
  const uint64_t groups = group_count(shape.tokens, group_tokens);
  bound->model = ExactModel::bound(kExactMaxTables, layer_rows(shape) * shape.layers);
  return checked_bytes({shape.layers, groups, section_bound(layer_rows(shape), group_tokens, shape.type)}, &bound->sections) ? Status::kOk
                                                                                                                              : Status::kInvalidArgument;
}

EncodeJob* exact_encode_job(const TensorLayout& layout, uint32_t group_tokens, ConstBytes tensor, Bytes out) noexcept {
  return new (std::nothrow) ExactEncodeJob(layout, group_tokens, tensor, out);
}

ChunkJob* exact_decode_job(const DecodeRequest& request) noexcept { return new (std::nothrow) ExactDecodeJob(request); }

}  // namespace kvreel
