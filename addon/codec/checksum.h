// XXH3: guards sections against broken disks and links, not against an adversary.
#pragma once

#include "span.h"

namespace kvreel {

/// XXH3 of `bytes`, 64 bits, seed 0 and the default secret, as the xxHash specification defines it.
uint64_t xxh3_64(ConstBytes bytes) noexcept;

#if defined(KVREEL_AVX2)
// The stripes of a long input: `blocks` whole blocks, then `stripes` stripes of the next one. Updates the eight lanes.
void xxh3_stripes_avx2(const uint8_t* p, size_t blocks, size_t stripes, const uint8_t* secret, uint64_t* lanes) noexcept;
#endif

}  // namespace kvreel
