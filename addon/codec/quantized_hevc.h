// Coder `hevc`: quantised planes as lossless HEVC streams, for hardware decoders that are idle during inference.
//
// The same integers as coder `rans`, less more low bits: only what has a spread of about 2 goes into the video, where HEVC's codes are
// near their best; the rest travels beside it. A stream holds one group of tokens of several layers. Its rows (channels of all its layers) are
// sorted by spread, widest first, and each gives a run of its tokens, padded with zeros to a multiple of 16: HEVC codes neighbours with
// shared adaptive contexts, so neighbours should be alike. The sequence of runs is the sequence of values that hevc.h numbers.
//
// One section a stream, ordered by group, then by layers: LEB128 varint video bytes, the video (Annex B; any HEVC decoder plays it), then for
// each layer a varint number of escapes and the side bytes.
#pragma once

#include "hevc/hevc.h"
#include "decode_request.h"
#include "quantized.h"

namespace kvreel {

// How a group's layers are cut into streams: `layers` each, the last may have fewer.
struct HevcStreams {
  uint32_t count;
  uint32_t layers;
};

// Streams have a few million values at most, so that several decoders can share a chunk and a part can be read alone.
HevcStreams hevc_streams(const KvShape& shape, uint32_t group_tokens) noexcept;
// Picture size (one of a few classes) and number for a stream of `layers` layers and `tokens` tokens; pictures == 0 if it is too large.
HevcShape hevc_stream_shape(const KvShape& shape, uint32_t layers, size_t tokens) noexcept;

Status hevc_chunk_bound(const KvShape& shape, uint32_t group_tokens, EncodeBound* bound) noexcept;
EncodeJob* hevc_encode_job(const TensorLayout& layout, uint32_t group_tokens, const QuantizedParameters& parameters, ConstBytes tensor, Bytes out) noexcept;
// `sections` are those of the streams that hold selected layers, for each selected group.
ChunkJob* hevc_decode_job(const DecodeRequest& request, const QuantizedParameters& parameters) noexcept;

}  // namespace kvreel
