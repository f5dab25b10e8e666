// Everything in a stream that depends on its shape alone: parameter sets, the flat picture, slice headers. The reader does
// not parse these: it writes what the writer would have written and compares.
#pragma once

#include "hevc.h"

namespace kvreel {

constexpr size_t kHevcPrefixBound = 8192;
constexpr size_t kHevcSliceHeaderBound = 32;

// VPS, SPS, PPS and the flat picture. Returns the bytes written, at most kHevcPrefixBound.
size_t hevc_write_prefix(HevcShape shape, uint8_t out[kHevcPrefixBound]) noexcept;

// Start code, NAL header and slice header of data picture `number` = 1, 2, ... Holds no sequence that emulation prevention
// would change, and ends on a byte boundary. Returns the bytes written.
size_t hevc_write_slice_header(uint32_t number, uint8_t out[kHevcSliceHeaderBound]) noexcept;

// Emulation prevention (7.4.2) over the `size` bytes of one NAL unit's payload, in place. Returns the new size, or 0 if that is beyond `room`.
size_t hevc_prevent_emulation(uint8_t* payload, size_t size, size_t room) noexcept;

}  // namespace kvreel
