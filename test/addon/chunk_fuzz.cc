// Mutates encoded chunks and what they are decoded with, and encodes tensors of random bits. Nothing may crash, read or write out of bounds
// (build with asan), or differ between the two variants. chunk_fuzz [seconds] [seed]
#define KVREEL_TEST_OWN_MAIN
#include <ctime>

#include <cstdlib>

#include "jobs.h"

using namespace kvreel;
using namespace kvreel_test;

namespace {

// Decodes that were refused for each reason.
uint64_t statuses[8] = {};

constexpr ElementType kTypes[] = {ElementType::kBf16, ElementType::kF16, ElementType::kF32, ElementType::kF8E4m3, ElementType::kF8E5m2, ElementType::kU8};
double thetas[4] = {10000, 500000, 1e6, 10000};

ChunkParameters random_parameters(Random* random) {
  constexpr uint32_t kTokens[] = {1, 2, 15, 16, 17, 32, 40, 64};
  constexpr uint32_t kDims[] = {1, 2, 3, 8, 16, 32};
  const Coder coder = Coder(random->below(8) == 0 ? 3 : random->below(3));  // a stream of coder hevc takes long
  const ElementType type = kTypes[random->below(coder >= Coder::kRans ? 3 : 6)];
  const KvShape shape{1 + random->below(3), 2, kTokens[random->below(8)], 1 + random->below(3), kDims[random->below(6)], type};
  const TensorLayout layout = make_layout(LayoutOrder(random->below(kLayoutOrders)), shape, random);
  ChunkParameters parameters{coder, layout, 1 + random->below(shape.tokens), {}};
  if (coder == Coder::kHevc && parameters.group_tokens < 8) parameters.group_tokens = shape.tokens;
  QuantizedParameters& q = parameters.quantized;
  q.gain_eighths = int32_t(random->below(60)) - 50;
  q.start = random->below(2) == 0 ? 0 : random->below(kMaxPosition - shape.tokens);
  q.rotary_dims = random->below(shape.head_dim / 2 + 1) * 2;
  q.rotary_style = RotaryStyle(random->below(2));
  if (q.rotary_dims != 0) q.thetas = {thetas, random->below(2) == 0 ? 1 : shape.layers};
  return parameters;
}

std::vector<uint8_t> random_tensor(const KvShape& shape, bool any_bits, Random* random) {
  std::vector<uint8_t> tensor;
  const size_t bytes = bytes_of(shape), width = element_bytes(shape.type);
  const uint32_t kind = random->below(6);
  uint32_t mask = uint32_t(random->next());
  while (tensor.size() < bytes) {
    uint32_t bits = uint32_t(random->next());
    if (!any_bits || kind < 2) {
      append(&tensor, shape.type, float(random->normal()) * (random->below(40) == 0 && kind == 1 ? 1e4f : 1));
      continue;
    }
    if (kind == 2) bits &= mask;
    if (kind == 3) bits = mask;
    if (kind == 4) bits = random->below(10) == 0 ? bits : mask;
    for (size_t b = 0; b < width; b++) tensor.push_back(uint8_t(bits >> (8 * b)));
  }
  return tensor;
}

void mutate(std::vector<uint8_t>* bytes, Random* random) {
  const auto place = [&] { return random->below(uint32_t(bytes->size())); };
  for (uint32_t n = 1 + random->below(3); n > 0; n--) {
    const uint32_t kind = random->below(8);
    if (bytes->empty() || kind == 0) {
      bytes->push_back(uint8_t(random->next()));
    } else if (kind == 1) {
      bytes->resize(place());
    } else if (kind == 2) {
      bytes->erase(bytes->begin() + place());
    } else if (kind == 3) {
      bytes->insert(bytes->begin() + place(), uint8_t(random->next()));
    } else if (kind == 4) {
      (*bytes)[place()] = random->below(2) == 0 ? 0xff : 0;
    } else if (kind == 5) {
      (*bytes)[random->below(uint32_t(bytes->size() < 24 ? bytes->size() : 24))] = uint8_t(random->next());
    } else {
      (*bytes)[place()] ^= uint8_t(1u << random->below(8));
    }
  }
  bytes->shrink_to_fit();
}

// Other bytes for one section, with a checksum that fits them.
void mutate_section(Encoded* encoded, Random* random) {
  Section& victim = encoded->sections[random->below(uint32_t(encoded->sections.size()))];
  std::vector<uint8_t> bytes(encoded->object.begin() + ptrdiff_t(victim.offset), encoded->object.begin() + ptrdiff_t(victim.offset + victim.length));
  mutate(&bytes, random);
  // At the end of the object, which ends with its last byte.
  victim = {encoded->object.size(), bytes.size(), xxh3_64(in(bytes))};
  encoded->object.insert(encoded->object.end(), bytes.begin(), bytes.end());
  encoded->object.shrink_to_fit();
}

// Other offsets and lengths; the checksum fits where they lie inside the object.
void mutate_table(Encoded* encoded, Random* random) {
  Section& victim = encoded->sections[random->below(uint32_t(encoded->sections.size()))];
  const uint64_t size = encoded->object.size();
  const auto number = [&] { return random->below(2) == 0 ? random->below(uint32_t(size) + 2) : random->next() >> random->below(64); };
  if (random->below(2) == 0) victim.offset = number();
  if (random->below(2) == 0) victim.length = number();
  if (random->below(8) == 0) std::swap(victim, encoded->sections[0]);
  if (victim.offset <= size && victim.length <= size - victim.offset) victim.checksum = xxh3_64({encoded->object.data() + victim.offset, victim.length});
}

// Parameters that another header could have; the sections are then too many, or some twice.
void mutate_parameters(ChunkParameters* parameters, Encoded* encoded, Random* random) {
  KvShape& shape = parameters->layout.shape;
  QuantizedParameters& q = parameters->quantized;
  switch (random->below(9)) {
    case 0: q.gain_eighths = int32_t(random->below(4000)) - 2000; break;
    case 1: q.start = uint32_t(random->next() >> random->below(64)); break;
    case 2: q.rotary_dims = random->below(3) == 0 ? uint32_t(random->next()) : random->below(80); break;
    case 3: q.rotary_style = RotaryStyle(random->below(2)); break;
    case 4: q.thetas = {thetas, random->below(5)}; break;
    case 5: parameters->group_tokens = random->below(shape.tokens + 3); break;
    case 6: shape.tokens = 1 + random->below(80); break;
    case 7: shape.type = kTypes[random->below(6)]; break;
    default: (random->below(2) == 0 ? shape.head_dim : shape.layers) = 1 + random->below(9); break;
  }
  parameters->layout = make_layout(parameters->layout.order, shape, random);
  if (parameters->coder == Coder::kRaw || parameters->group_tokens == 0) return;
  const size_t needed = size_t(parameters->layout.shape.layers) * group_count(parameters->layout.shape.tokens, parameters->group_tokens);
  for (size_t i = 0; encoded->sections.size() < needed; i++) encoded->sections.push_back(encoded->sections[i]);
}

// One decode of mutated input with both variants.
void check_decode(const ChunkParameters& parameters, const Encoded& encoded, bool other_parameters) {
  at_case = describe(parameters);
  std::vector<uint8_t> fast, scalar;
  const Status status = decode(parameters, encoded, &fast, 1);
  cpu_force_scalar(true);
  const Status scalar_status = decode(parameters, encoded, &scalar, 3);
  cpu_force_scalar(false);
  statuses[int(status)]++;
  CHECK(status == scalar_status && (status != Status::kOk || fast == scalar));
  CHECK(status == Status::kOk || status == Status::kCorrupt || (other_parameters && (status == Status::kInvalidArgument || status == Status::kUnsupported)));
}

void fuzz_decode(Random* random) {
  const ChunkParameters parameters = random_parameters(random);
  const Encoded encoded = encode(parameters, random_tensor(parameters.layout.shape, false, random), 1);
  at_case = describe(parameters);
  CHECK(encoded.status == Status::kOk);
  if (encoded.status != Status::kOk) return;
  for (int n = 0; n < 30; n++) {
    Encoded bad = encoded;
    ChunkParameters other = parameters;
    const uint32_t kind = random->below(4);
    if (kind == 0) mutate(&bad.model, random);
    if (kind == 1) mutate_section(&bad, random);
    if (kind == 2) mutate_table(&bad, random);
    if (kind == 3) mutate_parameters(&other, &bad, random);
    check_decode(other, bad, kind == 3);
    RowSink sink(other.layout, in(bad.object));  // of a wrong length, nearly always
    if (n == 0 && bad.object.size() != bytes_of(other.layout.shape)) decode(other, bad, whole(other), bad.sections, &sink, 1);
  }
}

void fuzz_encode(Random* random) {
  const ChunkParameters parameters = random_parameters(random);
  const std::vector<uint8_t> tensor = random_tensor(parameters.layout.shape, true, random);
  at_case = describe(parameters);
  const Encoded encoded = encode(parameters, tensor, 1);
  cpu_force_scalar(true);
  CHECK(same(encoded, encode(parameters, tensor, 3)));
  cpu_force_scalar(false);
  CHECK(encoded.status == Status::kOk || (encoded.status == Status::kUnsupported && parameters.coder >= Coder::kRans));
  if (encoded.status != Status::kOk) return;
  std::vector<uint8_t> decoded, again;
  CHECK(decode(parameters, encoded, &decoded, 2) == Status::kOk);
  CHECK(parameters.coder >= Coder::kRans || decoded == tensor);
  RowSink verifying(parameters.layout, in(tensor));
  // An overflow to infinity is no error of a size: what verifies must not accept it silently.
  CHECK(decode(parameters, encoded, whole(parameters), encoded.sections, &verifying, 1) == Status::kOk);
  CHECK((verifying.errors().different == 0) == (decoded == tensor));
  if (parameters.coder != Coder::kRaw) check_part(parameters, encoded, decoded, random);
}

}  // namespace

// Not TESTs: they share the time.
int main(int count, char** arguments) {
  const double seconds = count > 1 ? std::atof(arguments[1]) : 5;
  const uint64_t seed = count > 2 ? std::strtoull(arguments[2], nullptr, 0) : 1;
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  Random random{seed};
  const std::clock_t start = std::clock();
  uint64_t rounds = 0;
  for (; double(std::clock() - start) < seconds * CLOCKS_PER_SEC; rounds++) {
    fuzz_decode(&random);
    fuzz_encode(&random);
  }
  std::printf("%llu rounds; decodes: %llu good, %llu corrupt, %llu other parameters\n", static_cast<unsigned long long>(rounds),
              static_cast<unsigned long long>(statuses[int(Status::kOk)]), static_cast<unsigned long long>(statuses[int(Status::kCorrupt)]),
              static_cast<unsigned long long>(statuses[int(Status::kInvalidArgument)] + statuses[int(Status::kUnsupported)]));
  std::printf("%d passed, %d failed\n", failed_checks == 0, failed_checks);
  return failed_checks != 0;
}
