// A pointer and a length that travel together. std::span is C++20; the codec is held to C++17.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvreel {

template <typename T>
struct Span {
  T* data = nullptr;
  size_t size = 0;

  constexpr Span() noexcept = default;
  constexpr Span(T* pointer, size_t count) noexcept : data(pointer), size(count) {}
  // From a span of U where U* converts to T*: writable bytes may be read.
  template <typename U>
  constexpr Span(const Span<U>& other) noexcept : data(other.data), size(other.size) {}
  constexpr T& operator[](size_t index) const noexcept { return data[index]; }
  constexpr Span first(size_t count) const noexcept { return Span(data, count); }
  constexpr Span from(size_t offset) const noexcept { return Span(data + offset, size - offset); }
  constexpr Span sub(size_t offset, size_t count) const noexcept { return Span(data + offset, count); }
};

using ConstBytes = Span<const uint8_t>;
using Bytes = Span<uint8_t>;

}  // namespace kvreel
