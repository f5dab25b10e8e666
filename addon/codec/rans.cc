#include "rans.h"

#include <cstring>

#include "cpu.h"
#include "little_endian.h"

namespace kvreel {
namespace {

constexpr size_t kMaxVarintBytes = 2;

// Gives the slots that rounding left over (or takes back those it gave too many) where that costs the fewest bits.
void settle_sum(const uint32_t* histogram, RansFrequencies* f, int32_t missing) noexcept {
  while (missing != 0) {
    const int32_t step = missing > 0 ? 1 : -1;
    size_t best = kRansSymbols;
    double best_gain = -1e300;
    for (size_t s = 0; s < kRansSymbols; s++) {
      const int32_t now = f->of[s];
      if (now == 0 || now + step < 1) continue;
      // d/df of count * log2(f): what one more slot saves, or one fewer costs.
      const double gain = step * double(histogram[s]) / now;
      if (gain > best_gain) {
        best_gain = gain;
        best = s;
      }
    }
    if (best == kRansSymbols) return;
    f->of[best] = uint16_t(f->of[best] + step);
    missing -= step;
  }
}

}  // namespace

void rans_normalise(const uint32_t histogram[kRansSymbols], uint32_t escape, RansFrequencies* out) noexcept {
  uint32_t counts[kRansSymbols];
  std::memcpy(counts, histogram, sizeof counts);
  uint64_t total = 0;
  for (uint32_t count : counts) total += count;
  std::memset(out, 0, sizeof *out);
  if (total == 0) {
    out->of[escape < kRansSymbols ? escape : 0] = kRansScale;
    return;
  }
  if (escape < kRansSymbols) {
    // A symbol that would fill less than a third of one slot is cheaper as an escape than as a slot taken from the others.
    for (size_t s = 0; s < kRansSymbols; s++) {
      if (s != escape && counts[s] != 0 && uint64_t(counts[s]) * kRansScale * 3 < total) {
        counts[escape] += counts[s];
        counts[s] = 0;
      }
    }
  }
  int32_t missing = kRansScale;
  for (size_t s = 0; s < kRansSymbols; s++) {
    if (counts[s] == 0) continue;
    uint64_t scaled = (uint64_t(counts[s]) * kRansScale + total / 2) / total;
    if (scaled == 0) scaled = 1;
    out->of[s] = uint16_t(scaled);
    missing -= int32_t(scaled);
  }
  settle_sum(counts, out, missing);
}

size_t rans_write_frequencies(const RansFrequencies& frequencies, Bytes out) noexcept {
  if (out.size < kRansFrequenciesBound) return 0;
  size_t first = 0, last = kRansSymbols - 1;
  while (first < last && frequencies.of[first] == 0) first++;
  while (last > first && frequencies.of[last] == 0) last--;
  size_t n = 0;
  out[n++] = uint8_t(first);
  out[n++] = uint8_t(last - first);
  for (size_t s = first; s <= last; s++) {
    uint32_t v = frequencies.of[s];
    if (v >= 128) {
      out[n++] = uint8_t(v | 128);
      v >>= 7;
    }
    out[n++] = uint8_t(v);
  }
  return n;
}

Status rans_read_frequencies(ConstBytes in, size_t* used, RansFrequencies* out) noexcept {
  if (in.size < 2) return Status::kCorrupt;
  const size_t first = in[0], count = size_t(in[1]) + 1;
  if (first + count > kRansSymbols) return Status::kCorrupt;
  std::memset(out, 0, sizeof *out);
  size_t n = 2;
  uint32_t sum = 0;
  for (size_t s = first; s < first + count; s++) {
    uint32_t v = 0;
    for (size_t i = 0;; i++) {
      if (n >= in.size || i == kMaxVarintBytes) return Status::kCorrupt;
      const uint8_t byte = in[n++];
      v |= uint32_t(byte & 127) << (7 * i);
      if (byte < 128) break;
    }
    if (v > kRansScale) return Status::kCorrupt;
    out->of[s] = uint16_t(v);
    sum += v;
  }
  if (sum != kRansScale) return Status::kCorrupt;
  *used = n;
  return Status::kOk;
}

void rans_build_encode_table(const RansFrequencies& frequencies, RansEncodeTable* out) noexcept {
  uint32_t start = 0;
  for (size_t s = 0; s < kRansSymbols; s++) {
    out->symbol[s] = frequencies.of[s] == 0 ? 0 : uint32_t(frequencies.of[s]) << 16 | start;
    start += frequencies.of[s];
  }
}

void rans_build_decode_table(const RansFrequencies& frequencies, RansDecodeTable* out) noexcept {
  uint32_t start = 0;
  for (size_t s = 0; s < kRansSymbols; s++) {
    const uint32_t freq = frequencies.of[s];
    for (uint32_t i = 0; i < freq; i++) out->slot[start + i] = freq << 20 | i << 8 | uint32_t(s);
    start += freq;
  }
}

void rans_encode_scalar(const RansPlan& plan, const RansEncodeTable* tables, RansEncodeStream* stream, size_t stride, size_t tokens) noexcept {
  const size_t lanes = tokens < kRansLanes ? tokens : kRansLanes;
  uint32_t state[kRansLanes];
  for (size_t lane = 0; lane < kRansLanes; lane++) state[lane] = kRansLowBound | load_u16(stream->carried.byte + 2 * lane);
  uint8_t* const end = stream->out.data + stream->out.size;
  uint8_t* p = end;
  for (size_t i = plan.order.size; i-- > 0;) {
    const size_t channel = plan.order[i];
    const uint8_t* row = stream->symbols + channel * stride;
    for (size_t t = tokens; t-- > 0;) {
      const uint32_t* table = tables[rans_table_of(plan, channel, stream->table_shift, t)].symbol;
      const uint32_t frequency = table[row[t]] >> 16, start = table[row[t]] & 0xffff;
      uint32_t x = state[t % kRansLanes];
      // The state must stay below 2^32: it gives up 16 bits where the step would take it further.
      if (uint64_t(x) >= uint64_t(frequency) << (32 - kRansScaleBits)) {
        p -= 2;
        store_u16(p, uint16_t(x));
        x >>= 16;
      }
      state[t % kRansLanes] = (x / frequency << kRansScaleBits) + x % frequency + start;
    }
  }
  p -= 4 * lanes;
  for (size_t lane = 0; lane < lanes; lane++) store_u32(p + 4 * lane, state[lane]);
  stream->encoded = {p, size_t(end - p)};
}

void rans_encode(const RansPlan& plan, const RansEncodeTable* tables, Span<RansEncodeStream> streams, size_t stride, size_t tokens) noexcept {
#if defined(KVREEL_AVX2)
  if (cpu_has_avx2() && tokens % kRansLanes == 0) return rans_encode_avx2(plan, tables, streams, stride, tokens);
#endif
  for (size_t i = 0; i < streams.size; i++) rans_encode_scalar(plan, tables, &streams[i], stride, tokens);
}

Status rans_decode_scalar(const RansPlan& plan, const RansDecodeTable* tables, RansStream* stream, size_t stride, size_t tokens) noexcept {
  const size_t lanes = tokens < kRansLanes ? tokens : kRansLanes;
  if (stream->in.size < 4 * lanes) return Status::kCorrupt;
  uint32_t state[kRansLanes];
  for (size_t lane = 0; lane < lanes; lane++) state[lane] = load_u32(stream->in.data + 4 * lane);
  const uint8_t* p = stream->in.data + 4 * lanes;
  const uint8_t* const end = stream->in.data + stream->in.size;
  for (size_t i = 0; i < plan.order.size; i++) {
    const size_t channel = plan.order[i];
    uint8_t* row = stream->symbols + channel * stride;
    for (size_t t = 0; t < tokens; t++) {
      const uint32_t* table = tables[rans_table_of(plan, channel, stream->table_shift, t)].slot;
      uint32_t x = state[t % kRansLanes];
      const uint32_t entry = table[x & (kRansScale - 1)];
      row[t] = uint8_t(entry);
      x = (entry >> 20) * (x >> kRansScaleBits) + ((entry >> 8) & 0xfff);
      if (x < kRansLowBound) {
        if (end - p < 2) return Status::kCorrupt;
        x = x << 16 | uint32_t(p[0]) | uint32_t(p[1]) << 8;
        p += 2;
      }
      state[t % kRansLanes] = x;
    }
  }
  if (p != end) return Status::kCorrupt;
  for (size_t lane = 0; lane < lanes; lane++) {
    if (state[lane] >> 16 != 1) return Status::kCorrupt;
    stream->carried.byte[2 * lane] = uint8_t(state[lane]);
    stream->carried.byte[2 * lane + 1] = uint8_t(state[lane] >> 8);
  }
  return Status::kOk;
}

Status rans_decode(const RansPlan& plan, const RansDecodeTable* tables, Span<RansStream> streams, size_t stride, size_t tokens) noexcept {
#if defined(KVREEL_AVX2)
  if (cpu_has_avx512() && tokens % kRansLanes == 0) return rans_decode_avx512(plan, tables, streams, stride, tokens);
  if (cpu_has_avx2() && tokens % kRansLanes == 0) return rans_decode_avx2(plan, tables, streams, stride, tokens);
#endif
  for (size_t i = 0; i < streams.size; i++) {
    const Status status = rans_decode_scalar(plan, tables, &streams[i], stride, tokens);
    if (status != Status::kOk) return status;
  }
  return Status::kOk;
}

Status rans_encode_bytes(ConstBytes in, Bytes out, size_t* written) noexcept {
  if (out.size < rans_bytes_bound(in.size)) return Status::kBufferTooSmall;
  uint32_t histogram[kRansSymbols] = {};
  for (size_t i = 0; i < in.size; i++) histogram[in[i]]++;
  RansFrequencies frequencies;
  rans_normalise(histogram, kRansSymbols, &frequencies);
  const size_t head = rans_write_frequencies(frequencies, out);
  RansEncodeTable table;
  rans_build_encode_table(frequencies, &table);
  const uint16_t order = 0;
  const uint8_t table_of_channel = 0;
  RansEncodeStream stream{in.data, nullptr, {}, out.from(head), {}};
  rans_encode({{&order, 1}, &table_of_channel, nullptr}, &table, {&stream, 1}, in.size, in.size);
  std::memmove(out.data + head, stream.encoded.data, stream.encoded.size);
  *written = head + stream.encoded.size;
  return Status::kOk;
}

Status rans_decode_bytes(ConstBytes in, Bytes out) noexcept {
  RansFrequencies frequencies;
  size_t head = 0;
  const Status status = rans_read_frequencies(in, &head, &frequencies);
  if (status != Status::kOk) return status;
  RansDecodeTable table;
  rans_build_decode_table(frequencies, &table);
  const uint16_t order = 0;
  const uint8_t table_of_channel = 0;
  RansStream stream{in.from(head), out.data, nullptr, {}};
  return rans_decode({{&order, 1}, &table_of_channel, nullptr}, &table, {&stream, 1}, out.size, out.size);
}

}  // namespace kvreel
