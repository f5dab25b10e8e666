#include "jobs.h"

using namespace kvreel;
using namespace kvreel_test;

namespace {

constexpr ElementType kTypes[] = {ElementType::kBf16, ElementType::kF16, ElementType::kF32, ElementType::kF8E4m3, ElementType::kF8E5m2, ElementType::kU8};
constexpr uint32_t kTokens[] = {1, 2, 15, 16, 17, 40, 250, 256, 300};
constexpr uint32_t kHeadDims[] = {1, 2, 3, 16, 40, 64, 128};
constexpr uint32_t kGroups[] = {1, 5, 16, 256, 0xffffffff};

enum Kind : uint32_t { kNormal, kChannels, kTails, kRandomBits, kConstant, kZeros, kSigns, kDenormals, kSpecials, kNarrow, kEveryPattern, kKinds };
const char* const kKindNames[] = {"normal", "channels", "tails", "random bits", "constant", "zeros", "signs", "denormals", "specials", "narrow", "every pattern"};

std::vector<uint8_t> make_tensor(const KvShape& shape, Kind kind, Random* random) {
  const size_t bytes = bytes_of(shape), width = element_bytes(shape.type);
  const uint32_t first = uint32_t(random->next());
  std::vector<uint8_t> tensor;
  tensor.reserve(bytes);
  for (size_t i = 0; tensor.size() < bytes; i++) {
    const float normal = float(random->normal());
    uint32_t bits = uint32_t(random->next());
    switch (kind) {
      case kChannels: append(&tensor, shape.type, normal * std::exp2(float(i % shape.head_dim % 17) - 8) + float(i % shape.head_dim % 5)); continue;
      case kTails: append(&tensor, shape.type, random->below(50) == 0 ? normal * 1e4f : normal); continue;
      case kConstant: append(&tensor, shape.type, 1.7f); continue;
      case kZeros: append(&tensor, shape.type, 0.0f); continue;
      case kSigns: append(&tensor, shape.type, i % 2 == 0 ? 0.25f : -0.25f); continue;
      case kRandomBits: break;
      // Bits below the exponent, with either sign.
      case kDenormals: bits &= width == 4 ? 0x807fffffu : shape.type == ElementType::kBf16 ? 0x807fu : shape.type == ElementType::kF16 ? 0x83ffu : 0x83u; break;
      case kSpecials: {
        // Infinities, zeros of both signs, NaNs with payloads, among ordinary values.
        if (random->below(3) != 0) {
          append(&tensor, shape.type, normal);
          continue;
        }
        const uint32_t exponent = width == 4 ? 0x7f800000u : shape.type == ElementType::kBf16 ? 0x7f80u : shape.type == ElementType::kF16 ? 0x7c00u : 0x7cu;
        const uint32_t sign = width == 4 ? 0x80000000u : width == 2 ? 0x8000u : 0x80u;
        const uint32_t which = random->below(4);
        bits = (which == 0 ? exponent : which == 1 ? 0 : exponent | (bits & (exponent >> 3))) | (random->below(2) ? sign : 0);
        break;
      }
      case kNarrow:
        // 32-bit elements that are bf16 in truth: their lower halves are not stored.
        append(&tensor, shape.type, bf16_to_float(float_to_bf16(normal)));
        continue;
      case kEveryPattern: bits = width == 4 ? (first + uint32_t(i)) * 0x9e3779b9u : first + uint32_t(i); break;
      default: append(&tensor, shape.type, normal); continue;
    }
    for (size_t b = 0; b < width; b++) tensor.push_back(uint8_t(bits >> (8 * b)));
  }
  return tensor;
}

// Everything that has to hold for one tensor; `parts` random parts of it are decoded alone.
void check_tensor(const ChunkParameters& parameters, const std::vector<uint8_t>& tensor, uint32_t parts, Random* random) {
  const Encoded encoded = encode(parameters, tensor, 1);
  CHECK(encoded.status == Status::kOk);
  if (encoded.status != Status::kOk) return;
  CHECK(same(encoded, encode(parameters, tensor, 3)));
  std::vector<uint8_t> decoded;
  CHECK(decode(parameters, encoded, &decoded, 1) == Status::kOk && decoded == tensor);
  cpu_force_scalar(true);
  CHECK(same(encoded, encode(parameters, tensor, 2)));
  CHECK(decode(parameters, encoded, &decoded, 3) == Status::kOk && decoded == tensor);
  cpu_force_scalar(false);

  RowSink comparing(parameters.layout, in(tensor));
  CHECK(decode(parameters, encoded, whole(parameters), encoded.sections, &comparing, 2) == Status::kOk);
  CHECK(comparing.errors().different == 0 && comparing.errors().max_absolute == 0);

  for (uint32_t i = 0; i < parts; i++) check_part(parameters, encoded, tensor, random);
}

void describe_case(const ChunkParameters& parameters, Kind kind) { at_case = describe(parameters) + ", " + kKindNames[kind]; }

}  // namespace

