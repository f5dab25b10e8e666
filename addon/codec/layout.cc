// Each order is a list of axes, outermost first; strides follow from it. vLLM's CPU rows fit too: a page [K: B x D][V: B x D]
// seen as B rows of 2D holds two tokens of one plane a row, K in the first half of the rows and V in the second,
// so gathering the rows of all heads gives [plane][pair of tokens][head][token of the pair][head_dim].
#include "layout.h"

#include <algorithm>
#include <cstring>

namespace kvreel {
namespace {

// Axes: L layer, P plane, B block, H head, R run of tokens inside a block, T token of a run. head_dim ends them all.
const char* axes_of(LayoutOrder order) noexcept {
  switch (order) {
    case LayoutOrder::kSplit: return "LPHT";
    case LayoutOrder::kFused: return "LTHP";
    case LayoutOrder::kLmcache2ltd: return "PLTH";
    case LayoutOrder::kMla: return "LT";
    case LayoutOrder::kVllmCpuPages: return "LBHPT";
    case LayoutOrder::kVllmCpuRows: return "LBPRHT";
    case LayoutOrder::kSglangLayerFirst: return "BPLTH";
    case LayoutOrder::kSglangPageFirst: return "BPTLH";
    case LayoutOrder::kBytes: return nullptr;
  }
  return nullptr;
}

// Calls copy(tensor offset, dense offset, bytes) for each run that is contiguous on both sides, in dense order.
template <typename Copy>
void for_each_run(const PlaneAddress& address, const KvShape& shape, uint32_t token_begin, uint32_t token_count, Copy copy) noexcept {
  const size_t token_bytes = shape.head_dim * element_bytes(shape.type);
  const size_t token_end = size_t{token_begin} + token_count;
  size_t run = 0;
  size_t run_bytes = 0;
  size_t dense = 0;
  for (uint32_t head = 0; head < shape.kv_heads; ++head) {
    for (size_t token = token_begin; token < token_end;) {
      const size_t in_outer = token % address.outer_tokens;
      const size_t in_inner = in_outer % address.inner_tokens;
      const size_t count = std::min({token_end - token, address.outer_tokens - in_outer, address.inner_tokens - in_inner});
      size_t offset = address.base + head * address.head_stride + token / address.outer_tokens * address.outer_stride +
                      in_outer / address.inner_tokens * address.inner_stride + in_inner * address.token_stride;
      for (size_t i = 0; i < count; ++i, offset += address.token_stride) {
        if (offset != run + run_bytes) {
          copy(run, dense, run_bytes);
          dense += run_bytes;
          run = offset;
          run_bytes = 0;
        }
        run_bytes += token_bytes;
      }
      token += count;
    }
  }
  copy(run, dense, run_bytes);
}

// The end of the plane's last byte in the tensor. The address is open to callers, so nothing in it is trusted.
bool plane_end(const PlaneAddress& address, const KvShape& shape, size_t* end) noexcept {
  if (address.outer_tokens == 0 || address.inner_tokens == 0) return false;
  const size_t in_outer = std::min<size_t>(shape.tokens, address.outer_tokens) - 1;
  const size_t in_inner = std::min(in_outer, address.inner_tokens - 1);
  *end = address.base;
  return checked_advance(end, shape.kv_heads - 1, address.head_stride) &&
         checked_advance(end, (shape.tokens - 1) / address.outer_tokens, address.outer_stride) &&
         checked_advance(end, in_outer / address.inner_tokens, address.inner_stride) &&
         checked_advance(end, in_inner, address.token_stride) &&
         checked_advance(end, shape.head_dim, element_bytes(shape.type));
}

// What gather_plane and scatter_plane must know before they touch memory.
Status plane_extent(const PlaneAddress& address, const KvShape& shape, uint32_t token_begin, uint32_t token_count, size_t* tensor_end,
                    size_t* dense_bytes) noexcept {
  size_t whole = 0;
  const Status status = tensor_bytes(shape, &whole);
  if (status != Status::kOk) return status;
  if (token_count == 0 || token_count > shape.tokens || token_begin > shape.tokens - token_count) return Status::kInvalidArgument;
  if (!plane_end(address, shape, tensor_end)) return Status::kInvalidArgument;
  return plane_bytes(shape, token_count, dense_bytes) ? Status::kOk : Status::kInvalidArgument;
}

// Calls copy(address, offset in the packed tensor, bytes of a plane) for each plane until one fails.
template <typename Copy>
Status for_each_plane(LayoutOrder order, const KvShape& shape, uint32_t block_tokens, ConstBytes src, Bytes dst, Copy copy) noexcept {
  size_t whole = 0;
  size_t one = 0;
  Status status = tensor_bytes(shape, &whole);
  if (status != Status::kOk) return status;
  if (!plane_bytes(shape, shape.tokens, &one) || src.size != whole) return Status::kInvalidArgument;
  if (dst.size < whole) return Status::kBufferTooSmall;
  size_t packed = 0;
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (uint32_t plane = 0; plane < shape.planes; ++plane, packed += one) {
      PlaneAddress address;
      status = plane_address(order, shape, block_tokens, layer, plane, &address);
      if (status == Status::kOk) status = copy(address, packed, one);
      if (status != Status::kOk) return status;
    }
  }
  return Status::kOk;
}

}  // namespace

