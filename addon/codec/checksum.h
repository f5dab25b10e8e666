// XXH64: guards sections against broken disks and links, not against an adversary.
#pragma once

#include "span.h"

namespace kvreel {

/// XXH64 of `bytes`, as the xxHash specification (version 0.1.1) defines it.
uint64_t xxh64(ConstBytes bytes, uint64_t seed) noexcept;

}  // namespace kvreel