TEST(shapes, "every element type, order, shape, group length and kind of data comes back bit for bit, from both variants and any order of work") {
  Random random{11};
  uint32_t turn = 0;
  for (const uint32_t tokens : kTokens) {
    for (const uint32_t head_dim : kHeadDims) {
      for (const uint32_t group : kGroups) {
        for (const ElementType type : kTypes) {
          turn++;
          // Small shapes all, of the large ones a few: they differ in nothing else.
          if (size_t(tokens) * head_dim > 4000 && (turn * 7 + turn / 30) % 8 != 0) continue;
          if (group > tokens && group != 0xffffffff) continue;
          const bool small = size_t(tokens) * head_dim <= 4000;
          const KvShape shape{small ? 1 + turn % 3 : 1, 2, tokens, turn % 2 == 0 || !small ? 1u : 3u, head_dim, type};
          const TensorLayout layout = make_layout(LayoutOrder(turn % kLayoutOrders), shape, &random);
          const ChunkParameters parameters{Coder::kExact, layout, group < tokens ? group : tokens, {}};
          const Kind kind = Kind(random.below(kKinds));
          describe_case(parameters, kind);
          check_tensor(parameters, make_tensor(layout.shape, kind, &random), small ? 2 : 1, &random);
        }
      }
    }
  }
}

TEST(kinds, "every kind of data of every element type comes back, in groups of 16 and a rest") {
  Random random{12};
  for (const ElementType type : kTypes) {
    for (uint32_t kind = 0; kind < kKinds; kind++) {
      const ChunkParameters parameters{Coder::kExact, {LayoutOrder::kFused, {2, 2, 40, 2, 16, type}, 0}, 16, {}};
      describe_case(parameters, Kind(kind));
      check_tensor(parameters, make_tensor(parameters.layout.shape, Kind(kind), &random), 2, &random);
    }
  }
}

TEST(every_pattern, "all 65536 bit patterns come back, each in a channel of its own kind and all in one channel") {
  for (const ElementType type : {ElementType::kBf16, ElementType::kF16}) {
    for (const bool one_channel : {false, true}) {
      const KvShape shape = one_channel ? KvShape{1, 2, 32768, 1, 1, type} : KvShape{1, 2, 256, 1, 128, type};
      const ChunkParameters parameters{Coder::kExact, {LayoutOrder::kSplit, shape, 0}, 256, {}};
      describe_case(parameters, kEveryPattern);
      std::vector<uint8_t> tensor(bytes_of(shape));
      for (size_t i = 0; i < 65536; i++) {
        tensor[2 * i] = uint8_t(i);
        tensor[2 * i + 1] = uint8_t(i >> 8);
      }
      Random random{13};
      check_tensor(parameters, tensor, 1, &random);
    }
  }
}

TEST(sizes, "random bits cost a byte a section more than they are; zeros and constants nearly nothing; lower halves of zeros nothing") {
  Random random{14};
  for (const ElementType type : kTypes) {
    const ChunkParameters parameters{Coder::kExact, {LayoutOrder::kSplit, {2, 2, 256, 2, 32, type}, 0}, 64, {}};
    const size_t bytes = bytes_of(parameters.layout.shape);
    const Encoded wild = encode(parameters, make_tensor(parameters.layout.shape, kRandomBits, &random), 1);
    CHECK(wild.object.size() <= bytes + wild.sections.size());
    for (const Kind kind : {kZeros, kConstant}) {
      describe_case(parameters, kind);
      // What is left are states of 4 bytes for each of eight lanes, less what they carry.
      CHECK(encode(parameters, make_tensor(parameters.layout.shape, kind, &random), 1).object.size() <= wild.sections.size() * 36 + (kind == kConstant ? bytes * 3 / 4 : 0));
    }
  }
  const ChunkParameters wide{Coder::kExact, {LayoutOrder::kSplit, {1, 2, 256, 2, 32, ElementType::kF32}, 0}, 64, {}};
  const size_t full = encode(wide, make_tensor(wide.layout.shape, kNormal, &random), 1).object.size();
  const size_t narrow = encode(wide, make_tensor(wide.layout.shape, kNarrow, &random), 1).object.size();
  CHECK(narrow + bytes_of(wide.layout.shape) / 2 < full + 1000);
}

