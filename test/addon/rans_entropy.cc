// How far coder `rans` is from the entropy of its own symbols under its own model. Not a test of right or wrong: prints figures.
//
//   test/addon/build.sh OUT figures
//   OUT/rans_entropy CAPTURE.safetensors LAYERS TOKENS KV_HEADS HEAD_DIM THETA START
//
// The capture is read as bf16 in canonical order, right after its header. For each rung and section size it prints the bytes that coding
// took (`coded`: every section whole, `side information`: the model in the header and 12 bytes of section table each) beside the ideal:
// the sum of -log2 of each symbol's probability in its table, plus what is sent raw by design (low bits, escapes, exact tokens).
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "../../addon/codec/coders.h"
#include "../../addon/codec/quantized_group.h"

namespace kvreel {
namespace {

bool run_job(ChunkJob* job) {
  Status status = job->start(1);
  for (uint32_t phase = 0; phase < job->phases() && status == Status::kOk; phase++) {
    for (uint32_t unit = 0; unit < job->units(phase) && status == Status::kOk; unit++) status = job->run(phase, unit, 0);
    if (status == Status::kOk) status = job->settle(phase);
  }
  return status == Status::kOk;
}

// Bits of a chunk under the model that its header carries.
double ideal_bits(const ChunkParameters& parameters, ConstBytes tensor, ConstBytes model_bytes) {
  const KvShape& shape = parameters.layout.shape;
  const size_t count = layer_rows(shape), tokens = shape.tokens;
  QuantizedModel model;
  RowRotation rotation;
  if (model.read(model_bytes, shape, true) != Status::kOk || rotation.build(parameters.quantized, shape) != Status::kOk) return NAN;
  std::vector<uint16_t> upper(count * tokens), lower(count * tokens);
  std::vector<float> floats(count * tokens), factors(4 * tokens);
  std::vector<int16_t> q(count * tokens);
  std::vector<uint8_t> symbols(count * tokens);
  std::vector<QuantizedRow> rows(count);
  LowBits low_bits;
  if (low_bits.resize(tokens) != Status::kOk) return NAN;
  double bits = 0;
  for (uint32_t layer = 0; layer < shape.layers; layer++) {
    LayerAddress address;
    if (layer_address(parameters.layout.order, shape, 0, layer, &address) != Status::kOk) return NAN;
    quantized_rows(model, shape, parameters.quantized, layer, rows.data());
    const GroupContext context{shape, parameters.quantized, model, rotation, layer, rows.data()};
    load_rows(tensor.data, address, shape, 0, tokens, upper.data(), lower.data(), tokens);
    load_floats(context, upper.data(), lower.data(), 0, tokens, floats.data());
    quantize_group(context, floats.data(), 0, tokens, factors.data(), q.data());
    low_bits.prepare(model, shape, layer, 0, tokens);
    group_symbols(context, low_bits, q.data(), tokens, tokens, symbols.data(), tokens);
    bits += 8.0 * double(side_bytes(context, low_bits, 0, tokens));
    for (size_t r = 0; r < count; r++) {
      for (size_t t = 0; t < tokens; t++) {
        const int32_t code = row_is_key(shape, r) ? model.token_code[size_t(layer) * shape.planes * tokens + t] : 0;
        int32_t table = rows[r].first_table;
        if (rows[r].last_table != 0) {
          table += 4 * code;
          table = table < 0 ? 0 : table < rows[r].last_table ? table : rows[r].last_table;
        }
        uint32_t frequency = model.tables[size_t(table)].of[symbols[r * tokens + t]];
        if (frequency == 0) {
          frequency = model.tables[size_t(table)].of[kSymbolEscape];
          bits += 16;
        } else if (symbols[r * tokens + t] == kSymbolEscape) {
          bits += 16;
        }
        bits -= std::log2(double(frequency) / kRansScale);
      }
    }
  }
  return bits;
}

int measure(int argc, char** argv) {
  if (argc != 8) {
    std::fprintf(stderr, "usage: %s CAPTURE.safetensors LAYERS TOKENS KV_HEADS HEAD_DIM THETA START\n", argv[0]);
    return 2;
  }
  std::ifstream file(argv[1], std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  const auto number = [&](int i) { return uint32_t(std::strtoul(argv[i], nullptr, 10)); };
  const KvShape shape{number(2), 2, number(3), number(4), number(5), ElementType::kBf16};
  size_t size = 0;
  uint64_t header = 0;
  if (tensor_bytes(shape, &size) != Status::kOk || bytes.size() < 8) return 2;
  std::memcpy(&header, bytes.data(), 8);
  if (bytes.size() < 8 + header + size) return 2;
  const ConstBytes tensor{reinterpret_cast<const uint8_t*>(bytes.data()) + 8 + header, size};
  const double theta = std::strtod(argv[6], nullptr), values = double(size) / 2;

  std::printf("gain  section  ideal b/v  coded  with side information\n");
  for (const int32_t gain : {-40, -32, -24, -16, -8, 1}) {
    for (const uint32_t group : {16u, 64u, shape.tokens}) {
      const ChunkParameters parameters{Coder::kRans, {LayoutOrder::kSplit, shape, 0}, group, {gain, number(7), shape.head_dim, RotaryStyle::kHalf, {&theta, 1}}};
      EncodeBound bound{};
      if (encode_bound(parameters, &bound) != Status::kOk) return 1;
      std::vector<uint8_t> out(bound.sections);
      const std::unique_ptr<EncodeJob> job(make_encode_job(parameters, tensor, {out.data(), out.size()}));
      if (!run_job(job.get())) return 1;
      const Section& last = job->sections()[job->sections().size - 1];
      const double coded = 8.0 * double(last.offset + last.length), side = 8.0 * double(job->model().size + 12 * job->sections().size);
      const double ideal = ideal_bits(parameters, tensor, job->model());
      std::printf("%4d  %7u  %9.3f  %+.2f %%  %+.2f %%\n", gain, group, ideal / values, 100 * (coded / ideal - 1), 100 * ((coded + side) / ideal - 1));
    }
  }
  return 0;
}

}  // namespace
}  // namespace kvreel

int main(int argc, char** argv) { return kvreel::measure(argc, argv); }
