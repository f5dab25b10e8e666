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
// Both ways for 16 tokens of one head with 16-bit elements, `dims` a multiple of 16: line[i] is where the head of token i begins in the tensor.
void load_strip_avx2(const uint8_t* const line[16], size_t dims, uint16_t* rows, size_t stride) noexcept;
void store_strip_avx2(const uint16_t* rows, size_t stride, size_t dims, uint8_t* const line[16]) noexcept;
#endif

}  // namespace kvreel