TEST(refusals, "parameters that contradict each other are refused before any work") {
  Random random{15};
  const ChunkParameters good{Coder::kExact, {LayoutOrder::kSplit, {2, 2, 40, 1, 8, ElementType::kBf16}, 0}, 16, {}};
  const std::vector<uint8_t> tensor = make_tensor(good.layout.shape, kNormal, &random);
  const Encoded encoded = encode(good, tensor, 1);
  EncodeBound bound{};
  ChunkParameters bad = good;
  for (const uint32_t group : {0u, 41u, 0xffffffffu}) {
    bad.group_tokens = group;
    CHECK(encode_bound(bad, &bound) == Status::kInvalidArgument);
    std::vector<uint8_t> decoded;
    CHECK(decode(bad, encoded, &decoded, 1) == Status::kInvalidArgument);
  }
  bad = good;
  bad.layout.shape.tokens = 0;
  CHECK(encode_bound(bad, &bound) == Status::kInvalidArgument);
  bad = good;
  bad.layout.order = LayoutOrder::kBytes;
  CHECK(encode(bad, tensor, 1).status == Status::kUnsupported);
  bad.layout.order = LayoutOrder::kMla;
  CHECK(encode(bad, tensor, 1).status == Status::kInvalidArgument);
  CHECK(encode(good, std::vector<uint8_t>(tensor.size() - 1), 1).status == Status::kInvalidArgument);
  CHECK(encode_bound(good, &bound) == Status::kOk);
  std::vector<uint8_t> room(bound.sections - 1);
  const std::unique_ptr<EncodeJob> job(make_encode_job(good, in(tensor), out(room)));
  CHECK(run_job(job.get(), 1) == Status::kBufferTooSmall);

  std::vector<uint8_t> short_tensor(tensor.size() - 1);
  RowSink sink(good.layout, out(short_tensor));
  CHECK(decode(good, encoded, whole(good), encoded.sections, &sink, 1) == Status::kInvalidArgument);
}

TEST(damage, "a model or section that was cut, lengthened or flipped is corrupt, or has a checksum that fits and decodes to other values") {
  Random random{16};
  for (const ElementType type : {ElementType::kBf16, ElementType::kF32, ElementType::kU8}) {
    const ChunkParameters parameters{Coder::kExact, {LayoutOrder::kSplit, {2, 2, 40, 1, 8, type}, 0}, 16, {}};
    const std::vector<uint8_t> tensor = make_tensor(parameters.layout.shape, kTails, &random);
    const Encoded encoded = encode(parameters, tensor, 1);
    describe_case(parameters, kTails);
    std::vector<uint8_t> decoded;
    Encoded bad = encoded;
    for (size_t length = 0; length < encoded.model.size(); length++) {
      bad.model.assign(encoded.model.begin(), encoded.model.begin() + ptrdiff_t(length));
      CHECK(decode(parameters, bad, &decoded, 1) == Status::kCorrupt);
    }
    bad.model = encoded.model;
    bad.model.push_back(0);
    CHECK(decode(parameters, bad, &decoded, 1) == Status::kCorrupt);
    for (size_t bit = 0; bit < encoded.model.size() * 8; bit++) {
      bad.model = encoded.model;
      bad.model[bit / 8] ^= uint8_t(1u << (bit % 8));
      const Status fast = decode(parameters, bad, &decoded, 1);
      const std::vector<uint8_t> fast_decoded = decoded;
      cpu_force_scalar(true);
      const Status scalar = decode(parameters, bad, &decoded, 1);
      cpu_force_scalar(false);
      CHECK((fast == Status::kOk || fast == Status::kCorrupt) && fast == scalar);
      CHECK(fast != Status::kOk || fast_decoded == decoded);
    }
    bad = encoded;
    // Without a new checksum, every flip is found; with one, a decoder sees what no encoder wrote.
    for (size_t bit = 0; bit < encoded.object.size() * 8; bit += 1 + bit % 3) {
      bad.object[bit / 8] ^= uint8_t(1u << (bit % 8));
      CHECK(decode(parameters, bad, &decoded, 1) == Status::kCorrupt);
      bad.object[bit / 8] ^= uint8_t(1u << (bit % 8));
    }
    for (size_t s = 0; s < encoded.sections.size(); s++) {
      for (uint64_t length = 0; length <= encoded.sections[s].length + 2; length++) {
        if (length == encoded.sections[s].length) continue;
        const Encoded other = with_length(encoded, s, length);
        CHECK(decode(parameters, other, &decoded, 1) == Status::kCorrupt);
      }
    }
    bad = encoded;
    for (const uint64_t offset : {uint64_t(encoded.object.size()), uint64_t(encoded.object.size()) + 1, UINT64_MAX, UINT64_MAX - 4}) {
      bad.sections.back().offset = offset;
      CHECK(decode(parameters, bad, &decoded, 1) == Status::kCorrupt);
    }
    bad = encoded;
    bad.sections[0].length = UINT64_MAX;
    CHECK(decode(parameters, bad, &decoded, 1) == Status::kCorrupt);
  }
}
