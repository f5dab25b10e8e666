// Where a plane's tokens lie in an engine's tensor, and the copies between there and dense planes.
#pragma once

#include "plane_shape.h"

namespace kvreel {

/// The orders of `LayoutOrder` in lib/types.ts, in the same sequence; described there.
enum class LayoutOrder : uint8_t {
  kSplit = 0,
  kFused,
  kLmcache2ltd,
  kMla,
  kVllmCpuPages,
  kVllmCpuRows,
  kSglangLayerFirst,
  kSglangPageFirst,
  kBytes,
};

/// One plane inside a tensor. Token t of head h is head_dim contiguous elements from byte
///   base + h * head_stride + (t / outer_tokens) * outer_stride
///        + (t % outer_tokens / inner_tokens) * inner_stride + (t % outer_tokens % inner_tokens) * token_stride
/// All but the two token counts are in bytes.
struct PlaneAddress {
  size_t base;
  size_t head_stride;
  size_t outer_tokens;
  size_t outer_stride;
  size_t inner_tokens;
  size_t inner_stride;
  size_t token_stride;
};

/// The address of plane `plane` (0 = K, 1 = V) of `layer`. `block_tokens` is read by the paged orders only; they
/// need tokens to be a multiple of it, and kVllmCpuRows needs it even. kMla needs one plane and one head, every
/// other order two planes. kBytes has no planes: kUnsupported.
Status plane_address(LayoutOrder order, const KvShape& shape, uint32_t block_tokens, uint32_t layer, uint32_t plane,
                     PlaneAddress* address) noexcept;

/// Copies tokens [token_begin, token_begin + token_count) of a plane to dense [kv_heads][token_count][head_dim].
/// `src` is the whole tensor; `dst` holds at least plane_bytes(shape, token_count) and does not overlap it.
Status gather_plane(ConstBytes src, const PlaneAddress& address, const KvShape& shape, uint32_t token_begin, uint32_t token_count,
                    Bytes dst) noexcept;

/// The inverse of gather_plane: dense `src` into the whole tensor `dst`. Bytes of other planes and tokens stay.
Status scatter_plane(ConstBytes src, const PlaneAddress& address, const KvShape& shape, uint32_t token_begin, uint32_t token_count,
                     Bytes dst) noexcept;

/// Copies a whole tensor from `order` to [layers][planes][kv_heads][tokens][head_dim]. `src` is exactly
/// tensor_bytes(shape) long, `dst` at least that; they do not overlap.
Status pack(LayoutOrder order, const KvShape& shape, uint32_t block_tokens, ConstBytes src, Bytes dst) noexcept;

/// The inverse of pack(), under the same rules.
Status unpack(LayoutOrder order, const KvShape& shape, uint32_t block_tokens, ConstBytes src, Bytes dst) noexcept;

}  // namespace kvreel
