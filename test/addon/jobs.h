// Encodes and decodes whole chunks as the worker pool does, on one thread; and tensors to do it with. Everything that a decoder reads lies in
// a heap block of just its length, so that AddressSanitizer sees the first byte read past it.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "check.h"
#include "checksum.h"
#include "coders.h"
#include "cpu.h"
#include "float16.h"
#include "quantized_hevc.h"

namespace kvreel_test {

using namespace kvreel;

template <typename T>
Span<const T> in(const std::vector<T>& v) {
  return {v.data(), v.size()};
}
template <typename T>
Span<T> out(std::vector<T>& v) {
  return {v.data(), v.size()};
}

/// Every unit of every phase; with more than one worker in a scattered order, as several threads might.
inline Status run_job(ChunkJob* job, uint32_t workers) {
  Status status = job->start(workers);
  for (uint32_t phase = 0; status == Status::kOk && phase < job->phases(); phase++) {
    const uint32_t units = job->units(phase), half = units / 2;
    for (uint32_t i = 0; status == Status::kOk && i < units; i++) {
      const uint32_t unit = workers == 1 ? i : i < half ? 2 * (half - i) - 1 : 2 * (i - half);
      status = job->run(phase, unit, (2 * i + 1) % workers);
    }
    if (status == Status::kOk) status = job->settle(phase);
  }
  return status;
}

struct Encoded {
  Status status;
  std::vector<uint8_t> model, object;
  std::vector<Section> sections;
};

inline bool same(const Encoded& a, const Encoded& b) {
  if (a.status != b.status || a.model != b.model || a.object != b.object || a.sections.size() != b.sections.size()) return false;
  for (size_t i = 0; i < a.sections.size(); i++) {
    if (a.sections[i].offset != b.sections[i].offset || a.sections[i].length != b.sections[i].length || a.sections[i].checksum != b.sections[i].checksum) return false;
  }
  return true;
}

inline Encoded encode(const ChunkParameters& parameters, const std::vector<uint8_t>& tensor, uint32_t workers) {
  Encoded encoded{};
  EncodeBound bound{};
  encoded.status = encode_bound(parameters, &bound);
  if (encoded.status != Status::kOk) return encoded;
  std::vector<uint8_t> room(bound.sections);
  const std::unique_ptr<EncodeJob> job(make_encode_job(parameters, in(tensor), out(room)));
  encoded.status = run_job(job.get(), workers);
  if (encoded.status != Status::kOk) return encoded;
  CHECK(job->model().size <= bound.model);
  encoded.model.assign(job->model().data, job->model().data + job->model().size);
  uint64_t length = 0;
  for (size_t i = 0; i < job->sections().size; i++) {
    encoded.sections.push_back(job->sections()[i]);
    CHECK(encoded.sections[i].offset == length);
    length += encoded.sections[i].length;
  }
  CHECK(length <= room.size());
  encoded.object.assign(room.begin(), room.begin() + ptrdiff_t(length));
  return encoded;
}

inline Selection whole(const ChunkParameters& parameters) {
  // Groups of no tokens, which decoders refuse, cannot be counted.
  const uint32_t group_tokens = parameters.group_tokens == 0 ? 1 : parameters.group_tokens;
  return {0, parameters.layout.shape.layers, 0, group_count(parameters.layout.shape.tokens, group_tokens)};
}

/// The layout of the selected part, in order kSplit (kMla for one plane).
inline TensorLayout part_layout(const ChunkParameters& parameters, const Selection& selection) {
  KvShape shape = parameters.layout.shape;
  const uint32_t begin = selection.group_begin * parameters.group_tokens, end = begin + selection.group_count * parameters.group_tokens;
  shape.layers = selection.layer_count;
  shape.tokens = (end < shape.tokens ? end : shape.tokens) - begin;
  return {shape.planes == 1 ? LayoutOrder::kMla : LayoutOrder::kSplit, shape, 0};
}

/// The sections that hold a selection: of coder hevc by group, then by stream of layers; of the others by layer, then by group.
inline std::vector<Section> sections_of(const ChunkParameters& parameters, const Encoded& encoded, const Selection& selection) {
  const uint32_t groups = group_count(parameters.layout.shape.tokens, parameters.group_tokens), layer_end = selection.layer_begin + selection.layer_count;
  std::vector<Section> sections;
  if (parameters.coder == Coder::kHevc) {
    const HevcStreams streams = hevc_streams(parameters.layout.shape, parameters.group_tokens);
    for (uint32_t group = 0; group < selection.group_count; group++) {
      for (uint32_t stream = selection.layer_begin / streams.layers; stream * streams.layers < layer_end; stream++) {
        sections.push_back(encoded.sections[size_t(selection.group_begin + group) * streams.count + stream]);
      }
    }
    return sections;
  }
  for (uint32_t layer = selection.layer_begin; layer < layer_end; layer++) {
    for (uint32_t group = 0; group < selection.group_count; group++) sections.push_back(encoded.sections[size_t(layer) * groups + selection.group_begin + group]);
  }
  return sections;
}

/// Decodes `selection` into `sink`; `sections` are those of the selection.
inline Status decode(const ChunkParameters& parameters, const Encoded& encoded, const Selection& selection, const std::vector<Section>& sections, RowSink* sink,
                     uint32_t workers) {
  const std::unique_ptr<ChunkJob> job(make_decode_job(parameters, in(encoded.model), selection, in(sections), in(encoded.object), sink));
  return run_job(job.get(), workers);
}

inline std::string describe(const ChunkParameters& p) {
  const KvShape& s = p.layout.shape;
  const QuantizedParameters& q = p.quantized;
  return "coder " + std::to_string(int(p.coder)) + " type " + std::to_string(int(s.type)) + " order " + std::to_string(int(p.layout.order)) + " layers " +
         std::to_string(s.layers) + " tokens " + std::to_string(s.tokens) + " heads " + std::to_string(s.kv_heads) + " dim " + std::to_string(s.head_dim) +
         " group " + std::to_string(p.group_tokens) + " gain " + std::to_string(q.gain_eighths) + " start " + std::to_string(q.start) + " rotary " +
         std::to_string(q.rotary_dims) + " style " + std::to_string(int(q.rotary_style)) + " thetas " + std::to_string(q.thetas.size);
}

inline size_t bytes_of(const KvShape& shape) {
  size_t bytes = 0;
  CHECK(tensor_bytes(shape, &bytes) == Status::kOk);
  return bytes;
}

/// Decodes everything into the layout that was encoded.
inline Status decode(const ChunkParameters& parameters, const Encoded& encoded, std::vector<uint8_t>* tensor, uint32_t workers) {
  tensor->assign(bytes_of(parameters.layout.shape), 0xa5);
  RowSink sink(parameters.layout, out(*tensor));
  return decode(parameters, encoded, whole(parameters), encoded.sections, &sink, workers);
}

/// A layout whose order allows its shape: paged orders get a block that divides the tokens, MLA one plane and one head.
inline TensorLayout make_layout(LayoutOrder order, KvShape shape, Random* random) {
  uint32_t block = 0;
  if (order == LayoutOrder::kMla) {
    shape.planes = 1;
    shape.kv_heads = 1;
  } else if (order >= LayoutOrder::kVllmCpuPages && order <= LayoutOrder::kSglangPageFirst) {
    const uint32_t step = order == LayoutOrder::kVllmCpuRows ? 2 : 1;
    if (shape.tokens % step != 0) order = LayoutOrder::kVllmCpuPages;
    block = shape.tokens;
    for (uint32_t tries = 0; tries < 4; tries++) {
      const uint32_t divisor = 1 + random->below(shape.tokens);
      if (shape.tokens % divisor == 0 && divisor % step == 0) block = divisor;
    }
    if (order == LayoutOrder::kVllmCpuRows && block % 2 != 0) order = LayoutOrder::kVllmCpuPages;
  }
  return {order, shape, block};
}

/// The same object with one section cut or, with zeros, lengthened, and its checksum made to fit.
inline Encoded with_length(Encoded encoded, size_t section, uint64_t length) {
  Section& s = encoded.sections[section];
  std::vector<uint8_t> bytes(encoded.object.begin() + ptrdiff_t(s.offset), encoded.object.begin() + ptrdiff_t(s.offset + s.length));
  bytes.resize(length);
  s = {encoded.object.size(), length, xxh3_64(in(bytes))};
  encoded.object.insert(encoded.object.end(), bytes.begin(), bytes.end());
  encoded.object.shrink_to_fit();
  return encoded;
}

/// A random part of a chunk, decoded alone, has to be that part of `tensor`, which is laid out as the chunk.
inline void check_part(const ChunkParameters& parameters, const Encoded& encoded, const std::vector<uint8_t>& tensor, Random* random) {
  const KvShape& shape = parameters.layout.shape;
  const uint32_t groups = group_count(shape.tokens, parameters.group_tokens);
  Selection part{random->below(shape.layers), 1, random->below(groups), 1};
  part.layer_count += random->below(shape.layers - part.layer_begin);
  part.group_count += random->below(groups - part.group_begin);
  const TensorLayout layout = part_layout(parameters, part);
  std::vector<uint8_t> piece(bytes_of(layout.shape), 0x5a), packed(tensor.size());
  CHECK(pack(parameters.layout.order, shape, parameters.layout.block_tokens, in(tensor), out(packed)) == Status::kOk);
  RowSink sink(layout, out(piece));
  CHECK(decode(parameters, encoded, part, sections_of(parameters, encoded, part), &sink, 2) == Status::kOk);
  const size_t line = size_t(shape.head_dim) * element_bytes(shape.type), heads = size_t(shape.planes) * shape.kv_heads;
  const size_t begin = size_t(part.group_begin) * parameters.group_tokens, tokens = layout.shape.tokens;
  for (size_t row = 0; row < layout.shape.layers * heads; row++) {
    const uint8_t* expected = packed.data() + ((part.layer_begin * heads + row) * shape.tokens + begin) * line;
    CHECK(std::memcmp(piece.data() + row * tokens * line, expected, tokens * line) == 0);
  }
}

constexpr uint32_t kLayoutOrders = uint32_t(LayoutOrder::kBytes);

inline void append(std::vector<uint8_t>* bytes, ElementType type, float value) {
  if (element_bytes(type) == 4) {
    const uint32_t bits = bits_of(value);
    for (int i = 0; i < 4; i++) bytes->push_back(uint8_t(bits >> (8 * i)));
    return;
  }
  const uint16_t half = type == ElementType::kBf16 ? float_to_bf16(value) : float_to_f16(value);
  if (element_bytes(type) == 2) bytes->push_back(uint8_t(half));
  bytes->push_back(uint8_t(half >> 8));  // the upper half of an f16 is an f8 e5m2
}

inline float element(const std::vector<uint8_t>& bytes, ElementType type, size_t index) {
  const size_t width = element_bytes(type);
  const uint8_t* p = bytes.data() + index * width;
  if (width == 4) return float_of(uint32_t(p[0]) | uint32_t(p[1]) << 8 | uint32_t(p[2]) << 16 | uint32_t(p[3]) << 24);
  const uint16_t half = uint16_t(p[0] | p[1] << 8);
  return type == ElementType::kBf16 ? bf16_to_float(half) : f16_to_float(half);
}

}  // namespace kvreel_test
