// Coder `raw`: the tensor's bytes as they came, cut into sections that can be read and verified alone.
#pragma once

#include "decode_request.h"

namespace kvreel {

// Close to 2 MiB, but no power of two: a value of exactly 2^n bytes wastes a third of a Redis server's memory.
constexpr size_t kRawSectionBytes = (size_t(2) << 20) - (size_t(64) << 10);

EncodeJob* raw_encode_job(ConstBytes tensor, Bytes out) noexcept;
// Of the request it needs the sections and the sink's bytes: it knows no rows.
ChunkJob* raw_decode_job(const DecodeRequest& request) noexcept;

}  // namespace kvreel
