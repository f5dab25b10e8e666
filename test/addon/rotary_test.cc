#include "rotary.h"

#include <cmath>
#include <cstring>

#include "check.h"
#include "checksum.h"

using namespace kvreel;

namespace {

struct Table {
  std::vector<float> memory;
  RotaryTable table{};
  Table(double theta, uint32_t dims, RotaryStyle style, uint32_t start, uint32_t tokens) : memory(rotary_table_floats(dims, tokens)) {
    CHECK(build_rotary_table({theta, dims, style}, start, tokens, {memory.data(), memory.size()}, &table) == Status::kOk);
  }
};

// The definition, in long double: angle = position * theta ^ (-2 i / dims).
long double angle_of(double theta, uint32_t dims, uint32_t pair, uint32_t position) {
  return position * std::pow(static_cast<long double>(theta), -2.0L * pair / dims);
}

std::vector<float> random_floats(size_t count, uint64_t seed) {
  kvreel_test::Random random{seed};
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(static_cast<double>(random.next() >> 11) * 0x1p-50 - 4.0);
  return values;
}

constexpr double kThetas[] = {1.0, 10000.0, 500000.0, 1000000.0, 10000000.0};

}  // namespace

TEST(table_accuracy, "cosines and sines are the nearest float up to position 131072, within a last place up to the limit") {
  for (const double theta : kThetas) {
    for (const uint32_t dims : {2u, 64u, 96u, 128u, 256u}) {
      for (const uint32_t start : {0u, 4090u, 131072u - 16, (1u << 20) + 5, kMaxPosition - 16}) {
        const Table built(theta, dims, RotaryStyle::kHalf, start, 16);
        for (uint32_t token = 0; token < 16; ++token) {
          for (uint32_t pair = 0; pair < dims / 2; ++pair) {
            const long double angle = angle_of(theta, dims, pair, start + token);
            const size_t at = token * (dims / 2) + pair;
            // 2^-25 is half a float's last place below 1; far out, the double angle's own error adds to it.
            const long double tolerance = start + 16 <= 131072 ? 0x1.04p-25L : 0x1p-24L;
            CHECK(std::fabs(built.table.cosines[at] - std::cos(angle)) <= tolerance);
            CHECK(std::fabs(built.table.sines[at] - std::sin(angle)) <= tolerance);
          }
        }
      }
    }
  }
}

TEST(table_bytes, "a table has the same bytes on every machine") {
  const Table built(500000.0, 128, RotaryStyle::kHalf, 131072 - 256, 256);
  uint64_t hash = 0;
  for (const float value : built.memory) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    const uint8_t bytes[4] = {static_cast<uint8_t>(bits), static_cast<uint8_t>(bits >> 8), static_cast<uint8_t>(bits >> 16),
                              static_cast<uint8_t>(bits >> 24)};
    hash = xxh64({bytes, 4}, hash);
  }
  CHECK(hash == 0x6161c59d96fc7fa7);
}

TEST(rows, "rotated rows agree with the definition in double, and dims beyond rotary_dims stay") {
  for (const RotaryStyle style : {RotaryStyle::kHalf, RotaryStyle::kInterleaved}) {
    for (const uint32_t dims : {2u, 6u, 30u, 64u, 70u}) {
      const uint32_t heads = 3, tokens = 5, head_dim = 70, start = 1000;
      const size_t stride = heads * head_dim + 9;
      const Table built(10000.0, dims, style, start, tokens);
      const std::vector<float> before = random_floats(stride * tokens, dims);
      for (const bool undo : {false, true}) {
        std::vector<float> after = before;
        rotate_rows(after.data(), stride, tokens, heads, head_dim, built.table, undo);
        std::vector<double> expected(before.begin(), before.end());
        for (uint32_t token = 0; token < tokens; ++token) {
          for (uint32_t head = 0; head < heads; ++head) {
            for (uint32_t pair = 0; pair < dims / 2; ++pair) {
              const double angle = static_cast<double>(angle_of(10000.0, dims, pair, start + token)) * (undo ? -1 : 1);
              const size_t dim0 = token * stride + head * head_dim;
              const size_t first = dim0 + (style == RotaryStyle::kHalf ? pair : 2 * pair);
              const size_t second = dim0 + (style == RotaryStyle::kHalf ? pair + dims / 2 : 2 * pair + 1);
              expected[first] = before[first] * std::cos(angle) - before[second] * std::sin(angle);
              expected[second] = before[first] * std::sin(angle) + before[second] * std::cos(angle);
            }
          }
        }
        for (size_t i = 0; i < after.size(); ++i) {
          CHECK(std::fabs(after[i] - expected[i]) < 1.5e-6);
          const size_t in_row = i % stride;
          if (in_row >= heads * head_dim || in_row % head_dim >= dims) CHECK(after[i] == before[i]);
        }
      }
    }
  }
}

TEST(inverse, "undo after redo and redo after undo give the input to a few last places, at any position") {
  for (const RotaryStyle style : {RotaryStyle::kHalf, RotaryStyle::kInterleaved}) {
    for (const uint32_t start : {0u, 131072u - 64, kMaxPosition - 64}) {
      const Table built(500000.0, 128, style, start, 64);
      const std::vector<float> before = random_floats(size_t{64} * 2 * 128, start);
      for (const bool undo_first : {false, true}) {
        std::vector<float> after = before;
        rotate_rows(after.data(), 256, 64, 2, 128, built.table, undo_first);
        rotate_rows(after.data(), 256, 64, 2, 128, built.table, !undo_first);
        for (size_t i = 0; i < after.size(); ++i) CHECK(std::fabs(after[i] - before[i]) < 2e-6f);
      }
    }
  }
}

