// Round trips, both paths held to the same bytes, the numbering, and bad input. Prints "N passed, M failed" last, fails with 1.
// Build (from the repository root), or test/addon/hevc/build.sh <directory> hevc_test [--sanitize]:
//   g++ -std=c++17 -O3 -Wall -Wextra -DKVREEL_AVX2 -Iaddon/codec -c addon/codec/cpu.cc addon/codec/hevc/hevc*.cc (the _avx2 ones with -mavx2 -mbmi -mbmi2 -mlzcnt)
//   g++ -std=c++17 -O3 -Wall -Wextra -Iaddon/codec test/addon/hevc/hevc_test.cc *.o
#include <cstring>
#include <set>

#include "cpu.h"
#include "hevc/hevc.h"
#include "hevc/hevc_headers.h"
#include "hevc_values.h"

using namespace kvreel;
using namespace hevc_test;

namespace {

int passed = 0;
int failed = 0;

void expect(bool good, const std::string& what) {
  (good ? passed : failed)++;
  if (!good) std::printf("FAILED: %s\n", what.c_str());
}

struct Encoded {
  Status status;
  std::vector<uint8_t> stream;
};

Encoded encode(HevcShape shape, const std::vector<int8_t>& values, bool scalar, const volatile int32_t* cancel = nullptr) {
  cpu_force_scalar(scalar);
  Encoded e = {Status::kOk, std::vector<uint8_t>(hevc_encode_bound(shape))};
  size_t size = 0;
  e.status = hevc_encode(shape, {values.data(), values.size()}, {e.stream.data(), e.stream.size()}, &size, cancel);
  e.stream.resize(e.status == Status::kOk ? size : 0);
  e.stream.shrink_to_fit();  // so that a sanitizer sees reads beyond it
  cpu_force_scalar(false);
  return e;
}

Status decode(HevcShape shape, const std::vector<uint8_t>& stream, std::vector<int8_t>* values, bool scalar, const volatile int32_t* cancel = nullptr) {
  cpu_force_scalar(scalar);
  values->assign(hevc_values(shape), 99);
  const Status status = hevc_decode(shape, {stream.data(), stream.size()}, {values->data(), values->size()}, cancel);
  cpu_force_scalar(false);
  return status;
}

void round_trips() {
  for (int n = 0; n < 96; n++) {
    Random random(uint64_t(n) + 900);
    const HevcShape shape = {uint16_t(256 + 64 * random.below(3)), uint16_t(256 + 64 * random.below(3)), uint16_t(1 + random.below(4))};
    const double sigma = 0.05 * std::exp(random.uniform() * 6);
    const std::vector<int8_t> values = make_values(hevc_values(shape), n % kKinds, sigma, uint64_t(n) + 1);
    const std::string what = std::string(kind_name(n % kKinds)) + ", sigma " + std::to_string(sigma) + ", " + std::to_string(shape.pictures) + " pictures";
    const Encoded fast = encode(shape, values, false);
    const Encoded scalar = encode(shape, values, true);
    expect(fast.status == scalar.status && fast.stream == scalar.stream, "both writers give the same bytes: " + what);
    if (fast.status == Status::kUnsupported) continue;
    expect(fast.status == Status::kOk, "encodes: " + what);
    for (const bool reader : {false, true}) {
      std::vector<int8_t> back;
      expect(decode(shape, fast.stream, &back, reader) == Status::kOk && back == values, "comes back: " + what);
    }
  }
}

// Each value at each place of a 4x4 alone, and beside others.
void every_value() {
  const HevcShape shape = {256, 256, 2};
  for (const int neighbours : {0, 1, 3}) {
    std::vector<int8_t> values(hevc_values(shape), 0);
    for (size_t i = 0; i < values.size(); i++) {
      if (i % 48 == i / 48 % 16) values[i] = int8_t(i / 768 % 256);
      if (i % 48 >= 16 && neighbours != 0) values[i] = int8_t(int(i % 7) - neighbours);
    }
    const Encoded fast = encode(shape, values, false);
    const Encoded scalar = encode(shape, values, true);
    expect(fast.status == Status::kOk && fast.stream == scalar.stream, "every value: both writers agree");
    std::vector<int8_t> back;
    expect(decode(shape, fast.stream, &back, false) == Status::kOk && back == values, "every value comes back");
    expect(decode(shape, fast.stream, &back, true) == Status::kOk && back == values, "every value comes back (scalar)");
  }
}

void shapes() {
  for (const HevcShape shape : {HevcShape{0, 256, 1}, HevcShape{192, 256, 1}, HevcShape{256, 260, 1}, HevcShape{4160, 256, 1}, HevcShape{256, 256, 0},
                                HevcShape{256, 256, 32768}}) {
    expect(hevc_values(shape) == 0 && hevc_encode_bound(shape) == 0, "a shape that is not allowed holds nothing");
    uint8_t byte = 0;
    int8_t value = 0;
    size_t size = 0;
    expect(hevc_encode(shape, {&value, 0}, {&byte, 1}, &size, nullptr) == Status::kInvalidArgument, "and is not encoded");
    expect(hevc_decode(shape, {&byte, 1}, {&value, 0}, nullptr) == Status::kInvalidArgument, "or decoded");
  }
  const HevcShape shape = {256, 256, 1};
  expect(hevc_values(shape) == 98304, "256x256 holds 98304 values");
  std::vector<int8_t> values(98304, 0);
  std::vector<uint8_t> out(hevc_encode_bound(shape));
  size_t size = 0;
  expect(hevc_encode(shape, {values.data(), values.size()}, {out.data(), out.size() - 1}, &size, nullptr) == Status::kBufferTooSmall, "a short buffer is refused");
  expect(hevc_encode(shape, {values.data(), values.size() - 1}, {out.data(), out.size()}, &size, nullptr) == Status::kInvalidArgument, "too few values are refused");
  expect(hevc_encode(shape, {values.data(), values.size()}, {out.data(), out.size()}, &size, nullptr) == Status::kOk && size < 150, "nothing takes almost nothing");
  const std::vector<int8_t> noise = make_values(98304, 10, 0, 3);
  std::vector<int8_t> uniform(98304);
  for (size_t i = 0; i < uniform.size(); i++) uniform[i] = noise[i % 4096];
  for (const bool scalar : {false, true}) expect(encode(shape, uniform, scalar).status == Status::kUnsupported, "uniform bytes are left to others");
  // Single pictures may take more, if the stream as a whole does not.
  const HevcShape four = {256, 256, 4};
  std::vector<int8_t> mixed(hevc_values(four), 0);
  std::copy(uniform.begin(), uniform.end(), mixed.begin() + 98304);
  const Encoded fast = encode(four, mixed, false);
  std::vector<int8_t> back;
  expect(fast.status == Status::kOk && fast.stream == encode(four, mixed, true).stream, "one picture of uniform bytes among empty ones");
  expect(decode(four, fast.stream, &back, false) == Status::kOk && back == mixed, "comes back");
}

void cancelling() {
  const HevcShape shape = {256, 256, 3};
  const std::vector<int8_t> values = make_values(hevc_values(shape), 0, 1, 5);
  const volatile int32_t stop = 1;
  const volatile int32_t go = 0;
  expect(encode(shape, values, false, &stop).status == Status::kCancelled, "encoding can be cancelled");
  const Encoded e = encode(shape, values, false, &go);
  std::vector<int8_t> back;
  expect(e.status == Status::kOk && decode(shape, e.stream, &back, false, &stop) == Status::kCancelled, "decoding can be cancelled");
  expect(decode(shape, e.stream, &back, false, &go) == Status::kOk && back == values, "or not");
}

void numbering() {
  const HevcShape shape = {320, 256, 2};
  std::set<uint64_t> seen;
  for (size_t i = 0; i < hevc_values(shape); i++) {
    const HevcSample at = hevc_locate(shape, i);
    const bool inside = at.picture < 2 && at.plane < 3 && at.x < (at.plane ? 160 : 320) && at.y < (at.plane ? 128 : 256);
    if (!inside) return expect(false, "every value has a place");
    seen.insert(uint64_t{at.picture} << 40 | uint64_t{at.plane} << 32 | uint64_t{at.y} << 16 | at.x);
  }
  expect(seen.size() == hevc_values(shape), "no two values have the same place");
  const HevcLeafSample* order = hevc_leaf_order();
  expect(order[0].x == 31 && order[0].y == 31 && order[1023].x == 0 && order[1023].y == 0, "the first value of a leaf is its lower right corner");
  expect(order[1].x == 31 && order[1].y == 30 && order[2].x == 30 && order[2].y == 31, "then along the diagonals, upper right first");
  for (int i = 0; i < int(kHevcLeafValues); i += 16) {
    bool one = true;
    for (int j = 1; j < 16; j++) one &= order[i + j].plane == order[i].plane && order[i + j].x / 4 == order[i].x / 4 && order[i + j].y / 4 == order[i].y / 4;
    if (!one) expect(false, "16 values are one 4x4");
  }
}

void emulation_prevention() {
  Random random(31);
  int wrong = 0;
  for (int n = 0; n < 2000; n++) {
    std::vector<uint8_t> plain(1 + random.below(60));
    for (uint8_t& byte : plain) byte = random.below(3) ? uint8_t(0) : uint8_t(random.below(6));
    plain.back() = 128;  // the stop bit
    std::vector<uint8_t> expected;
    int zeros = 0;
    for (const uint8_t byte : plain) {
      if (zeros >= 2 && byte <= 3) {
        expected.push_back(3);
        zeros = 0;
      }
      zeros = byte == 0 ? zeros + 1 : 0;
      expected.push_back(byte);
    }
    std::vector<uint8_t> got = plain;
    got.resize(expected.size());
    wrong += hevc_prevent_emulation(got.data(), plain.size(), got.size()) != expected.size() || got != expected;
    if (expected.size() > plain.size()) {
      got = plain;
      wrong += hevc_prevent_emulation(got.data(), plain.size(), expected.size() - 1) != 0 || got != plain;
    }
  }
  expect(wrong == 0, "emulation prevention, and its refusal where there is no room");
  // Slice data that needs it: large values raise the Rice parameter, the small ones after them then take five zeros each.
  const HevcShape shape = {256, 256, 2};
  std::vector<int8_t> values = make_values(hevc_values(shape), 0, 1, 6);
  for (size_t i = 0; i < values.size(); i += 160) {
    for (size_t n = 0; n < 16; n++) values[i + n] = n < 4 ? 30 : n < 8 ? 2 : 1;
  }
  const Encoded e = encode(shape, values, false);
  uint8_t prefix[kHevcPrefixBound];
  int seen = 0;
  for (size_t i = hevc_write_prefix(shape, prefix); i + 2 < e.stream.size(); i++) seen += e.stream[i] == 0 && e.stream[i + 1] == 0 && e.stream[i + 2] == 3;
  expect(seen > 500 && e.stream == encode(shape, values, true).stream, "a stream full of prevented emulation");
  std::vector<int8_t> back;
  for (const bool scalar : {false, true}) expect(decode(shape, e.stream, &back, scalar) == Status::kOk && back == values, "and it comes back");
}

// Longer than what the picture order count can tell apart.
void long_sequence() {
  const HevcShape shape = {256, 256, 259};
  const std::vector<int8_t> values = make_values(hevc_values(shape), 5, 1, 8);
  const Encoded e = encode(shape, values, false);
  std::vector<int8_t> back;
  expect(e.status == Status::kOk && decode(shape, e.stream, &back, false) == Status::kOk && back == values, "259 pictures come back");
}

void bad_input() {
  const HevcShape shape = {256, 256, 3};
  std::vector<int8_t> back;
  std::vector<int8_t> scalar_back;
  for (const int kind : {0, 4, 9, 12}) {
    const std::vector<int8_t> values = make_values(hevc_values(shape), kind, kind == 0 ? 0.4 : 3, 11);
    const std::vector<uint8_t> stream = encode(shape, values, false).stream;
    std::vector<uint8_t> bad;
    int wrong = 0;
    const size_t step = stream.size() / 150 + 1;
    for (size_t length = 0; length < stream.size(); length += length < 300 ? 1 : step) {
      bad.assign(stream.begin(), stream.begin() + ptrdiff_t(length));
      bad.shrink_to_fit();
      wrong += decode(shape, bad, &back, false) != Status::kCorrupt || decode(shape, bad, &back, true) != Status::kCorrupt;
    }
    expect(wrong == 0, "a stream cut short is corrupt");
    bad = stream;
    bad.push_back(0);
    expect(decode(shape, bad, &back, false) == Status::kCorrupt && decode(shape, bad, &back, true) == Status::kCorrupt, "a byte too many is corrupt");
    wrong = 0;
    Random random(uint64_t(kind) + 77);
    for (int n = 0; n < 400; n++) {
      bad = stream;
      for (uint32_t flips = 1 + random.below(3); flips > 0; flips--) {
        const size_t at = n < 200 ? random.below(400) : random.below(uint32_t(stream.size()));
        if (at < stream.size()) bad[at] ^= uint8_t(1u << random.below(8));
      }
      const Status status = decode(shape, bad, &back, false);
      const Status scalar = decode(shape, bad, &scalar_back, true);
      wrong += status != scalar || (status == Status::kOk && back != scalar_back) || (status != Status::kOk && status != Status::kCorrupt);
    }
    expect(wrong == 0, "both readers judge flipped bits alike");
    const HevcShape other = {320, 256, 3};
    expect(decode(other, stream, &back, false) == Status::kCorrupt, "another shape is corrupt");
  }
}

}  // namespace

int main() {
  std::printf("fast paths: %s\n", cpu_has_avx2() ? "yes" : "no");
  round_trips();
  every_value();
  shapes();
  cancelling();
  numbering();
  emulation_prevention();
  long_sequence();
  bad_input();
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
