// Coder `raw`: the tensor's bytes as they came, cut into sections that can be read and verified alone.
#pragma once

#include "row_sink.h"

namespace kvreel {

// Close to 2 MiB, but no power of two: a value of exactly 2^n bytes wastes a third of a Redis server's memory.
constexpr size_t kRawSectionBytes = (size_t(2) << 20) - (size_t(64) << 10);

EncodeJob* raw_encode_job(ConstBytes tensor, Bytes out) noexcept;
// Needs nothing but the sink's bytes: it knows no rows.
ChunkJob* raw_decode_job(Span<const Section> sections, ConstBytes object, const RowSink& sink) noexcept;

}  // namespace kvreel