Status plane_address(LayoutOrder order, const KvShape& shape, uint32_t block_tokens, uint32_t layer, uint32_t plane,
                     PlaneAddress* address) noexcept {
  size_t whole = 0;
  const Status status = tensor_bytes(shape, &whole);
  if (status != Status::kOk) return status;
  const char* axes = axes_of(order);
  if (axes == nullptr) return Status::kUnsupported;
  if (layer >= shape.layers || plane >= shape.planes) return Status::kInvalidArgument;
  const bool is_mla = order == LayoutOrder::kMla;
  if (is_mla != (shape.planes == 1) || (is_mla && shape.kv_heads != 1)) return Status::kInvalidArgument;

  const bool is_paged = std::strchr(axes, 'B') != nullptr;
  const bool is_paired = std::strchr(axes, 'R') != nullptr;
  if (is_paged && (block_tokens == 0 || shape.tokens % block_tokens != 0)) return Status::kInvalidArgument;
  if (is_paired && block_tokens % 2 != 0) return Status::kInvalidArgument;
  const uint32_t outer_tokens = is_paged ? block_tokens : shape.tokens;
  const uint32_t inner_tokens = is_paired ? 2 : outer_tokens;

  *address = PlaneAddress{};
  address->outer_tokens = outer_tokens;
  address->inner_tokens = inner_tokens;
  // No stride can overflow: each divides the whole tensor's size, which was checked.
  size_t stride = shape.head_dim * element_bytes(shape.type);
  for (size_t i = std::strlen(axes); i-- > 0;) {
    switch (axes[i]) {
      case 'L':
        address->base += layer * stride;
        stride *= shape.layers;
        break;
      case 'P':
        address->base += plane * stride;
        stride *= shape.planes;
        break;
      case 'B':
        address->outer_stride = stride;
        stride *= shape.tokens / outer_tokens;
        break;
      case 'H':
        address->head_stride = stride;
        stride *= shape.kv_heads;
        break;
      case 'R':
        address->inner_stride = stride;
        stride *= outer_tokens / inner_tokens;
        break;
      default:
        address->token_stride = stride;
        stride *= inner_tokens;
        break;
    }
  }
  return Status::kOk;
}

Status gather_plane(ConstBytes src, const PlaneAddress& address, const KvShape& shape, uint32_t token_begin, uint32_t token_count,
                    Bytes dst) noexcept {
  size_t tensor_end = 0;
  size_t dense_bytes = 0;
  const Status status = plane_extent(address, shape, token_begin, token_count, &tensor_end, &dense_bytes);
  if (status != Status::kOk) return status;
  if (src.size < tensor_end) return Status::kInvalidArgument;
  if (dst.size < dense_bytes) return Status::kBufferTooSmall;
  for_each_run(address, shape, token_begin, token_count,
               [&](size_t tensor, size_t dense, size_t bytes) { std::memcpy(dst.data + dense, src.data + tensor, bytes); });
  return Status::kOk;
}

Status scatter_plane(ConstBytes src, const PlaneAddress& address, const KvShape& shape, uint32_t token_begin, uint32_t token_count,
                     Bytes dst) noexcept {
  size_t tensor_end = 0;
  size_t dense_bytes = 0;
  const Status status = plane_extent(address, shape, token_begin, token_count, &tensor_end, &dense_bytes);
  if (status != Status::kOk) return status;
  if (src.size < dense_bytes) return Status::kInvalidArgument;
  if (dst.size < tensor_end) return Status::kBufferTooSmall;
  for_each_run(address, shape, token_begin, token_count,
               [&](size_t tensor, size_t dense, size_t bytes) { std::memcpy(dst.data + tensor, src.data + dense, bytes); });
  return Status::kOk;
}

Status pack(LayoutOrder order, const KvShape& shape, uint32_t block_tokens, ConstBytes src, Bytes dst) noexcept {
  return for_each_plane(order, shape, block_tokens, src, dst, [&](const PlaneAddress& address, size_t packed, size_t bytes) noexcept {
    return gather_plane(src, address, shape, 0, shape.tokens, dst.sub(packed, bytes));
  });
}

Status unpack(LayoutOrder order, const KvShape& shape, uint32_t block_tokens, ConstBytes src, Bytes dst) noexcept {
  return for_each_plane(order, shape, block_tokens, src, dst, [&](const PlaneAddress& address, size_t packed, size_t bytes) noexcept {
    return scatter_plane(src.sub(packed, bytes), address, shape, 0, shape.tokens, dst);
  });
}

}  // namespace kvreel
