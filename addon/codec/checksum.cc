#include "checksum.h"

namespace kvreel {
namespace {

constexpr uint64_t kPrime1 = 0x9E3779B185EBCA87;
constexpr uint64_t kPrime2 = 0xC2B2AE3D27D4EB4F;
constexpr uint64_t kPrime3 = 0x165667B19E3779F9;
constexpr uint64_t kPrime4 = 0x85EBCA77C2B2AE63;
constexpr uint64_t kPrime5 = 0x27D4EB2F165667C5;

constexpr uint64_t rotate_left(uint64_t value, int bits) noexcept { return (value << bits) | (value >> (64 - bits)); }

// Compilers turn these into one load each.
uint64_t read_u32(const uint8_t* p) noexcept { return uint64_t{p[0]} | uint64_t{p[1]} << 8 | uint64_t{p[2]} << 16 | uint64_t{p[3]} << 24; }
uint64_t read_u64(const uint8_t* p) noexcept {
  return uint64_t{p[0]} | uint64_t{p[1]} << 8 | uint64_t{p[2]} << 16 | uint64_t{p[3]} << 24 | uint64_t{p[4]} << 32 | uint64_t{p[5]} << 40 |
         uint64_t{p[6]} << 48 | uint64_t{p[7]} << 56;
}

constexpr uint64_t round(uint64_t lane, uint64_t input) noexcept { return rotate_left(lane + input * kPrime2, 31) * kPrime1; }

constexpr uint64_t merge(uint64_t hash, uint64_t lane) noexcept { return (hash ^ round(0, lane)) * kPrime1 + kPrime4; }

}  // namespace

uint64_t xxh64(ConstBytes bytes, uint64_t seed) noexcept {
  const uint8_t* p = bytes.data;
  size_t left = bytes.size;
  uint64_t hash = seed + kPrime5;
  if (left >= 32) {
    uint64_t lane1 = seed + kPrime1 + kPrime2;
    uint64_t lane2 = seed + kPrime2;
    uint64_t lane3 = seed;
    uint64_t lane4 = seed - kPrime1;
    for (; left >= 32; p += 32, left -= 32) {
      lane1 = round(lane1, read_u64(p));
      lane2 = round(lane2, read_u64(p + 8));
      lane3 = round(lane3, read_u64(p + 16));
      lane4 = round(lane4, read_u64(p + 24));
    }
    hash = rotate_left(lane1, 1) + rotate_left(lane2, 7) + rotate_left(lane3, 12) + rotate_left(lane4, 18);
    hash = merge(merge(merge(merge(hash, lane1), lane2), lane3), lane4);
  }
  hash += bytes.size;
  for (; left >= 8; p += 8, left -= 8) hash = rotate_left(hash ^ round(0, read_u64(p)), 27) * kPrime1 + kPrime4;
  if (left >= 4) {
    hash = rotate_left(hash ^ read_u32(p) * kPrime1, 23) * kPrime2 + kPrime3;
    p += 4;
    left -= 4;
  }
  for (; left > 0; ++p, --left) hash = rotate_left(hash ^ *p * kPrime5, 11) * kPrime1;
  hash = (hash ^ (hash >> 33)) * kPrime2;
  hash = (hash ^ (hash >> 29)) * kPrime3;
  return hash ^ (hash >> 32);
}

}  // namespace kvreel
