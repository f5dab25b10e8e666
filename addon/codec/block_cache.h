// Memory that jobs hand on to each other: the first touch of a fresh page costs more than coding what goes into it.
#pragma once

#include <cstddef>

namespace kvreel {

constexpr size_t kBlockAlignment = 64;

// A block of at least `bytes`, aligned to kBlockAlignment; null where memory ran out. *capacity is what it really holds.
void* take_block(size_t bytes, size_t* capacity) noexcept;

// Gives a block back, with the capacity it came with. Up to 64 MiB are kept for the next job, the rest is freed.
void give_block(void* block, size_t capacity) noexcept;

}  // namespace kvreel
