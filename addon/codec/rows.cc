#include "rows.h"

#include "cpu.h"
#include "little_endian.h"

namespace kvreel {
namespace {

constexpr size_t kStripTokens = 16;

inline size_t token_offset(const PlaneAddress& a, size_t head, size_t token) noexcept {
  const size_t in_outer = token % a.outer_tokens;
  return a.base + head * a.head_stride + token / a.outer_tokens * a.outer_stride + in_outer / a.inner_tokens * a.inner_stride +
         in_outer % a.inner_tokens * a.token_stride;
}

// Calls visit(row, element index of the row's first dim in a token, plane) for each plane and head.
template <typename Visit>
void for_each_head(const KvShape& shape, Visit visit) noexcept {
  size_t row = 0;
  for (size_t plane = 0; plane < shape.planes; plane++) {
    for (size_t head = 0; head < shape.kv_heads; head++, row += shape.head_dim) visit(plane, head, row);
  }
}

#if defined(KVREEL_AVX2)
bool strips_fit(const KvShape& shape, size_t count) noexcept {
  return element_bytes(shape.type) == 2 && shape.head_dim % 16 == 0 && count % kStripTokens == 0 && cpu_has_avx2();
}
#endif

}  // namespace

Status layer_address(LayoutOrder order, const KvShape& shape, uint32_t block_tokens, uint32_t layer, LayerAddress* out) noexcept {
  for (uint32_t plane = 0; plane < shape.planes; plane++) {
    const Status status = plane_address(order, shape, block_tokens, layer, plane, &out->plane[plane]);
    if (status != Status::kOk) return status;
  }
  return Status::kOk;
}

void load_rows(const uint8_t* tensor, const LayerAddress& address, const KvShape& shape, size_t token_begin, size_t count, uint16_t* rows, uint16_t* low,
               size_t stride) noexcept {
  const size_t width = element_bytes(shape.type);
  for_each_head(shape, [&](size_t plane, size_t head, size_t row) {
    const PlaneAddress& a = address.plane[plane];
#if defined(KVREEL_AVX2)
    if (strips_fit(shape, count)) {
      for (size_t t = 0; t < count; t += kStripTokens) {
        const uint8_t* line[kStripTokens];
        for (size_t i = 0; i < kStripTokens; i++) line[i] = tensor + token_offset(a, head, token_begin + t + i);
        load_strip_avx2(line, shape.head_dim, rows + row * stride + t, stride);
      }
      return;
    }
#endif
    for (size_t t = 0; t < count; t++) {
      const uint8_t* p = tensor + token_offset(a, head, token_begin + t);
      for (size_t d = 0; d < shape.head_dim; d++, p += width) {
        const size_t at = (row + d) * stride + t;
        if (width == 1) {
          rows[at] = *p;
        } else if (width == 2) {
          rows[at] = load_u16(p);
        } else {
          low[at] = load_u16(p);
          rows[at] = load_u16(p + 2);
        }
      }
    }
  });
}

void store_rows(const uint16_t* rows, const uint16_t* low, size_t stride, const LayerAddress& address, const KvShape& shape, size_t token_begin,
                size_t count, uint8_t* tensor) noexcept {
  const size_t width = element_bytes(shape.type);
  for_each_head(shape, [&](size_t plane, size_t head, size_t row) {
    const PlaneAddress& a = address.plane[plane];
#if defined(KVREEL_AVX2)
    if (strips_fit(shape, count)) {
      for (size_t t = 0; t < count; t += kStripTokens) {
        uint8_t* line[kStripTokens];
        for (size_t i = 0; i < kStripTokens; i++) line[i] = tensor + token_offset(a, head, token_begin + t + i);
        store_strip_avx2(rows + row * stride + t, stride, shape.head_dim, line);
      }
      return;
    }
#endif
    for (size_t t = 0; t < count; t++) {
      uint8_t* p = tensor + token_offset(a, head, token_begin + t);
      for (size_t d = 0; d < shape.head_dim; d++, p += width) {
        const size_t at = (row + d) * stride + t;
        if (width == 1) {
          *p = uint8_t(rows[at]);
        } else if (width == 2) {
          store_u16(p, rows[at]);
        } else {
          store_u16(p, low[at]);
          store_u16(p + 2, rows[at]);
        }
      }
    }
  });
}

}  // namespace kvreel
