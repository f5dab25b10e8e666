// The arithmetic encoder of 9.3.4.4 (in the standard's words: PutBit and bitsOutstanding), with the bits collected in one
// 64-bit register instead: `low` holds the standard's 10-bit ivlLow and above it `pending` bits that are not yet written.
// A carry out of them runs into the bytes already written; it never leaves the slice data, because low + range never
// reaches 1.0 of the code space.
#pragma once

#include "hevc_tables.h"

namespace kvreel {

class CabacEncoder {
 public:
  explicit CabacEncoder(uint8_t* out) noexcept : out_(out) {}

  // Bits coded so far, from the first byte at `start`.
  ptrdiff_t bits(const uint8_t* start) const noexcept { return (out_ - start) * 8 + pending_; }

  void code(uint8_t& state, unsigned bin) noexcept {
    const uint32_t lps = kHevcRangeLps[state >> 1][range_ >> 6 & 3];
    range_ -= lps;
    if (bin == (state & 1u)) {
      state = hevc_after_mps(state);
    } else {
      low_ += range_;
      range_ = lps;
      state = hevc_after_lps(state);
    }
    renormalise();
  }

  // `count` <= 20 bypass bins, the first one in the highest bit.
  void bypass(uint32_t bins, int count) noexcept {
    low_ = (low_ << count) + uint64_t{range_} * bins;
    pending_ += count;
    flush();
  }

  void terminate(unsigned bin) noexcept {
    range_ -= 2;
    if (bin != 0) {
      low_ += range_;
      range_ = 2;
    }
    renormalise();
  }

  // After terminate(1): the rest of the register, the stop bit and zeros up to a byte. Returns the end of the data.
  uint8_t* finish() noexcept {
    uint64_t bits = low_ >> 7 | 1;
    int count = pending_ + 3;
    const int padding = -count & 7;
    bits <<= padding;
    count += padding;
    carry(bits >> count & 1);
    while (count > 0) {
      count -= 8;
      *out_++ = uint8_t(bits >> count);
    }
    return out_;
  }

 private:
  void renormalise() noexcept {
    const int shift = __builtin_clz(range_) - 23;
    range_ <<= shift;
    low_ <<= shift;
    pending_ += shift;
    flush();
  }

  void flush() noexcept {
    if (pending_ < 32) return;
    pending_ -= 32;
    const uint64_t bits = low_ >> (pending_ + 10);
    low_ &= (uint64_t{1} << (pending_ + 10)) - 1;
    carry(bits >> 32);
    for (int shift = 24; shift >= 0; shift -= 8) *out_++ = uint8_t(bits >> shift);
  }

  void carry(uint64_t bit) noexcept {
    if (bit == 0) return;
    uint8_t* p = out_;
    do {
      p--;
    } while (++*p == 0);
  }

  uint8_t* out_;
  uint64_t low_ = 0;
  uint32_t range_ = 510;
  int pending_ = -1;  // the first bit out of the register is not part of the stream
};

}  // namespace kvreel
