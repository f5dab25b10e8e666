#include "block_cache.h"

#include <mutex>
#include <new>

namespace kvreel {
namespace {

// Blocks of 64 KiB to 16 MiB, in powers of two, are kept. Smaller ones are malloc's own business, larger ones too rare.
constexpr size_t kSmallest = size_t(64) << 10;
constexpr size_t kClasses = 9;
constexpr size_t kBlocksPerClass = 64;
constexpr size_t kMostKept = size_t(64) << 20;

struct Kept {
  void* block[kBlocksPerClass];
  size_t count;
};

std::mutex mutex;
Kept kept[kClasses];
size_t kept_bytes;

// The class whose blocks hold `bytes`; kClasses if none does.
size_t class_of(size_t bytes) noexcept {
#if defined(__SANITIZE_ADDRESS__)
  (void)bytes;
  return kClasses;  // a block of its exact size shows a read past its end
#else
  if (bytes <= kSmallest / 2) return kClasses;
  size_t index = 0;
  while (index < kClasses && kSmallest << index < bytes) index++;
  return index;
#endif
}

}  // namespace

void* take_block(size_t bytes, size_t* capacity) noexcept {
  const size_t index = class_of(bytes);
  *capacity = index < kClasses ? kSmallest << index : bytes;
  if (index < kClasses) {
    const std::lock_guard<std::mutex> lock(mutex);
    Kept& same = kept[index];
    if (same.count > 0) {
      kept_bytes -= *capacity;
      return same.block[--same.count];
    }
  }
  return ::operator new[](*capacity, std::align_val_t{kBlockAlignment}, std::nothrow);
}

void give_block(void* block, size_t capacity) noexcept {
  if (block == nullptr) return;
  const size_t index = class_of(capacity);
  if (index < kClasses) {
    const std::lock_guard<std::mutex> lock(mutex);
    Kept& same = kept[index];
    if (same.count < kBlocksPerClass && kept_bytes + capacity <= kMostKept) {
      same.block[same.count++] = block;
      kept_bytes += capacity;
      return;
    }
  }
  ::operator delete[](block, std::align_val_t{kBlockAlignment});
}

}  // namespace kvreel
