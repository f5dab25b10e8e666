// Heap memory that may fail without an exception.
#pragma once

#include <cstddef>
#include <cstdint>

#include "block_cache.h"
#include "status.h"

namespace kvreel {

// An array of trivial elements, aligned for vector loads, with its length.
template <typename T>
class Buffer {
 public:
  Buffer() noexcept = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() noexcept { give_block(data_, bytes_); }

  // Room for `count` elements, uninitialised; what was there is gone. Keeps a block that is already large enough.
  Status resize(size_t count) noexcept {
    if (count > bytes_ / sizeof(T)) {
      if (count > SIZE_MAX / 2 / sizeof(T)) return Status::kOutOfMemory;
      size_t bytes = 0;
      void* block = take_block(count * sizeof(T), &bytes);
      if (block == nullptr) return Status::kOutOfMemory;
      give_block(data_, bytes_);
      data_ = static_cast<T*>(block);
      bytes_ = bytes;
    }
    size_ = count;
    return Status::kOk;
  }

  T* data() const noexcept { return data_; }
  size_t size() const noexcept { return size_; }
  T& operator[](size_t index) const noexcept { return data_[index]; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
  size_t bytes_ = 0;  // of the block
};

}  // namespace kvreel
