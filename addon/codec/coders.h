// The list of coders: the one place that maps a coder's number to the functions behind it.
#pragma once

#include "quantized.h"
#include "row_sink.h"

namespace kvreel {

// In the order of CODERS in lib/codec/native.ts.
enum class Coder : uint8_t { kRaw = 0, kExact, kRans, kHevc };

struct ChunkParameters {
  Coder coder;
  TensorLayout layout;  // of the tensor that is encoded
  uint32_t group_tokens;
  QuantizedParameters quantized;  // of the coders that quantise
};

Status encode_bound(const ChunkParameters& parameters, EncodeBound* bound) noexcept;

// Null where memory ran out. The spans must outlive the job.
EncodeJob* make_encode_job(const ChunkParameters& parameters, ConstBytes tensor, Bytes out) noexcept;

// Whether a selection lies inside the chunk, has that many sections, and is what `target` has room for; all of it may come from a hostile
// header. kInvalidArgument if not.
Status check_selection(const ChunkParameters& parameters, const Selection& selection, size_t sections, const KvShape& target) noexcept;

// For what check_selection() accepted. The sink's layout is that of the selected part. Coder raw knows no parts: its selection must be the whole chunk.
ChunkJob* make_decode_job(const ChunkParameters& parameters, ConstBytes model, const Selection& selection, Span<const Section> sections,
                          ConstBytes object, RowSink* sink) noexcept;

}  // namespace kvreel
