// A layer as rows: one row a channel, one column a token. Rows are K's channels (head-major), then V's.
// Coders work on rows because what a channel's values have in common (scale, mean, table) is what they exploit.
#pragma once

#include "layout.h"

namespace kvreel {

// Where the planes of one layer lie inside the engine's tensor.
struct LayerAddress {
  PlaneAddress plane[2];
};

Status layer_address(LayoutOrder order, const KvShape& shape, uint32_t block_tokens, uint32_t layer, LayerAddress* out) noexcept;

constexpr size_t layer_rows(const KvShape& shape) noexcept { return size_t(shape.planes) * shape.kv_heads * shape.head_dim; }

// Copies tokens [token_begin, token_begin + count) of a layer into rows[row * stride + token - token_begin].
// 8-bit elements are widened. Of 32-bit elements the upper halves go to `rows`, the lower ones to `low` (else unused, may be null).
// The tensor must be as long as its shape says: the caller has checked that.
void load_rows(const uint8_t* tensor, const LayerAddress& address, const KvShape& shape, size_t token_begin, size_t count, uint16_t* rows, uint16_t* low,
               size_t stride) noexcept;

// The inverse of load_rows.
void store_rows(const uint16_t* rows, const uint16_t* low, size_t stride, const LayerAddress& address, const KvShape& shape, size_t token_begin,
                size_t count, uint8_t* tensor) noexcept;

#if defined(KVREEL_AVX2)
// Transposes a 16 x 16 tile of 16-bit values: line i of the source starts at source[i], line i of the target at target[i].
void transpose_tile_avx2(const uint16_t* const source[16], uint16_t* const target[16]) noexcept;
#endif

}  // namespace kvreel
