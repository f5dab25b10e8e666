// bf16 and f16 to and from f32: round to nearest, ties to even. A NaN stays a NaN, keeps its sign and the payload bits
// that fit, and comes out quiet, as the processors' own conversions do; only bf16 -> f32, a pure shift, leaves it as it is.
#pragma once

#include <cstdint>
#include <cstring>

namespace kvreel {

inline uint32_t bits_of(float value) noexcept {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float float_of(uint32_t bits) noexcept {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline float bf16_to_float(uint16_t bf16) noexcept { return float_of(uint32_t{bf16} << 16); }

inline uint16_t float_to_bf16(float value) noexcept {
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x0040);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float f16_to_float(uint16_t f16) noexcept {
  const uint32_t sign = uint32_t{f16 & 0x8000u} << 16;
  const uint32_t exponent = f16 >> 10 & 0x1f;
  const uint32_t fraction = f16 & 0x3ff;
  if (exponent == 0x1f) {
    const uint32_t quiet = fraction != 0 ? 0x00400000 : 0;
    return float_of(sign | 0x7f800000 | quiet | fraction << 13);
  }
  if (exponent == 0) {
    // fraction * 2^-24 is exact, denormal or zero.
    return float_of(sign | bits_of(static_cast<float>(fraction) * 0x1p-24f));
  }
  return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

inline uint16_t float_to_f16(float value) noexcept {
  const uint32_t bits = bits_of(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // 65520 and above round to infinity
  if (magnitude < 0x38800000) {
    // Below the smallest normal. Adding 0.5 leaves multiples of 2^-24 in the fraction, rounded as f32 addition rounds.
    const uint32_t rounded = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
    return static_cast<uint16_t>(sign | rounded);
  }
  const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | ((rounded - (112u << 23)) >> 13));
}

}  // namespace kvreel
