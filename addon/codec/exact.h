// Coder `exact`: the float's own bits, losslessly.
//
// A float is sign, exponent, mantissa; read as an integer without its sign (`magnitude`) it grows with the logarithm of the value.
// The values of one channel have much the same magnitude, so magnitude >> shift, taken relative to the channel's mean, is a small
// number with a skewed distribution: that and the sign make the symbol, coded with rANS. The low `shift` bits are near random and
// are stored as they are. Channels whose distributions look alike (spread, place inside a bin, balance of signs) share a table, so that
// the side information is about one byte a channel. NaN payloads, infinities and denormals are bit patterns like any other.
// 32-bit floats: their upper halves go this way, their lower halves are stored raw, or not at all where all of them are zero.
#pragma once

#include "decode_request.h"
#include "rans.h"

namespace kvreel {

constexpr uint32_t kExactBins = 127;         // symbols are 2 * bin + sign
constexpr uint32_t kExactBinsBelowMean = 80;  // more room below: magnitudes near zero have a long tail
constexpr uint8_t kExactEscape = 255;
constexpr uint32_t kExactMaxShift = 12;  // raw low bits of a value

// What the decoder must know of one channel; how the encoder came to it is not part of the format.
struct ExactChannel {
  uint16_t mean_bin;  // mean magnitude >> shift
  uint8_t table;
  uint8_t shift;  // its table's
  uint8_t flip;  // 1: the sign bit is stored inverted, so that 0 is the commoner sign
};

// Bytes of one channel's raw low bits.
inline size_t exact_low_bytes(const ExactChannel& channel, size_t tokens) noexcept { return (tokens * channel.shift + 7) / 8; }

// What the decoder must know of one table.
struct ExactTable {
  uint8_t shift;  // low bits that are stored raw
  RansFrequencies frequencies;
};

// Bits of a magnitude for an element type: 15 (of the upper half, where elements have 32 bits) or 7.
constexpr uint32_t exact_magnitude_bits(ElementType type) noexcept { return element_bytes(type) == 1 ? 7 : 15; }

// Encodes `tensor` into sections ordered by layer, then by group of `group_tokens` tokens, at the front of `out`.
// `out` must hold the sections of exact_encode_bound(). The tensor, of exactly tensor_bytes(), and `out` must outlive the job.
// Null where memory ran out.
EncodeJob* exact_encode_job(const TensorLayout& layout, uint32_t group_tokens, ConstBytes tensor, Bytes out) noexcept;
Status exact_encode_bound(const KvShape& shape, uint32_t group_tokens, EncodeBound* bound) noexcept;

// Decodes the selected sections, one for each selected (layer, group).
ChunkJob* exact_decode_job(const DecodeRequest& request) noexcept;

// Loops over one row (or 16 tokens of it), each with a twin for AVX2 that gives the same results.

struct ExactSums {
  uint64_t magnitude;
  uint64_t negative;
};
// Bins [begin, end) that a table has slots for; what lies outside is sent as an escape.
struct ExactBinRange {
  uint16_t begin, end;
};

ExactSums exact_sum_row(const uint16_t* row, size_t tokens, uint32_t magnitude_bits) noexcept;
uint64_t exact_deviation_of_row(const uint16_t* row, size_t tokens, uint32_t magnitude_bits, uint16_t mean) noexcept;
// 16-bit patterns -> symbols; returns the number of escapes.
size_t exact_symbols_of_row(const uint16_t* row, size_t tokens, const ExactChannel& channel, ExactBinRange range, uint32_t magnitude_bits,
                            uint8_t* symbols) noexcept;
// Symbols and low bits -> 16-bit patterns, for all rows of a group: [row][token].
void exact_restore_rows(const uint8_t* symbols, size_t tokens, Span<const ExactChannel> channels, uint32_t magnitude_bits, const uint8_t* low,
                        uint16_t* out) noexcept;
constexpr size_t kExactLowPadding = 64;
// Packs the low `shift` bits of the values [row * stride + token] of a group, first value lowest, each row from a byte of its own, and
// returns the bytes written.
size_t exact_pack_rows(const uint16_t* values, size_t stride, size_t tokens, Span<const ExactChannel> channels, uint8_t* out) noexcept;

#if defined(KVREEL_AVX2)
ExactSums exact_sum_row_avx2(const uint16_t* row, size_t tokens, uint32_t magnitude_bits) noexcept;
uint64_t exact_deviation_of_row_avx2(const uint16_t* row, size_t tokens, uint32_t magnitude_bits, uint16_t mean) noexcept;
size_t exact_symbols_of_row_avx2(const uint16_t* row, size_t tokens, const ExactChannel& channel, ExactBinRange range, uint32_t magnitude_bits,
                                 uint8_t* symbols) noexcept;
// For tokens that are a multiple of 16. Reads up to 8 bytes of `low` past its end.
void exact_restore_rows_avx2(const uint8_t* symbols, size_t tokens, Span<const ExactChannel> channels, uint32_t magnitude_bits, const uint8_t* low,
                             uint16_t* out) noexcept;
// For cpu_has_avx512() and any number of tokens. Reads up to kExactLowPadding bytes of `low` past its end.
void exact_restore_rows_avx512(const uint8_t* symbols, size_t tokens, Span<const ExactChannel> channels, uint32_t magnitude_bits, const uint8_t* low,
                               uint16_t* out) noexcept;
// For tokens that are a multiple of 16. Writes up to 8 bytes past the end.
size_t exact_pack_rows_avx2(const uint16_t* values, size_t stride, size_t tokens, Span<const ExactChannel> channels, uint8_t* out) noexcept;
#endif

}  // namespace kvreel
