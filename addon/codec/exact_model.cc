#include "exact_model.h"

#include "little_endian.h"

namespace kvreel {
namespace {

// Layout: u8 flags (bit 0: low halves are stored), u8 tables - 1, u16 smallest mean bin, the tables (u8 shift, frequencies), then three
// byte strings of one byte a channel, each u32 length and rANS bytes: table, low byte and high byte of (mean bin - smallest);
// bit 7 of the high byte is the flip.
constexpr size_t kFixedBytes = 4;
constexpr uint8_t kLowHalvesFlag = 1;
constexpr uint16_t kMeanMask = 0x7fff;

}  // namespace

size_t ExactModel::bound(size_t table_count, size_t channel_count) noexcept {
  return kFixedBytes + table_count * (1 + kRansFrequenciesBound) + 3 * (4 + rans_bytes_bound(channel_count));
}

Status ExactModel::write(Bytes out, size_t* written) const noexcept {
  if (out.size < bound(tables.size(), channels.size())) return Status::kBufferTooSmall;
  uint16_t smallest = kMeanMask;
  for (size_t c = 0; c < channels.size(); c++) {
    if (channels[c].mean_bin < smallest) smallest = channels[c].mean_bin;
  }
  out[0] = has_low_halves ? kLowHalvesFlag : 0;
  out[1] = uint8_t(tables.size() - 1);
  store_u16(out.data + 2, smallest);
  size_t n = kFixedBytes;
  for (size_t i = 0; i < tables.size(); i++) {
    out[n++] = tables[i].shift;
    n += rans_write_frequencies(tables[i].frequencies, out.from(n));
  }
  Buffer<uint8_t> column;
  Status status = column.resize(channels.size());
  for (int part = 0; part < 3 && status == Status::kOk; part++) {
    for (size_t c = 0; c < channels.size(); c++) {
      const ExactChannel& channel = channels[c];
      const uint32_t mean = uint32_t(channel.mean_bin - smallest);
      column[c] = part == 0 ? channel.table : part == 1 ? uint8_t(mean) : uint8_t(mean >> 8 | uint32_t(channel.flip) << 7);
    }
    size_t length = 0;
    status = rans_encode_bytes({column.data(), column.size()}, out.from(n + 4), &length);
    store_u32(out.data + n, uint32_t(length));
    n += 4 + length;
  }
  *written = n;
  return status;
}

Status ExactModel::read(ConstBytes in, size_t channel_count, uint32_t magnitude_bits) noexcept {
  if (in.size < kFixedBytes || (in[0] & ~kLowHalvesFlag) != 0) return Status::kCorrupt;
  has_low_halves = in[0] != 0;
  const uint16_t smallest = load_u16(in.data + 2);
  if (smallest > kMeanMask) return Status::kCorrupt;
  Status status = tables.resize(size_t(in[1]) + 1);
  if (status != Status::kOk) return status;
  size_t n = kFixedBytes;
  for (size_t i = 0; i < tables.size(); i++) {
    if (n >= in.size || in[n] > kExactMaxShift || in[n] > magnitude_bits) return Status::kCorrupt;
    tables[i].shift = in[n++];
    size_t used = 0;
    status = rans_read_frequencies(in.from(n), &used, &tables[i].frequencies);
    if (status != Status::kOk) return status;
    n += used;
  }
  Buffer<uint8_t> column;
  status = column.resize(channel_count);
  if (status == Status::kOk) status = channels.resize(channel_count);
  if (status != Status::kOk) return status;
  for (int part = 0; part < 3; part++) {
    if (in.size - n < 4) return Status::kCorrupt;
    const size_t length = load_u32(in.data + n);
    n += 4;
    if (length > in.size - n) return Status::kCorrupt;
    status = rans_decode_bytes(in.sub(n, length), {column.data(), column.size()});
    if (status != Status::kOk) return status;
    n += length;
    for (size_t c = 0; c < channel_count; c++) {
      ExactChannel& channel = channels[c];
      if (part == 0) {
        if (column[c] >= tables.size()) return Status::kCorrupt;
        channel.table = column[c];
        channel.shift = tables[column[c]].shift;
      } else if (part == 1) {
        channel.mean_bin = column[c];
      } else {
        const uint32_t mean = uint32_t(smallest) + channel.mean_bin + (uint32_t(column[c] & 127) << 8);
        if (mean > kMeanMask) return Status::kCorrupt;
        channel.mean_bin = uint16_t(mean);
        channel.flip = column[c] >> 7;
      }
    }
  }
  return n == in.size ? Status::kOk : Status::kCorrupt;
}

RansPlan exact_plan(Span<const ExactChannel> channels, uint16_t* order, uint8_t* table_of_channel) noexcept {
  uint32_t next[kExactMaxTables + 1] = {};
  for (size_t c = 0; c < channels.size; c++) {
    table_of_channel[c] = channels[c].table;
    next[channels[c].table + 1]++;
  }
  for (uint32_t i = 0; i < kExactMaxTables; i++) next[i + 1] += next[i];
  for (size_t c = 0; c < channels.size; c++) order[next[channels[c].table]++] = uint16_t(c);
  return {{order, channels.size}, table_of_channel, nullptr};
}

}  // namespace kvreel
