#include "coders.h"

#include "exact.h"
#include "quantized_hevc.h"
#include "quantized_rans.h"
#include "raw.h"

namespace kvreel {

Status encode_bound(const ChunkParameters& parameters, EncodeBound* bound) noexcept {
  *bound = {};
  switch (parameters.coder) {
    case Coder::kRaw: return tensor_bytes(parameters.layout.shape, &bound->sections);
    case Coder::kExact: return exact_encode_bound(parameters.layout.shape, parameters.group_tokens, bound);
    case Coder::kRans: return rans_encode_bound(parameters.layout.shape, parameters.group_tokens, bound);
    case Coder::kHevc: return hevc_chunk_bound(parameters.layout.shape, parameters.group_tokens, bound);
  }
  return Status::kInvalidArgument;
}

EncodeJob* make_encode_job(const ChunkParameters& parameters, ConstBytes tensor, Bytes out) noexcept {
  switch (parameters.coder) {
    case Coder::kRaw: return raw_encode_job(tensor, out);
    case Coder::kExact: return exact_encode_job(parameters.layout, parameters.group_tokens, tensor, out);
    case Coder::kRans: return rans_encode_job(parameters.layout, parameters.group_tokens, parameters.quantized, tensor, out);
    case Coder::kHevc: return hevc_encode_job(parameters.layout, parameters.group_tokens, parameters.quantized, tensor, out);
  }
  return nullptr;
}

Status check_selection(const ChunkParameters& parameters, const Selection& selection, size_t sections, const KvShape& target) noexcept {
  if (parameters.coder == Coder::kRaw) return Status::kOk;  // it knows no parts, and counts its sections itself
  const KvShape& source = parameters.layout.shape;
  size_t bytes = 0;
  const uint32_t group_tokens = parameters.group_tokens;
  if (tensor_bytes(source, &bytes) != Status::kOk || group_tokens == 0 || group_tokens > source.tokens) return Status::kInvalidArgument;
  const uint32_t groups = group_count(source.tokens, group_tokens);
  if (selection.layer_count == 0 || selection.layer_begin >= source.layers || selection.layer_count > source.layers - selection.layer_begin ||
      selection.group_count == 0 || selection.group_begin >= groups || selection.group_count > groups - selection.group_begin) {
    return Status::kInvalidArgument;
  }
  size_t units = selection.layer_count;
  if (parameters.coder == Coder::kHevc) {
    const uint32_t layers = hevc_streams(source, group_tokens).layers;
    units = (selection.layer_begin + selection.layer_count - 1) / layers - selection.layer_begin / layers + 1;
  }
  const uint64_t end = uint64_t(selection.group_begin + selection.group_count) * group_tokens;
  const uint64_t tokens = (end < source.tokens ? end : source.tokens) - uint64_t(selection.group_begin) * group_tokens;
  const bool fits = sections == units * selection.group_count && target.layers == selection.layer_count && target.tokens == tokens &&
                    target.planes == source.planes && target.kv_heads == source.kv_heads && target.head_dim == source.head_dim &&
                    target.type == source.type;
  return fits ? Status::kOk : Status::kInvalidArgument;
}

ChunkJob* make_decode_job(const ChunkParameters& parameters, ConstBytes model, const Selection& selection, Span<const Section> sections,
                          ConstBytes object, RowSink* sink) noexcept {
  const DecodeRequest request{parameters.layout.shape, parameters.group_tokens, model, selection, sections, object, sink};
  switch (parameters.coder) {
    case Coder::kRaw: return raw_decode_job(request);
    case Coder::kExact: return exact_decode_job(request);
    case Coder::kRans: return rans_decode_job(request, parameters.quantized);
    case Coder::kHevc: return hevc_decode_job(request, parameters.quantized);
  }
  return nullptr;
}

}  // namespace kvreel
