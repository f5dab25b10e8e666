#include "float16.h"

#include <cmath>

#include "check.h"

using namespace kvreel;

namespace {

constexpr uint32_t kInfinity = 0x7f800000;

bool is_nan16(uint16_t half, int fraction_bits) {
  const uint32_t magnitude = half & 0x7fff;
  return magnitude > (0x7fffu >> fraction_bits << fraction_bits);
}

// What a 16-bit float with `fraction_bits` bits of fraction is worth, from the definition, in double, where it is exact.
double value_of(uint16_t half, int fraction_bits) {
  const int exponent_bits = 15 - fraction_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (half & 0x7fff) >> fraction_bits;
  const double fraction = half & ((1 << fraction_bits) - 1);
  const double one = std::ldexp(1.0, fraction_bits);
  double value = exponent == 0 ? std::ldexp(fraction / one, 1 - bias) : std::ldexp(1 + fraction / one, exponent - bias);
  if (exponent == (1 << exponent_bits) - 1) value = INFINITY;
  return half & 0x8000 ? -value : value;
}

// The nearest 16-bit float to a finite value >= 0, ties to even, by comparing exact distances to both neighbours;
// halves count up with their values. The first value past the finite ones stands in for infinity.
uint16_t nearest(double value, int fraction_bits) {
  const uint16_t infinity = static_cast<uint16_t>(0x7fffu >> fraction_bits << fraction_bits);
  const double past_finite = std::ldexp(1.0, 1 << (14 - fraction_bits));
  uint16_t low = 0;
  uint16_t high = infinity;
  while (high - low > 1) {
    const uint16_t middle = static_cast<uint16_t>((low + high) / 2);
    (value_of(middle, fraction_bits) <= value ? low : high) = middle;
  }
  const double below = value - value_of(low, fraction_bits);
  const double above = (high == infinity ? past_finite : value_of(high, fraction_bits)) - value;
  if (below != above) return below < above ? low : high;
  return low % 2 == 0 ? low : high;
}

void check_narrowing(uint32_t bits) {
  const float value = float_of(bits);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  if ((bits & 0x7fffffff) > kInfinity) {
    const uint32_t payload = bits & 0x7fffff;
    CHECK(float_to_bf16(value) == (sign | 0x7f80 | 0x0040 | payload >> 16));
    CHECK(float_to_f16(value) == (sign | 0x7c00 | 0x0200 | payload >> 13));
    return;
  }
  if ((bits & 0x7fffffff) == kInfinity) {
    CHECK(float_to_bf16(value) == (sign | 0x7f80));
    CHECK(float_to_f16(value) == (sign | 0x7c00));
    return;
  }
  CHECK(float_to_bf16(value) == (sign | nearest(std::fabs(double{value}), 7)));
  CHECK(float_to_f16(value) == (sign | nearest(std::fabs(double{value}), 10)));
}

}  // namespace

TEST(widen, "all 65536 values widen to what the format's definition says") {
  for (uint32_t i = 0; i < 65536; ++i) {
    const uint16_t half = static_cast<uint16_t>(i);
    const uint32_t sign = (i & 0x8000) << 16;
    if (is_nan16(half, 7)) {
      CHECK(bits_of(bf16_to_float(half)) == i << 16);
    } else {
      CHECK(bits_of(bf16_to_float(half)) == bits_of(static_cast<float>(value_of(half, 7))));
    }
    if (is_nan16(half, 10)) {
      CHECK(bits_of(f16_to_float(half)) == (sign | kInfinity | 0x400000 | (i & 0x3ff) << 13));
    } else {
      CHECK(bits_of(f16_to_float(half)) == bits_of(static_cast<float>(value_of(half, 10))));
    }
  }
}

TEST(round_trip, "all 65536 values survive f32 and back; a signalling NaN comes back quiet") {
  for (uint32_t i = 0; i < 65536; ++i) {
    const uint16_t half = static_cast<uint16_t>(i);
    CHECK(float_to_bf16(bf16_to_float(half)) == (is_nan16(half, 7) ? i | 0x0040 : i));
    CHECK(float_to_f16(f16_to_float(half)) == (is_nan16(half, 10) ? i | 0x0200 : i));
  }
}

TEST(narrow_edges, "f32 narrows to the nearest even at, beside and between all representable values") {
  for (uint32_t i = 0; i < 65536; ++i) {
    const uint16_t half = static_cast<uint16_t>(i);
    for (const uint32_t centre : {i << 16, i << 16 | 0x8000, bits_of(f16_to_float(half)), bits_of(f16_to_float(half)) + 0x1000}) {
      for (const uint32_t delta : {0u, 1u, 0xffffffffu}) check_narrowing(centre + delta);
    }
  }
  // The ties among f16 denormals, and where they end.
  for (uint32_t i = 0; i < 2048; ++i) {
    const uint32_t tie = bits_of(std::ldexp(static_cast<float>(i) + 0.5f, -24));
    for (const uint32_t delta : {0u, 1u, 0xffffffffu}) {
      check_narrowing(tie + delta);
      check_narrowing((tie + delta) | 0x80000000);
    }
  }
}

TEST(narrow_random, "f32 narrows to the nearest even on random bits") {
  kvreel_test::Random random{3};
  for (int i = 0; i < 200000; ++i) {
    const uint64_t bits = random.next();
    check_narrowing(static_cast<uint32_t>(bits));
    // Exponents 2^-28 .. 2^19, around all that f16 can hold.
    check_narrowing(static_cast<uint32_t>((bits & 0x807fffff) | uint64_t{99 + random.below(48)} << 23));
  }
}
