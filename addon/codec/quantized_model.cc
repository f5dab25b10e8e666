// The side information of quantised planes as bytes.
#include "little_endian.h"
#include "quantized.h"
#include "varint.h"

namespace kvreel {
namespace {

// docs/format.md, "Quantised planes, model", has the layout: the tables, then columns, most of them byte strings under a table of their own.
constexpr int32_t kBaseLimit = 1024, kMeanLimit = 1 << 24;

size_t plane_count(const KvShape& shape) noexcept { return size_t(shape.layers) * shape.planes; }
size_t plane_rows(const KvShape& shape) noexcept { return size_t(shape.kv_heads) * shape.head_dim; }

class Writer {
 public:
  explicit Writer(Bytes out) noexcept : out_(out) {}

  // Appends a byte string of a length that the reader knows.
  Status append(ConstBytes bytes) noexcept {
    if (out_.size - size_ < 4 + rans_bytes_bound(bytes.size)) return Status::kBufferTooSmall;
    size_t length = 0;
    const Status status = rans_encode_bytes(bytes, out_.from(size_ + 4), &length);
    store_u32(out_.data + size_, uint32_t(length));
    size_ += 4 + length;
    return status;
  }

  // The same, of a length that it does not.
  Status append_sized(ConstBytes bytes) noexcept {
    if (out_.size - size_ < 4) return Status::kBufferTooSmall;
    store_u32(out_.data + size_, uint32_t(bytes.size));
    size_ += 4;
    return append(bytes);
  }

  size_t size() const noexcept { return size_; }

 private:
  const Bytes out_;
  size_t size_ = 0;
};

class Reader {
 public:
  explicit Reader(ConstBytes in) noexcept : in_(in) {}

  Status take(Bytes bytes) noexcept {
    uint32_t length = 0;
    if (!take_u32(&length) || length > in_.size - used_) return Status::kCorrupt;
    const Status status = rans_decode_bytes(in_.sub(used_, length), bytes);
    used_ += length;
    return status;
  }

  Status take_sized(size_t least, size_t most, Buffer<uint8_t>* bytes) noexcept {
    uint32_t length = 0;
    if (!take_u32(&length) || length < least || length > most) return Status::kCorrupt;
    if (bytes->resize(length) != Status::kOk) return Status::kOutOfMemory;
    return take({bytes->data(), length});
  }

  bool is_at_end() const noexcept { return used_ == in_.size; }

 private:
  bool take_u32(uint32_t* value) noexcept {
    if (in_.size - used_ < 4) return false;
    *value = load_u32(in_.data + used_);
    used_ += 4;
    return true;
  }

