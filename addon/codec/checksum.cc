#include "checksum.h"

#include "cpu.h"
#include "little_endian.h"

namespace kvreel {
namespace {

constexpr uint64_t kPrime32_1 = 0x9E3779B1;
constexpr uint64_t kPrime32_2 = 0x85EBCA77;
constexpr uint64_t kPrime32_3 = 0xC2B2AE3D;
constexpr uint64_t kPrime1 = 0x9E3779B185EBCA87;
constexpr uint64_t kPrime2 = 0xC2B2AE3D27D4EB4F;
constexpr uint64_t kPrime3 = 0x165667B19E3779F9;
constexpr uint64_t kPrime4 = 0x85EBCA77C2B2AE63;
constexpr uint64_t kPrime5 = 0x27D4EB2F165667C5;
constexpr uint64_t kPrimeMix1 = 0x165667919E3779F9;
constexpr uint64_t kPrimeMix2 = 0x9FB21C651E98DF25;

constexpr uint8_t kSecret[] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb,
    0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb,
    0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31,
    0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc,
    0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};
constexpr size_t kSecretBytes = sizeof(kSecret);
static_assert(kSecretBytes == 192);

constexpr size_t kLanes = 8;
constexpr size_t kStripeBytes = 64;
constexpr size_t kBlockStripes = 16;
constexpr size_t kBlockBytes = kBlockStripes * kStripeBytes;

constexpr uint64_t rotate_left(uint64_t value, int bits) noexcept { return (value << bits) | (value >> (64 - bits)); }

// Compilers turn this into one load.
inline uint64_t read_u64(const uint8_t* p) noexcept {
  return uint64_t{p[0]} | uint64_t{p[1]} << 8 | uint64_t{p[2]} << 16 | uint64_t{p[3]} << 24 | uint64_t{p[4]} << 32 | uint64_t{p[5]} << 40 |
         uint64_t{p[6]} << 48 | uint64_t{p[7]} << 56;
}

inline uint64_t swap_bytes(uint64_t value) noexcept {
  value = (value & 0x00FF00FF00FF00FF) << 8 | (value >> 8 & 0x00FF00FF00FF00FF);
  value = (value & 0x0000FFFF0000FFFF) << 16 | (value >> 16 & 0x0000FFFF0000FFFF);
  return value << 32 | value >> 32;
}

// The two halves of the 128-bit product, folded.
inline uint64_t multiply_fold(uint64_t a, uint64_t b) noexcept {
  __extension__ using uint128 = unsigned __int128;
  const uint128 product = uint128{a} * b;
  return uint64_t(product) ^ uint64_t(product >> 64);
}

inline uint64_t avalanche(uint64_t hash) noexcept {
  hash = (hash ^ (hash >> 37)) * kPrimeMix1;
  return hash ^ (hash >> 32);
}

// The finish of XXH64, which XXH3 keeps for up to three bytes.
inline uint64_t avalanche_xxh64(uint64_t hash) noexcept {
  hash = (hash ^ (hash >> 33)) * kPrime2;
  hash = (hash ^ (hash >> 29)) * kPrime3;
  return hash ^ (hash >> 32);
}

uint64_t hash_1_to_3(const uint8_t* p, size_t size) noexcept {
  const uint64_t combined = uint64_t{p[0]} << 16 | uint64_t{p[size / 2]} << 24 | uint64_t{p[size - 1]} | uint64_t{size} << 8;
  return avalanche_xxh64(combined ^ load_u32(kSecret) ^ load_u32(kSecret + 4));
}

uint64_t hash_4_to_8(const uint8_t* p, size_t size) noexcept {
  const uint64_t combined = uint64_t{load_u32(p)} << 32 | load_u32(p + size - 4);
  uint64_t hash = combined ^ read_u64(kSecret + 8) ^ read_u64(kSecret + 16);
  hash ^= rotate_left(hash, 49) ^ rotate_left(hash, 24);
  hash *= kPrimeMix2;
  hash = (hash ^ ((hash >> 35) + size)) * kPrimeMix2;
  return hash ^ (hash >> 28);
}

uint64_t hash_9_to_16(const uint8_t* p, size_t size) noexcept {
  const uint64_t low = read_u64(p) ^ read_u64(kSecret + 24) ^ read_u64(kSecret + 32);
  const uint64_t high = read_u64(p + size - 8) ^ read_u64(kSecret + 40) ^ read_u64(kSecret + 48);
  return avalanche(size + swap_bytes(low) + high + multiply_fold(low, high));
}

inline uint64_t mix_16(const uint8_t* p, const uint8_t* secret) noexcept {
  return multiply_fold(read_u64(p) ^ read_u64(secret), read_u64(p + 8) ^ read_u64(secret + 8));
}

// Pairs of 16 bytes, one from each end, that meet in the middle.
uint64_t hash_17_to_128(const uint8_t* p, size_t size) noexcept {
  uint64_t hash = size * kPrime1;
  for (size_t i = 0; i <= (size - 1) / 32; i++) hash += mix_16(p + 16 * i, kSecret + 32 * i) + mix_16(p + size - 16 * (i + 1), kSecret + 32 * i + 16);
  return avalanche(hash);
}

uint64_t hash_129_to_240(const uint8_t* p, size_t size) noexcept {
  uint64_t hash = size * kPrime1;
  for (size_t i = 0; i < 8; i++) hash += mix_16(p + 16 * i, kSecret + 16 * i);
  hash = avalanche(hash);
  for (size_t i = 8; i < size / 16; i++) hash += mix_16(p + 16 * i, kSecret + 16 * (i - 8) + 3);
  return avalanche(hash + mix_16(p + size - 16, kSecret + 119));
}

inline void add_stripe(const uint8_t* p, const uint8_t* secret, uint64_t* lanes) noexcept {
  for (size_t i = 0; i < kLanes; i++) {
    const uint64_t value = read_u64(p + 8 * i);
    const uint64_t keyed = value ^ read_u64(secret + 8 * i);
    lanes[i ^ 1] += value;
    lanes[i] += (keyed & 0xFFFFFFFF) * (keyed >> 32);
  }
}

void stripes_scalar(const uint8_t* p, size_t blocks, size_t stripes, uint64_t* lanes) noexcept {
  for (; blocks > 0; --blocks, p += kBlockBytes) {
    for (size_t i = 0; i < kBlockStripes; i++) add_stripe(p + kStripeBytes * i, kSecret + 8 * i, lanes);
    for (size_t i = 0; i < kLanes; i++) lanes[i] = (lanes[i] ^ (lanes[i] >> 47) ^ read_u64(kSecret + kSecretBytes - kStripeBytes + 8 * i)) * kPrime32_1;
  }
  for (size_t i = 0; i < stripes; i++) add_stripe(p + kStripeBytes * i, kSecret + 8 * i, lanes);
}

uint64_t hash_long(const uint8_t* p, size_t size) noexcept {
  uint64_t lanes[kLanes] = {kPrime32_3, kPrime1, kPrime2, kPrime3, kPrime4, kPrime32_2, kPrime5, kPrime32_1};
  // The last byte is left to the last stripe, which ends with the input and may repeat bytes of the stripe before it.
  const size_t blocks = (size - 1) / kBlockBytes;
  const size_t stripes = (size - 1) % kBlockBytes / kStripeBytes;
#if defined(KVREEL_AVX2)
  if (cpu_has_avx2()) {
    xxh3_stripes_avx2(p, blocks, stripes, kSecret, lanes);
  } else
#endif
  {
    stripes_scalar(p, blocks, stripes, lanes);
  }
  add_stripe(p + size - kStripeBytes, kSecret + kSecretBytes - kStripeBytes - 7, lanes);

  uint64_t hash = size * kPrime1;
  for (size_t i = 0; i < kLanes; i += 2) {
    const uint8_t* secret = kSecret + 11 + 8 * i;
    hash += multiply_fold(lanes[i] ^ read_u64(secret), lanes[i + 1] ^ read_u64(secret + 8));
  }
  return avalanche(hash);
}

}  // namespace

uint64_t xxh3_64(ConstBytes bytes) noexcept {
  const uint8_t* p = bytes.data;
  const size_t size = bytes.size;
  if (size > 240) return hash_long(p, size);
  if (size > 128) return hash_129_to_240(p, size);
  if (size > 16) return hash_17_to_128(p, size);
  if (size > 8) return hash_9_to_16(p, size);
  if (size > 3) return hash_4_to_8(p, size);
  if (size > 0) return hash_1_to_3(p, size);
  return avalanche_xxh64(read_u64(kSecret + 56) ^ read_u64(kSecret + 64));
}

}  // namespace kvreel
