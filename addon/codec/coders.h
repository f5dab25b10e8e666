// The list of coders: the one place that maps a coder's number to the functions behind it.
#pragma once

#include "chunk.h"

namespace kvreel {

// In the order of CODERS in lib/codec/native.ts.
enum class Coder : uint8_t { kRaw = 0, kExact };

struct ChunkParameters {
  Coder coder;
  TensorLayout layout;  // of the tensor that is encoded
  uint32_t group_tokens;
};

// Bytes that an encoded chunk takes at most, model not counted.
Status encode_bound(const ChunkParameters& parameters, size_t* bytes) noexcept;

// Null where memory ran out. The spans must outlive the job.
EncodeJob* make_encode_job(const ChunkParameters& parameters, ConstBytes tensor, Bytes out) noexcept;

// `target` is the layout of the selected part in `tensor`. Coder raw knows no parts: its selection must be the whole chunk.
ChunkJob* make_decode_job(const ChunkParameters& parameters, ConstBytes model, const Selection& selection, Span<const Section> sections,
                          ConstBytes object, const TensorLayout& target, Bytes tensor) noexcept;

}  // namespace kvreel
