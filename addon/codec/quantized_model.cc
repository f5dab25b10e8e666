// The side information of quantised planes as bytes.
#include "little_endian.h"
#include "quantized.h"
#include "varint.h"

namespace kvreel {
namespace {

// Layout: u8 tables that follow (0 or kQuantizedTables), each its frequencies; then four byte strings, each u32 length and rANS bytes:
// base steps (i16), scales (i8), means (zigzag LEB128), token codes (i8). The means are preceded by u32, the bytes before rANS.
constexpr int32_t kBaseLimit = 1024, kMeanLimit = 1 << 24;

size_t plane_count(const KvShape& shape) noexcept { return size_t(shape.layers) * shape.planes; }

// Appends a byte string to `out` at *n.
Status append(ConstBytes bytes, Bytes out, size_t* n) noexcept {
  if (out.size - *n < 4 + rans_bytes_bound(bytes.size)) return Status::kBufferTooSmall;
  size_t length = 0;
  const Status status = rans_encode_bytes(bytes, out.from(*n + 4), &length);
  store_u32(out.data + *n, uint32_t(length));
  *n += 4 + length;
  return status;
}

Status take(ConstBytes in, size_t* n, Bytes bytes) noexcept {
  if (in.size - *n < 4) return Status::kCorrupt;
  const size_t length = load_u32(in.data + *n);
  *n += 4;
  if (length > in.size - *n) return Status::kCorrupt;
  const Status status = rans_decode_bytes(in.sub(*n, length), bytes);
  *n += length;
  return status;
}

}  // namespace

Status QuantizedModel::resize(const KvShape& shape, bool with_tables) noexcept {
  const size_t channels = layer_rows(shape) * shape.layers;
  if (base_step.resize(plane_count(shape)) != Status::kOk || scale.resize(channels) != Status::kOk || mean.resize(channels) != Status::kOk ||
      token_code.resize(plane_count(shape) * shape.tokens) != Status::kOk || tables.resize(with_tables ? kQuantizedTables : 0) != Status::kOk) {
    return Status::kOutOfMemory;
  }
  return Status::kOk;
}

size_t QuantizedModel::bound(const KvShape& shape) noexcept {
  const size_t channels = layer_rows(shape) * shape.layers;
  return 1 + kQuantizedTables * kRansFrequenciesBound + 5 * 4 + rans_bytes_bound(2 * plane_count(shape)) + rans_bytes_bound(channels) +
         rans_bytes_bound(kVarintBound * channels) + rans_bytes_bound(plane_count(shape) * shape.tokens);
}

Status QuantizedModel::write(Bytes out, size_t* written) const noexcept {
  if (out.size < 1 + kQuantizedTables * kRansFrequenciesBound + 4) return Status::kBufferTooSmall;
  size_t n = 0;
  out[n++] = uint8_t(tables.size());
  for (size_t i = 0; i < tables.size(); i++) n += rans_write_frequencies(tables[i], out.from(n));
  Buffer<uint8_t> bytes;
  if (bytes.resize(2 * base_step.size() + kVarintBound * mean.size()) != Status::kOk) return Status::kOutOfMemory;
  for (size_t i = 0; i < base_step.size(); i++) store_u16(bytes.data() + 2 * i, uint16_t(base_step[i]));
  Status status = append({bytes.data(), 2 * base_step.size()}, out, &n);
  if (status == Status::kOk) status = append({reinterpret_cast<const uint8_t*>(scale.data()), scale.size()}, out, &n);
  size_t length = 0;
  for (size_t i = 0; i < mean.size(); i++) {
    length += write_varint(uint32_t(mean[i]) << 1 ^ uint32_t(mean[i] >> 31), bytes.data() + length);
  }
  if (status == Status::kOk && out.size - n < 4) return Status::kBufferTooSmall;
  store_u32(out.data + n, uint32_t(length));
  n += 4;
  if (status == Status::kOk) status = append({bytes.data(), length}, out, &n);
  if (status == Status::kOk) status = append({reinterpret_cast<const uint8_t*>(token_code.data()), token_code.size()}, out, &n);
  *written = n;
  return status;
}

Status QuantizedModel::read(ConstBytes in, const KvShape& shape, bool with_tables) noexcept {
  Status status = resize(shape, with_tables);
  if (status != Status::kOk) return status;
  if (in.size < 1 || in[0] != tables.size()) return Status::kCorrupt;
  size_t n = 1;
  for (size_t i = 0; i < tables.size(); i++) {
    size_t used = 0;
    status = rans_read_frequencies(in.from(n), &used, &tables[i]);
    if (status != Status::kOk) return status;
    n += used;
  }
  Buffer<uint8_t> bytes;
  if (bytes.resize(2 * base_step.size()) != Status::kOk) return Status::kOutOfMemory;
  status = take(in, &n, {bytes.data(), bytes.size()});
  if (status != Status::kOk) return status;
  for (size_t i = 0; i < base_step.size(); i++) {
    base_step[i] = int16_t(load_u16(bytes.data() + 2 * i));
    if (base_step[i] < -kBaseLimit || base_step[i] > kBaseLimit) return Status::kCorrupt;
  }
  status = take(in, &n, {reinterpret_cast<uint8_t*>(scale.data()), scale.size()});
  if (status != Status::kOk) return status;
  if (in.size - n < 4) return Status::kCorrupt;
  const size_t length = load_u32(in.data + n);
  n += 4;
  if (length < mean.size() || length > kVarintBound * mean.size()) return Status::kCorrupt;
  if (bytes.resize(length) != Status::kOk) return Status::kOutOfMemory;
  status = take(in, &n, {bytes.data(), length});
  if (status != Status::kOk) return status;
  size_t at = 0;
  for (size_t i = 0; i < mean.size(); i++) {
    uint64_t zigzag = 0;
    size_t used = 0;
    if (!read_varint({bytes.data() + at, length - at}, &used, &zigzag) || zigzag > 2 * uint64_t(kMeanLimit)) return Status::kCorrupt;
    at += used;
    mean[i] = int32_t(zigzag >> 1) ^ -int32_t(zigzag & 1);
    if (mean[i] < -kMeanLimit || mean[i] > kMeanLimit) return Status::kCorrupt;
  }
  if (at != length) return Status::kCorrupt;
  status = take(in, &n, {reinterpret_cast<uint8_t*>(token_code.data()), token_code.size()});
  if (status != Status::kOk) return status;
  for (size_t i = 0; i < token_code.size(); i++) {
    if (token_code[i] < kTokenCodeMin || token_code[i] > kTokenCodeMax) return Status::kCorrupt;
  }
  return n == in.size ? Status::kOk : Status::kCorrupt;
}

}  // namespace kvreel
