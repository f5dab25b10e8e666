// Undoes and redoes the rotary position embedding (RoPE) of K. Tables and rotations use only + - * / of IEEE double
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

/// Cosines and sines of `tokens` consecutive positions, [tokens][rotary_dims / 2] each, in memory that the caller owns.
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

/// Rotates in place `tokens` rows of [heads][head_dim] floats, row t at rows + t * row_stride_floats, by the table's position t;
/// `undo` turns back. Trusts its caller: tokens <= table.tokens and table.rotary_dims <= head_dim.
void rotate_rows(float* rows, size_t row_stride_floats, uint32_t tokens, uint32_t heads, uint32_t head_dim, const RotaryTable& table,
                 bool undo) noexcept;

/// Rotates in place a dense plane [heads][tokens][head_dim]; checks every length.
Status rotate_plane(Span<float> plane, uint32_t heads, uint32_t tokens, uint32_t head_dim, const RotaryTable& table, bool undo) noexcept;

}  // namespace kvreel
