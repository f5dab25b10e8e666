// Checks what JavaScript passes, on its thread, before any work starts. Every function throws a TypeError and returns false (or an
// empty span) if an argument is not what it has to be.
#pragma once

#include <napi.h>

#include "../codec/coders.h"

namespace kvreel {

bool read_u32(Napi::Object object, const char* name, uint32_t* out);

// A Uint8Array over ordinary memory. Shared memory is refused: another thread could change it while it is decoded.
bool read_bytes(Napi::Value value, const char* name, Bytes* out);
// An Int32Array of at least one element, polled as a cancel flag.
bool read_cancel_flag(Napi::Value value, const volatile int32_t** out);
// A BigUint64Array of (offset, length, checksum) triples.
bool read_sections(Napi::Value value, Span<const Section>* out);

// { order, dtype, layers, planes, tokens, kvHeads, headDim, blockTokens }
bool read_layout(Napi::Object object, TensorLayout* out);
// { coder, groupTokens, start, gainEighths, rotaryDims, rotaryStyle, thetas: Float64Array } and a layout's fields. The result points into `thetas`.
bool read_chunk_parameters(Napi::Value value, ChunkParameters* out);

}  // namespace kvreel
