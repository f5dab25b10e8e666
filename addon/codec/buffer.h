// Heap memory that may fail without an exception.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "status.h"

namespace kvreel {

// An array of trivial elements, aligned for vector loads, with its length.
template <typename T>
class Buffer {
 public:
  Buffer() noexcept = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() noexcept { ::operator delete[](data_, std::align_val_t{kAlignment}); }

  // Room for `count` elements, uninitialised; what was there is gone. Keeps a block that is already large enough.
  Status resize(size_t count) noexcept {
    if (count > capacity_) {
      if (count > SIZE_MAX / sizeof(T)) return Status::kOutOfMemory;
      void* block = ::operator new[](count * sizeof(T), std::align_val_t{kAlignment}, std::nothrow);
      if (block == nullptr) return Status::kOutOfMemory;
      ::operator delete[](data_, std::align_val_t{kAlignment});
      data_ = static_cast<T*>(block);
      capacity_ = count;
    }
    size_ = count;
    return Status::kOk;
  }

  T* data() const noexcept { return data_; }
  size_t size() const noexcept { return size_; }
  T& operator[](size_t index) const noexcept { return data_[index]; }

 private:
  static constexpr size_t kAlignment = 64;
  T* data_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

}  // namespace kvreel
