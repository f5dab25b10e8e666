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

ChunkJob* make_decode_job(const ChunkParameters& parameters, ConstBytes model, const Selection& selection, Span<const Section> sections,
                          ConstBytes object, RowSink* sink) noexcept {
  switch (parameters.coder) {
    case Coder::kRaw: return raw_decode_job(sections, object, *sink);
    case Coder::kExact:
      return exact_decode_job(parameters.layout.shape, parameters.group_tokens, model, selection, sections, object, sink);
    case Coder::kRans:
      return rans_decode_job(parameters.layout.shape, parameters.group_tokens, parameters.quantized, model, selection, sections, object, sink);
    case Coder::kHevc:
      return hevc_decode_job(parameters.layout.shape, parameters.group_tokens, parameters.quantized, model, selection, sections, object, sink);
  }
  return nullptr;
}

}  // namespace kvreel
