// The arithmetic decoder of 9.3.4.3, with a 64-bit window: `value_` holds the standard's 9-bit ivlOffset in its highest bits
// and the bits after it below; `range_` is ivlCurrRange at the same place.
#pragma once

#include "hevc_tables.h"

namespace kvreel {

class CabacDecoder {
 public:
  // Past the end the decoder sees zeros; position checks are the caller's, with is_overrun() or ends_here().
  CabacDecoder(const uint8_t* data, size_t size) noexcept : data_(data), size_(size) { refill(); }

  unsigned decode(uint8_t& state) noexcept {
    const uint64_t lps = uint64_t{kHevcRangeLps[state >> 1][range_ >> 61 & 3]} << 55;
    unsigned bin = state & 1;
    range_ -= lps;
    if (value_ < range_) {
      state = hevc_after_mps(state);
    } else {
      value_ -= range_;
      range_ = lps;
      bin ^= 1;
      state = hevc_after_lps(state);
    }
    const int shift = __builtin_clzll(range_);
    range_ <<= shift;
    consume(shift);
    return bin;
  }

  unsigned bypass() noexcept {
    // One more bit than the window has: the highest falls out, so the comparison comes first, on halves.
    const uint64_t half = range_ >> 1;
    const unsigned bin = value_ >= half;
    if (bin) value_ -= half;
    consume(1);
    return bin;
  }

  uint32_t bypass(int count) noexcept {
    uint32_t bins = 0;
    while (count-- > 0) bins = bins << 1 | bypass();
    return bins;
  }

  unsigned terminate() noexcept {
    range_ -= uint64_t{2} << 55;
    if (value_ >= range_) return 1;
    const int shift = __builtin_clzll(range_);
    range_ <<= shift;
    consume(shift);
    return 0;
  }

  // More was taken than there is: whatever was decoded since is made of zeros from nowhere.
  bool is_overrun() const noexcept { return taken() > size_ * 8; }

  // After terminate() == 1: the last bit taken is the stop bit, and only zeros up to a byte follow it.
  bool ends_here() const noexcept {
    const size_t bits = taken();
    if ((bits + 7) / 8 != size_) return false;
    const unsigned rest = unsigned(size_ * 8 - bits);
    return (data_[size_ - 1] & ((2u << rest) - 1)) == 1u << rest;
  }

 private:
  // Bits that are in ivlOffset or were: all that was ever loaded, less what waits in the window.
  size_t taken() const noexcept { return loaded_ * 8 - size_t(waiting_); }

  void consume(int count) noexcept {
    value_ <<= count;
    waiting_ -= count;
    if (waiting_ < 8) refill();
  }

  void refill() noexcept {
    while (waiting_ <= 47) {
      const uint64_t byte = loaded_ < size_ ? data_[loaded_] : 0;
      loaded_++;
      waiting_ += 8;
      value_ |= byte << (55 - waiting_);
    }
  }

  const uint8_t* data_;
  size_t size_;
  size_t loaded_ = 0;
  uint64_t value_ = 0;
  uint64_t range_ = uint64_t{510} << 55;
  int waiting_ = -9;  // bits below ivlOffset
};

}  // namespace kvreel
