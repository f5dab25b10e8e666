// Interleaved range asymmetric numeral systems (rANS; J. Duda, arXiv 1311.2540), eight lanes of 32-bit state with 16-bit renormalisation.
//
// Three surprises:
//  - rANS is last-in, first-out: the encoder walks the symbols backwards, so that the decoder can walk them forwards.
//  - The unit is a *group* of symbols [channels][tokens]: token t of every channel goes to lane t mod 8, and all symbols of one
//    channel use one table. That is why a vector of eight lanes never needs more than one table at a time.
//  - Channels are walked in a caller-given order (by table), so that one 8 KiB decode table stays in the L1 cache while it is used.
#pragma once

#include "span.h"
#include "status.h"

namespace kvreel {

constexpr uint32_t kRansLanes = 8;
constexpr uint32_t kRansScaleBits = 11;
constexpr uint32_t kRansScale = 1u << kRansScaleBits;
constexpr uint32_t kRansLowBound = 1u << 16;
constexpr size_t kRansSymbols = 256;

// Frequencies that sum to kRansScale. A symbol of frequency 0 cannot be coded.
struct RansFrequencies {
  uint16_t of[kRansSymbols];
};

// One entry a symbol: frequency << 16 | start. 0 for a symbol that cannot be coded.
struct RansEncodeTable {
  uint32_t symbol[kRansSymbols];
};

// One entry a slot: frequency << 20 | (slot - start) << 8 | symbol.
struct RansDecodeTable {
  uint32_t slot[kRansScale];
};

// Which table each channel uses, and in which order the channels are walked.
struct RansPlan {
  Span<const uint16_t> order;  // a permutation of the channels
  const uint8_t* table_of_channel;
  // Null, or one entry a channel: nonzero where each token moves the table by the stream's table_shift, but never past this table
  // or below table 0.
  const uint8_t* last_table_of_channel;
};

// Scales a histogram to kRansScale. Symbols too rare to be worth a slot get frequency 0 and their count is added to `escape`
// (the caller sends them another way); pass escape >= kRansSymbols to keep every symbol that occurs.
void rans_normalise(const uint32_t histogram[kRansSymbols], uint32_t escape, RansFrequencies* out) noexcept;

// Frequencies as bytes: first symbol, symbol count - 1, then each frequency as a LEB128 varint. At most 2 + 512 bytes.
constexpr size_t kRansFrequenciesBound = 2 + 2 * kRansSymbols;
size_t rans_write_frequencies(const RansFrequencies& frequencies, Bytes out) noexcept;
Status rans_read_frequencies(ConstBytes in, size_t* used, RansFrequencies* out) noexcept;

void rans_build_encode_table(const RansFrequencies& frequencies, RansEncodeTable* out) noexcept;
void rans_build_decode_table(const RansFrequencies& frequencies, RansDecodeTable* out) noexcept;

// Bytes of an encoded group at most: the states, 16 bits a symbol, and what a vector store may write below them.
constexpr size_t rans_encode_bound(size_t channels, size_t tokens) noexcept { return 16 + 4 * kRansLanes + 2 * channels * tokens; }

// A lane's state has to start at or above 2^16, so 16 bits of it are free: they carry other bytes of the same section (two a lane,
// one lane for each of min(8, tokens)), which pays back most of what storing the final states costs.
constexpr size_t rans_carried_bytes(size_t tokens) noexcept { return 2 * (tokens < kRansLanes ? tokens : kRansLanes); }
struct RansCarried {
  uint8_t byte[2 * kRansLanes];
};

// Encodes groups of equal shape and equal plan. Of each, `out` must hold rans_encode_bound() bytes and is filled from its end
// downwards: the lane states, then 16-bit words.
struct RansEncodeStream {
  const uint8_t* symbols;      // [channel * stride + token]
  const int32_t* table_shift;  // [token]; null where the plan moves no table
  RansCarried carried;
  Bytes out;
  ConstBytes encoded;  // out: the part of `out` that was filled
};
void rans_encode(const RansPlan& plan, const RansEncodeTable* tables, Span<RansEncodeStream> streams, size_t stride, size_t tokens) noexcept;

// Decodes groups of equal shape and equal plan. Each has to use up its input exactly and end in a state that the encoder
// can have begun with; anything else is kCorrupt.
struct RansStream {
  ConstBytes in;
  uint8_t* symbols;            // [channel * stride + token]
  const int32_t* table_shift;  // [token]; null where the plan moves no table
  RansCarried carried;         // out
};
Status rans_decode(const RansPlan& plan, const RansDecodeTable* tables, Span<RansStream> streams, size_t stride, size_t tokens) noexcept;

// The implementations that these choose from; for tests, which hold them to the same results.
void rans_encode_scalar(const RansPlan& plan, const RansEncodeTable* tables, RansEncodeStream* stream, size_t stride, size_t tokens) noexcept;
Status rans_decode_scalar(const RansPlan& plan, const RansDecodeTable* tables, RansStream* stream, size_t stride, size_t tokens) noexcept;
#if defined(KVREEL_AVX2)
// For tokens that are a multiple of kRansLanes.
void rans_encode_avx2(const RansPlan& plan, const RansEncodeTable* tables, Span<RansEncodeStream> streams, size_t stride, size_t tokens) noexcept;
Status rans_decode_avx2(const RansPlan& plan, const RansDecodeTable* tables, Span<RansStream> streams, size_t stride, size_t tokens) noexcept;
// The same; for cpu_has_avx512().
Status rans_decode_avx512(const RansPlan& plan, const RansDecodeTable* tables, Span<RansStream> streams, size_t stride, size_t tokens) noexcept;
#endif

// A byte string under one table of its own (side information): frequencies, then one group [1][size].
constexpr size_t rans_bytes_bound(size_t size) noexcept { return kRansFrequenciesBound + rans_encode_bound(1, size); }
Status rans_encode_bytes(ConstBytes in, Bytes out, size_t* written) noexcept;
Status rans_decode_bytes(ConstBytes in, Bytes out) noexcept;

// The table of one symbol.
inline uint32_t rans_table_of(const RansPlan& plan, size_t channel, const int32_t* table_shift, size_t token) noexcept {
  const int32_t table = plan.table_of_channel[channel];
  const int32_t last = plan.last_table_of_channel == nullptr ? 0 : plan.last_table_of_channel[channel];
  if (last == 0) return uint32_t(table);
  const int32_t moved = table + table_shift[token];
  return uint32_t(moved < 0 ? 0 : moved < last ? moved : last);
}

}  // namespace kvreel
