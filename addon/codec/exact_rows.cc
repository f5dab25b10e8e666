// The row kernels of `exact`: the scalar reference.
#include "exact.h"

namespace kvreel {

#define KVREEL_VARIANT(name) name
#include "exact_loops.inl"
#undef KVREEL_VARIANT

namespace {

void restore_row(const uint8_t* symbols, size_t tokens, const ExactChannel& channel, uint32_t magnitude_bits, const uint8_t* low, uint16_t* out) noexcept {
  const uint32_t first_bin = channel.mean_bin - kExactBinsBelowMean;  // modulo 2^32, as is the sum below
  const uint32_t shift = channel.shift;
  uint32_t bits = 0, held = 0;
  for (size_t t = 0; t < tokens; t++) {
    while (held < shift) {
      bits |= uint32_t(*low++) << held;
      held += 8;
    }
    const uint32_t symbol = symbols[t];
    const uint32_t magnitude = (first_bin + (symbol >> 1)) << shift | (bits & ((1u << shift) - 1));
    out[t] = uint16_t(((symbol & 1) ^ channel.flip) << magnitude_bits | (magnitude & ((1u << magnitude_bits) - 1)));
    bits >>= shift;
    held -= shift;
  }
}

uint8_t* pack_row(const uint16_t* values, size_t tokens, uint32_t shift, uint8_t* out) noexcept {
  uint32_t bits = 0, held = 0;
  for (size_t t = 0; t < tokens; t++) {
    bits |= (values[t] & ((1u << shift) - 1)) << held;
    held += shift;
    for (; held >= 8; held -= 8, bits >>= 8) *out++ = uint8_t(bits);
  }
  if (held > 0) *out++ = uint8_t(bits);
  return out;
}

}  // namespace

void exact_restore_rows(const uint8_t* symbols, size_t tokens, Span<const ExactChannel> channels, uint32_t magnitude_bits, const uint8_t* low,
                        uint16_t* out) noexcept {
  for (size_t r = 0; r < channels.size; r++) {
    restore_row(symbols + r * tokens, tokens, channels[r], magnitude_bits, low, out + r * tokens);
    low += exact_low_bytes(channels[r], tokens);
  }
}

size_t exact_pack_rows(const uint16_t* values, size_t stride, size_t tokens, Span<const ExactChannel> channels, uint8_t* out) noexcept {
  uint8_t* p = out;
  for (size_t r = 0; r < channels.size; r++) p = pack_row(values + r * stride, tokens, channels[r].shift, p);
  return size_t(p - out);
}

}  // namespace kvreel
