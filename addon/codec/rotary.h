// Tables of the rotary position embedding (RoPE; Su et al., 2021) of K, to undo and redo it. They and the rotations use only + - * / of IEEE double
// and float, no libm and no fused multiply-add, so every machine gets the same bits from the same input.
#pragma once

#include "plane_shape.h"

namespace kvreel {

/// Which dims of a head turn together, with n = rotary_dims: `half` pairs i with i + n / 2, `interleaved` 2i with 2i + 1.
enum class RotaryStyle : uint8_t { kHalf = 0, kInterleaved };

/// As `RopeParameters` in lib/types.ts. theta is finite and at least 1; rotary_dims, the leading dims of a head that turn, is even.
struct RotaryParameters {
  double theta;
  uint32_t rotary_dims;
  RotaryStyle style;
};

/// Up to here cosines and sines are right to a float's last place; up to 131072 they are rounded to the nearest but for rare ties.
constexpr uint32_t kMaxPosition = 1u << 24;

/// Cosines and sines of `tokens` consecutive positions, [rotary_dims / 2][tokens] each, in memory that the caller owns.
struct RotaryTable {
  const float* cosines;
  const float* sines;
  uint32_t tokens;
  uint32_t rotary_dims;
  RotaryStyle style;
};

/// Floats of memory that a table takes; 0 where build_rotary_table() would refuse these numbers.
size_t rotary_table_floats(uint32_t rotary_dims, uint32_t tokens) noexcept;

/// Fills `memory`, at least rotary_table_floats() long, for positions [start, start + tokens), which end at or before
/// kMaxPosition; *table points into it.
Status build_rotary_table(const RotaryParameters& parameters, uint32_t start, uint32_t tokens, Span<float> memory,
                          RotaryTable* table) noexcept;

/// Turns one pair of dims of `tokens` tokens in place: a' = a * cos - b * sin, b' = b * cos + a * sin, with -sin to undo.
void rotate_pair(float* a, float* b, const float* cosines, const float* sines, size_t tokens, bool undo) noexcept;
#if defined(KVREEL_AVX2)
void rotate_pair_avx2(float* a, float* b, const float* cosines, const float* sines, size_t tokens, bool undo) noexcept;
#endif

}  // namespace kvreel
