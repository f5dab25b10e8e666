#include "checksum.h"

#include "check.h"
#include "cpu.h"

using namespace kvreel;

namespace {

struct Vector {
  size_t length;
  uint64_t hash;
};

// Made with the Python package xxhash 4.1.0 (xxh3_64) over pattern(length): both ends of every length class, and of stripes and blocks.
constexpr Vector kVectors[] = {
    {0, 0x2d06800538d394c2},
    {1, 0xf319fe2bdfcdfebd},
    {2, 0x6c2ca74ca555b69d},
    {3, 0xa107bb65b715c89b},
    {4, 0x509f0567aa8a3123},
    {5, 0x6e8bb692f31805e8},
    {7, 0x7d56f02b162bee3c},
    {8, 0xb1433dc39b7f946e},
    {9, 0xfe2542440b36ddc7},
    {12, 0x7574e41f1948c66e},
    {15, 0xed08d99f5f3a0d83},
    {16, 0x715189ff3dcdcff6},
    {17, 0x7d33163b8af0179c},
    {31, 0x91f3e7ddd073abe6},
    {32, 0x909ca0c765b1753c},
    {33, 0x60f5a6ac1c8b4a59},
    {63, 0xeed43e60f328f75c},
    {64, 0x0991d97cd58dd82d},
    {65, 0x8e4f57a107b176db},
    {95, 0xcd5e8bab85fc946e},
    {96, 0x8adaf9d6e4f4721f},
    {97, 0xc1e958e855648d78},
    {127, 0x7bc5430cc7221484},
    {128, 0xee847f7fcef4ddbc},
    {129, 0x7e3e7b750239d4fc},
    {143, 0x3e1b548757511c54},
    {144, 0xbe85dae44037bafd},
    {160, 0x0f2adb08915ea24e},
    {239, 0x1d79153451245f8c},
    {240, 0x44089a144aade02d},
    {241, 0xed93572e52acac83},
    {255, 0xecede890dd88244b},
    {256, 0x5356e48742805b6a},
    {257, 0x7e8a463c5c4c9c8f},
    {511, 0x005cbf0afc9f4dc5},
    {512, 0xd24bcbd9dfefec5b},
    {1023, 0x047380aa65016bf5},
    {1024, 0xf9bf1ee035a040ac},
    {1025, 0x70a447382d332cf9},
    {1088, 0xe7ccccf692f97a9e},
    {1089, 0xdbffe87a9420c9d8},
    {2047, 0xf13a22ffd1ceaccc},
    {2048, 0xf822771e45ed0902},
    {2049, 0xce7f6ffd4c22ab1f},
    {4095, 0x02ecc9cef6520c3c},
    {4096, 0x8de76fdd779a5067},
    {4097, 0x3d18adfda2110825},
    {65536, 0x64e51eb67250abb5},
    {1048576, 0xbebfe41d092c8a4c},
};

std::vector<uint8_t> pattern(size_t length) {
  std::vector<uint8_t> bytes(length);
  for (size_t i = 0; i < length; ++i) bytes[i] = static_cast<uint8_t>(i * 131 + (i >> 8) * 7 + 17);
  return bytes;
}

}  // namespace

TEST(vectors, "xxh3_64 gives the published algorithm's values, with AVX2 and without") {
  for (const bool scalar : {false, true}) {
    cpu_force_scalar(scalar);
    for (const Vector& vector : kVectors) {
      const std::vector<uint8_t> bytes = pattern(vector.length);
      CHECK(xxh3_64({bytes.data(), bytes.size()}) == vector.hash);
    }
  }
  cpu_force_scalar(false);
}

TEST(twins, "scalar and AVX2 agree on every length, wherever the bytes lie") {
  const std::vector<uint8_t> bytes = pattern(2100);
  for (size_t shift = 0; shift < 32; ++shift) {
    std::vector<uint8_t> moved(shift);
    moved.insert(moved.end(), bytes.begin(), bytes.end());
    for (size_t length = 0; length <= bytes.size(); ++length) {
      const uint64_t hash = xxh3_64({moved.data() + shift, length});
      cpu_force_scalar(true);
      CHECK(xxh3_64({bytes.data(), length}) == hash);
      cpu_force_scalar(false);
    }
  }
}

TEST(flips, "every flipped bit and every cut changes the hash") {
  for (const size_t size : {3u, 8u, 16u, 128u, 131u, 1100u}) {
    std::vector<uint8_t> bytes = pattern(size);
    const uint64_t expected = xxh3_64({bytes.data(), bytes.size()});
    for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
      CHECK(xxh3_64({bytes.data(), bytes.size()}) != expected);
      bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    }
    for (size_t length = 0; length < bytes.size(); ++length) CHECK(xxh3_64({bytes.data(), length}) != expected);
  }
}

TEST(empty, "an empty span may have no address") {
  CHECK(xxh3_64({}) == kVectors[0].hash);
}
