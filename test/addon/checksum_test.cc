#include "checksum.h"

#include "check.h"

using namespace kvreel;

namespace {

struct Vector {
  size_t length;
  uint64_t seed;
  uint64_t hash;
};

// Made with the Python package xxhash 4.1.0 (xxh64) over pattern(length).
constexpr Vector kVectors[] = {
    {0, 0x0, 0xef46db3751d8e999},
    {0, 0x9e3779b97f4a7c15, 0xc4349fc93c010000},
    {1, 0x0, 0xad10cd9780ac4ff7},
    {3, 0x0, 0x40626d96276e4594},
    {3, 0x9e3779b97f4a7c15, 0x93ba463a084767e9},
    {4, 0x0, 0x882207c122c76e23},
    {7, 0x0, 0xcfc90033aa9dac4f},
    {8, 0x0, 0x90fda2f089fa86de},
    {12, 0x0, 0x333861b25fd6348b},
    {16, 0x0, 0x3a5b1165d151aa50},
    {31, 0x0, 0x44cc9efe5d2d0233},
    {31, 0x9e3779b97f4a7c15, 0x0fb3b15a174b3ff1},
    {32, 0x0, 0x0e1aab1d173cf196},
    {32, 0x9e3779b97f4a7c15, 0x860a935aa1fdd66b},
    {33, 0x0, 0x5c820b4b4fe28fdc},
    {40, 0x0, 0xc0441297b12d2395},
    {63, 0x0, 0x1153d36cade87066},
    {64, 0x0, 0xd4c20ef54cbc9f67},
    {65, 0x0, 0xac086c9b87baea67},
    {100, 0x0, 0x7f8375f3e09d8123},
    {100, 0x9e3779b97f4a7c15, 0x72a72996bc4434ac},
    {255, 0x0, 0xfc0c21a234c0a092},
    {256, 0x0, 0xfa7639c7a1c6e86e},
    {4097, 0x0, 0x77f9f5d3555c032b},
    {1048576, 0x0, 0x5aef21966e5ae743},
    {1048576, 0x9e3779b97f4a7c15, 0x2027fad97066f9c6},
};

std::vector<uint8_t> pattern(size_t length) {
  std::vector<uint8_t> bytes(length);
  for (size_t i = 0; i < length; ++i) bytes[i] = static_cast<uint8_t>(i * 131 + (i >> 8) * 7 + 17);
  return bytes;
}

}  // namespace

TEST(vectors, "xxh64 gives the published algorithm's values") {
  for (const Vector& vector : kVectors) {
    const std::vector<uint8_t> bytes = pattern(vector.length);
    CHECK(xxh64({bytes.data(), bytes.size()}, vector.seed) == vector.hash);
  }
}

TEST(alignment, "the hash does not depend on where the bytes lie") {
  const std::vector<uint8_t> bytes = pattern(1000);
  const uint64_t expected = xxh64({bytes.data(), bytes.size()}, 7);
  for (size_t shift = 1; shift < 32; ++shift) {
    std::vector<uint8_t> moved(shift);
    moved.insert(moved.end(), bytes.begin(), bytes.end());
    CHECK(xxh64(ConstBytes(moved.data(), moved.size()).from(shift), 7) == expected);
  }
}

TEST(flips, "every flipped bit and every cut changes the hash") {
  std::vector<uint8_t> bytes = pattern(131);
  const uint64_t expected = xxh64({bytes.data(), bytes.size()}, 0);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    CHECK(xxh64({bytes.data(), bytes.size()}, 0) != expected);
    bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
  }
  for (size_t length = 0; length < bytes.size(); ++length) CHECK(xxh64({bytes.data(), length}, 0) != expected);
}

TEST(empty, "an empty span may have no address") {
  CHECK(xxh64({}, 0) == 0xef46db3751d8e999);
}
