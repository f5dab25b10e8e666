// The one place where sizes are multiplied. A shape may come from a hostile header, so every product is checked
// and capped here, before anything is addressed with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "span.h"
#include "status.h"

namespace kvreel {

/// In the order of `Dtype` in lib/types.ts.
enum class ElementType : uint8_t { kBf16 = 0, kF16, kF32, kF8E4m3, kF8E5m2, kU8 };

/// The KV cache of one chunk, without its order in memory.
struct KvShape {
  uint32_t layers;
  uint32_t planes;  // 1 for MLA, else 2: K, then V
  uint32_t tokens;
  uint32_t kv_heads;
  uint32_t head_dim;
  ElementType type;
};

constexpr uint32_t kMaxLayers = 4096;
constexpr uint32_t kMaxTokens = 1u << 28;
constexpr uint32_t kMaxTokenElements = 65536;  // kv_heads * head_dim
constexpr uint64_t kMaxBytes = (uint64_t{1} << 40) - 1;

/// Bytes of one element; 0 for a value that is none of ours.
constexpr size_t element_bytes(ElementType type) noexcept {
  switch (type) {
    case ElementType::kBf16:
    case ElementType::kF16: return 2;
    case ElementType::kF32: return 4;
    case ElementType::kF8E4m3:
    case ElementType::kF8E5m2:
    case ElementType::kU8: return 1;
  }
  return 0;
}

/// *offset += count * stride. False, with *offset unchanged, where the sum is beyond kMaxBytes or a size_t.
inline bool checked_advance(size_t* offset, uint64_t count, uint64_t stride) noexcept {
  constexpr uint64_t limit = kMaxBytes < SIZE_MAX ? kMaxBytes : SIZE_MAX;
  if (*offset > limit) return false;
  if (stride != 0 && count > (limit - *offset) / stride) return false;
  *offset += static_cast<size_t>(count * stride);
  return true;
}

/// The product of `factors`. False where it is beyond kMaxBytes or a size_t.
inline bool checked_bytes(std::initializer_list<uint64_t> factors, size_t* bytes) noexcept {
  size_t product = 1;
  for (const uint64_t factor : factors) {
    size_t next = 0;
    if (!checked_advance(&next, product, factor)) return false;
    product = next;
  }
  *bytes = product;
  return true;
}

/// Bytes of the whole tensor. A shape outside the limits above, or with an empty dimension, is kInvalidArgument.
inline Status tensor_bytes(const KvShape& shape, size_t* bytes) noexcept {
  if (shape.layers == 0 || shape.layers > kMaxLayers) return Status::kInvalidArgument;
  if (shape.planes != 1 && shape.planes != 2) return Status::kInvalidArgument;
  if (shape.tokens == 0 || shape.tokens > kMaxTokens) return Status::kInvalidArgument;
  if (shape.kv_heads == 0 || shape.head_dim == 0) return Status::kInvalidArgument;
  if (uint64_t{shape.kv_heads} * shape.head_dim > kMaxTokenElements) return Status::kInvalidArgument;
  if (element_bytes(shape.type) == 0) return Status::kInvalidArgument;
  const bool fits = checked_bytes(
      {shape.layers, shape.planes, shape.tokens, shape.kv_heads, shape.head_dim, element_bytes(shape.type)}, bytes);
  return fits ? Status::kOk : Status::kInvalidArgument;
}

/// Bytes of `tokens` tokens of one plane of a shape that tensor_bytes() accepted.
inline bool plane_bytes(const KvShape& shape, uint32_t tokens, size_t* bytes) noexcept {
  return checked_bytes({shape.kv_heads, tokens, shape.head_dim, element_bytes(shape.type)}, bytes);
}

}  // namespace kvreel
