// Coder `rans`: quantised planes with rANS. One section a layer and group of tokens; tables are shared by the chunk, one for each class of
// spread, and stand in the header. A section: LEB128 varint number of escapes, rANS stream, the side bytes that it does not carry.
#pragma once

#include "decode_request.h"
#include "quantized.h"

namespace kvreel {

Status rans_encode_bound(const KvShape& shape, uint32_t group_tokens, EncodeBound* bound) noexcept;
EncodeJob* rans_encode_job(const TensorLayout& layout, uint32_t group_tokens, const QuantizedParameters& parameters, ConstBytes tensor, Bytes out) noexcept;
ChunkJob* rans_decode_job(const DecodeRequest& request, const QuantizedParameters& parameters) noexcept;

}  // namespace kvreel
