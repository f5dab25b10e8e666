// The slice data of one data picture, from and to its values in order of coding: what hevc.cc puts between the headers.
// The _avx2 functions take one picture or two, and code two side by side: each bin waits for the one before it in its own
// picture, not for the other's. They give the same bytes.
#pragma once

#include "hevc.h"

namespace kvreel {

constexpr size_t kHevcBlockValues = 4 * kHevcLeafValues;  // one 64x64 block: a coding tree unit

inline size_t hevc_picture_blocks(HevcShape shape) noexcept { return size_t{shape.width} / 64 * (shape.height / 64u); }

// A picture may take 16 bits a value on the way (the stream as a whole 8); this is asked after each block of 64x64.
// A block takes less than the slack: a 4x4 has at most 27 context bins of at most 6 bits, and 16 values of at most 18 bypass bins.
constexpr size_t kHevcBlockSlack = 32768;
constexpr ptrdiff_t hevc_picture_limit_bits(size_t blocks) noexcept { return ptrdiff_t(16 * blocks * kHevcBlockValues); }
constexpr size_t hevc_picture_room(size_t blocks) noexcept { return 2 * blocks * kHevcBlockValues + kHevcBlockSlack; }

struct HevcPictureValues {
  const int8_t* values;
  uint8_t* out;    // hevc_picture_room() bytes; the byte before is also the writer's
  size_t written;  // set by the writer; 0 if the picture went over its limit
};

void hevc_write_picture(HevcShape shape, HevcPictureValues* picture) noexcept;

constexpr size_t kHevcWriterScratch = 1 << 17;
void hevc_write_pictures_avx2(HevcShape shape, HevcPictureValues* pictures, unsigned count, uint8_t* scratch) noexcept;

// Slice data without emulation prevention, followed by kHevcReaderPadding bytes of zeros.
constexpr size_t kHevcReaderPadding = 128;
struct HevcPictureData {
  const uint8_t* data;
  size_t size;
  int8_t* values;
};

// False if the bytes are not those of a picture of this shape, down to the last bit.
bool hevc_read_picture(HevcShape shape, const HevcPictureData& picture) noexcept;
bool hevc_read_pictures_avx2(HevcShape shape, const HevcPictureData* pictures, unsigned count) noexcept;

}  // namespace kvreel
