// All integers in our formats are little-endian and are read and written byte by byte.
#pragma once

#include <cstdint>

namespace kvreel {

inline uint16_t load_u16(const uint8_t* p) noexcept { return uint16_t(p[0] | p[1] << 8); }

inline uint32_t load_u32(const uint8_t* p) noexcept {
  return uint32_t(p[0]) | uint32_t(p[1]) << 8 | uint32_t(p[2]) << 16 | uint32_t(p[3]) << 24;
}

inline void store_u16(uint8_t* p, uint16_t v) noexcept {
  p[0] = uint8_t(v);
  p[1] = uint8_t(v >> 8);
}

inline void store_u32(uint8_t* p, uint32_t v) noexcept {
  for (int i = 0; i < 4; i++) p[i] = uint8_t(v >> (8 * i));
}

}  // namespace kvreel
