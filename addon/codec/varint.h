// LEB128: seven bits a byte, lowest first, the top bit set on all but the last.
#pragma once

#include "span.h"

namespace kvreel {

constexpr size_t kVarintBound = 5;

// Writes a value below 2^35 and returns its bytes.
inline size_t write_varint(uint64_t value, uint8_t* out) noexcept {
  size_t n = 0;
  for (; value >= 128; value >>= 7) out[n++] = uint8_t(value | 128);
  out[n++] = uint8_t(value);
  return n;
}

// False where the input ends first or goes on after kVarintBound bytes.
inline bool read_varint(ConstBytes in, size_t* used, uint64_t* value) noexcept {
  *value = 0;
  for (size_t n = 0; n < in.size && n < kVarintBound; n++) {
    *value |= uint64_t(in[n] & 127) << (7 * n);
    if (in[n] < 128) {
      *used = n + 1;
      return true;
    }
  }
  return false;
}

}  // namespace kvreel