  const ConstBytes in_;
  size_t used_ = 0;
};

// What a row's scale is expected to be, from what a reader knows before it. Dims that lie next to each other turn at nearly the same
// frequency, so K's scales are alike; V's lie about the level that its plane's base follows.
int32_t expected_scale(const QuantizedModel& model, const KvShape& shape, uint32_t layer, uint32_t plane, const int8_t* scale, size_t row) noexcept {
  if (!row_is_key(shape, plane * plane_rows(shape))) return model.base_step[size_t(layer) * shape.planes + plane] >> 1;
  const int32_t before = row > 0 ? scale[row - 1] : 0;
  return (before + (row > 1 ? scale[row - 2] : before)) >> 1;
}

// Calls `visit(layer, first row of its plane in the model)` for one plane of all layers.
template <typename Visit>
void for_each_plane(const KvShape& shape, uint32_t plane, Visit visit) noexcept {
  for (uint32_t layer = 0; layer < shape.layers; layer++) visit(layer, (size_t(layer) * shape.planes + plane) * plane_rows(shape));
}

}  // namespace

Status QuantizedModel::resize(const KvShape& shape, uint32_t table_count) noexcept {
  const size_t channels = layer_rows(shape) * shape.layers;
  if (base_step.resize(plane_count(shape)) != Status::kOk || scale.resize(channels) != Status::kOk || mean.resize(channels) != Status::kOk ||
      token_code.resize(plane_count(shape) * shape.tokens) != Status::kOk || tables.resize(table_count) != Status::kOk) {
    return Status::kOutOfMemory;
  }
  return Status::kOk;
}

size_t QuantizedModel::bound(const KvShape& shape) noexcept {
  const size_t rows = plane_rows(shape) * shape.layers;
  return 1 + 8 + rans_bytes_bound(kMaxQuantizedTables * kRansFrequenciesBound) + 4 + rans_bytes_bound(2 * plane_count(shape)) +
         shape.planes * (4 + rans_bytes_bound(rows) + 8 + rans_bytes_bound(kVarintBound * rows)) + 4 + rans_bytes_bound(size_t(shape.layers) * shape.tokens);
}

Status QuantizedModel::write(const KvShape& shape, Bytes out, size_t* written) const noexcept {
  if (out.size < 1) return Status::kBufferTooSmall;
  out[0] = uint8_t(tables.size());
  Writer writer(out.from(1));
  const size_t rows = plane_rows(shape), codes = size_t(shape.layers) * shape.tokens;
  Buffer<uint8_t> bytes;
  size_t room = 2 * base_step.size() + kVarintBound * rows * shape.layers + kMaxQuantizedTables * kRansFrequenciesBound + codes;
  if (bytes.resize(room) != Status::kOk) return Status::kOutOfMemory;
  size_t n = 0;
  for (size_t i = 0; i < tables.size(); i++) n += rans_write_frequencies(tables[i], {bytes.data() + n, bytes.size() - n});
  Status status = tables.size() > 0 ? writer.append_sized({bytes.data(), n}) : Status::kOk;
  for (size_t i = 0; i < base_step.size(); i++) store_u16(bytes.data() + 2 * i, uint16_t(base_step[i]));
  if (status == Status::kOk) status = writer.append({bytes.data(), 2 * base_step.size()});
  for (uint32_t plane = 0; plane < shape.planes && status == Status::kOk; plane++) {
    n = 0;
    for_each_plane(shape, plane, [&](uint32_t layer, size_t first) noexcept {
      const int8_t* const own = scale.data() + first;
      for (size_t r = 0; r < rows; r++) bytes[n++] = uint8_t(own[r] - expected_scale(*this, shape, layer, plane, own, r));
    });
    status = writer.append({bytes.data(), n});
  }
  for (uint32_t plane = 0; plane < shape.planes && status == Status::kOk; plane++) {
    n = 0;
    for_each_plane(shape, plane, [&](uint32_t, size_t first) noexcept {
      for (size_t r = first; r < first + rows; r++) n += write_varint(uint32_t(mean[r]) << 1 ^ uint32_t(mean[r] >> 31), bytes.data() + n);
    });
    status = writer.append_sized({bytes.data(), n});
  }
  // A token's codes in K and V go together: they are alike.
  for (uint32_t layer = 0; layer < shape.layers; layer++) {
    const int8_t* const first = token_code.data() + size_t(layer) * shape.planes * shape.tokens;
    const int8_t* const last = first + (shape.planes - 1) * shape.tokens;
    for (size_t t = 0; t < shape.tokens; t++) {
      bytes[layer * size_t(shape.tokens) + t] = uint8_t((shape.planes == 2 ? (first[t] - kTokenCodeMin) << 4 : 0) | (last[t] - kTokenCodeMin));
    }
  }
  if (status == Status::kOk) status = writer.append({bytes.data(), codes});
  *written = 1 + writer.size();
  return status;
}

Status QuantizedModel::read(ConstBytes in, const KvShape& shape, bool with_tables) noexcept {
  if (in.size < 1) return Status::kCorrupt;
  const uint32_t count = in[0];
  if (with_tables ? count < kMinQuantizedTables || count > kMaxQuantizedTables : count != 0) return Status::kCorrupt;
  Status status = resize(shape, count);
  if (status != Status::kOk) return status;
  Reader reader(in.from(1));
  const size_t rows = plane_rows(shape);
  Buffer<uint8_t> bytes;
  if (with_tables) {
    status = reader.take_sized(1, kMaxQuantizedTables * kRansFrequenciesBound, &bytes);
    if (status != Status::kOk) return status;
    ConstBytes rest{bytes.data(), bytes.size()};
    for (size_t i = 0; i < count; i++) {
      size_t used = 0;
      status = rans_read_frequencies(rest, &used, &tables[i]);
      if (status != Status::kOk) return status;
      rest = rest.from(used);
    }
    if (rest.size > 0) return Status::kCorrupt;
  }
  if (bytes.resize(2 * base_step.size()) != Status::kOk) return Status::kOutOfMemory;
  status = reader.take({bytes.data(), bytes.size()});
  if (status != Status::kOk) return status;
  for (size_t i = 0; i < base_step.size(); i++) {
    base_step[i] = int16_t(load_u16(bytes.data() + 2 * i));
    if (base_step[i] < -kBaseLimit || base_step[i] > kBaseLimit) return Status::kCorrupt;
  }
  if (bytes.resize(rows * shape.layers) != Status::kOk) return Status::kOutOfMemory;
  for (uint32_t plane = 0; plane < shape.planes; plane++) {
    status = reader.take({bytes.data(), rows * shape.layers});
    if (status != Status::kOk) return status;
    for_each_plane(shape, plane, [&](uint32_t layer, size_t first) noexcept {
      int8_t* const own = scale.data() + first;
      for (size_t r = 0; r < rows; r++) own[r] = int8_t(bytes[layer * rows + r] + expected_scale(*this, shape, layer, plane, own, r));
    });
  }
  for (uint32_t plane = 0; plane < shape.planes; plane++) {
    status = reader.take_sized(rows * shape.layers, kVarintBound * rows * shape.layers, &bytes);
    if (status != Status::kOk) return status;
    ConstBytes rest{bytes.data(), bytes.size()};
    bool is_sound = true;
    for_each_plane(shape, plane, [&](uint32_t, size_t first) noexcept {
      for (size_t r = first; r < first + rows && is_sound; r++) {
        uint64_t zigzag = 0;
        size_t used = 0;
        is_sound = read_varint(rest, &used, &zigzag) && zigzag <= 2 * uint64_t(kMeanLimit);
        rest = rest.from(used);
        mean[r] = int32_t(zigzag >> 1) ^ -int32_t(zigzag & 1);
      }
    });
    if (!is_sound || rest.size > 0) return Status::kCorrupt;
  }
  const size_t codes = size_t(shape.layers) * shape.tokens;
  if (bytes.resize(codes) != Status::kOk) return Status::kOutOfMemory;
  status = reader.take({bytes.data(), codes});
  if (status != Status::kOk) return status;
  for (uint32_t layer = 0; layer < shape.layers; layer++) {
    int8_t* const first = token_code.data() + size_t(layer) * shape.planes * shape.tokens;
    int8_t* const last = first + (shape.planes - 1) * shape.tokens;
    for (size_t t = 0; t < shape.tokens; t++) {
      const uint32_t pair = bytes[layer * size_t(shape.tokens) + t];
      if (shape.planes == 1 && pair > 15) return Status::kCorrupt;
      first[t] = int8_t(int32_t(pair >> 4) + kTokenCodeMin);
      last[t] = int8_t(int32_t(pair & 15) + kTokenCodeMin);
    }
  }
  return reader.is_at_end() ? Status::kOk : Status::kCorrupt;
}

}  // namespace kvreel