TEST(position_zero, "position zero turns nothing") {
  const Table built(10000.0, 64, RotaryStyle::kHalf, 0, 1);
  const std::vector<float> before = random_floats(64, 1);
  std::vector<float> after = before;
  rotate_rows(after.data(), 64, 1, 1, 64, built.table, false);
  CHECK(after == before);
}

TEST(plane, "rotate_plane is rotate_rows on [heads][tokens][head_dim], bit for bit") {
  const uint32_t heads = 3, tokens = 7, head_dim = 48;
  for (const RotaryStyle style : {RotaryStyle::kHalf, RotaryStyle::kInterleaved}) {
    const Table built(10000.0, 32, style, 99, tokens);
    std::vector<float> rows = random_floats(size_t{heads} * tokens * head_dim, 5);
    std::vector<float> plane(rows.size());
    const auto at = [&](uint32_t head, uint32_t token) { return plane.data() + (head * tokens + token) * head_dim; };
    for (uint32_t token = 0; token < tokens; ++token) {
      for (uint32_t head = 0; head < heads; ++head) {
        std::memcpy(at(head, token), rows.data() + (token * heads + head) * head_dim, head_dim * 4);
      }
    }
    rotate_rows(rows.data(), heads * head_dim, tokens, heads, head_dim, built.table, true);
    CHECK(rotate_plane({plane.data(), plane.size()}, heads, tokens, head_dim, built.table, true) == Status::kOk);
    for (uint32_t token = 0; token < tokens; ++token) {
      for (uint32_t head = 0; head < heads; ++head) {
        CHECK(std::memcmp(at(head, token), rows.data() + (token * heads + head) * head_dim, head_dim * 4) == 0);
      }
    }
  }
}

// One pair at a time through memory that the compiler cannot see through: no vector code.
TEST(vector_code, "the compiler's vector code gives the bits of one multiplication at a time") {
  const uint32_t tokens = 9, head_dim = 130;
  for (const RotaryStyle style : {RotaryStyle::kHalf, RotaryStyle::kInterleaved}) {
    const Table built(10000.0, head_dim, style, 12345, tokens);
    const std::vector<float> before = random_floats(size_t{tokens} * head_dim, 8);
    std::vector<float> after = before;
    rotate_rows(after.data(), head_dim, tokens, 1, head_dim, built.table, false);
    for (uint32_t token = 0; token < tokens; ++token) {
      for (uint32_t pair = 0; pair < head_dim / 2; ++pair) {
        const size_t first = token * head_dim + (style == RotaryStyle::kHalf ? pair : 2 * pair);
        const size_t second = token * head_dim + (style == RotaryStyle::kHalf ? pair + head_dim / 2 : 2 * pair + 1);
        volatile float a_cosine = before[first] * built.table.cosines[token * (head_dim / 2) + pair];
        volatile float b_sine = before[second] * built.table.sines[token * (head_dim / 2) + pair];
        volatile float b_cosine = before[second] * built.table.cosines[token * (head_dim / 2) + pair];
        volatile float a_sine = before[first] * built.table.sines[token * (head_dim / 2) + pair];
        const float expected_first = a_cosine - b_sine;
        const float expected_second = b_cosine + a_sine;
        CHECK(std::memcmp(&after[first], &expected_first, 4) == 0);
        CHECK(std::memcmp(&after[second], &expected_second, 4) == 0);
      }
    }
  }
}

TEST(refusals, "parameters that make no table are refused") {
  std::vector<float> memory(64 * 4);
  const Span<float> span(memory.data(), memory.size());
  RotaryTable table;
  const auto build = [&](double theta, uint32_t dims, uint32_t start, uint32_t tokens, Span<float> into) {
    return build_rotary_table({theta, dims, RotaryStyle::kHalf}, start, tokens, into, &table);
  };
  CHECK(build(10000, 64, 0, 4, span) == Status::kOk);
  CHECK(build(10000, 64, 0, 4, span.first(255)) == Status::kBufferTooSmall);
  for (const double theta : {0.0, -1.0, 0.5, 1e31, static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    CHECK(build(theta, 64, 0, 4, span) == Status::kInvalidArgument);
  }
  for (const uint32_t dims : {0u, 63u, 65538u, 0xfffffffeu}) {
    CHECK(rotary_table_floats(dims, 4) == 0);
    CHECK(build(10000, dims, 0, 4, span) == Status::kInvalidArgument);
  }
  CHECK(build(10000, 64, 0, 0, span) == Status::kInvalidArgument);
  CHECK(build(10000, 64, 0, kMaxTokens + 1, span) == Status::kInvalidArgument);
  CHECK(build(10000, 64, kMaxPosition - 3, 4, span) == Status::kInvalidArgument);
  CHECK(build(10000, 64, 0xffffffff, 4, span) == Status::kInvalidArgument);
  CHECK(build_rotary_table({10000, 64, static_cast<RotaryStyle>(2)}, 0, 4, span, &table) == Status::kInvalidArgument);

  CHECK(build(10000, 64, 0, 4, span) == Status::kOk);
  std::vector<float> plane(2 * 4 * 64);
  CHECK(rotate_plane({plane.data(), plane.size()}, 2, 4, 64, table, true) == Status::kOk);
  CHECK(rotate_plane({plane.data(), plane.size() - 1}, 2, 4, 64, table, true) == Status::kBufferTooSmall);
  CHECK(rotate_plane({plane.data(), plane.size()}, 2, 5, 64, table, true) == Status::kInvalidArgument);
  CHECK(rotate_plane({plane.data(), plane.size()}, 2, 4, 63, table, true) == Status::kInvalidArgument);
  CHECK(rotate_plane({plane.data(), plane.size()}, 0xffffffff, 4, 0xffffffff, table, true) == Status::kInvalidArgument);
}
