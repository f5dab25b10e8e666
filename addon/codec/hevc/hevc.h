// int8 values as a lossless HEVC stream (Main profile, 4:2:0, 8 bit), and back. Any conforming HEVC decoder shows
// value + 128 as the sample; the reader here takes only what the writer here wrote.
//
// The surprise: there is no picture in the usual sense. The stream is one hidden flat-grey picture, then `pictures` pictures
// that refer to it without motion, so that the residual *is* the data. Values are numbered in the order in which HEVC codes
// them, the first coded first, and the caller hands over that sequence. Neighbours in it share adaptive contexts: sort the
// channels by size of their values, and give each run of 16 tokens 16 consecutive values (one 4x4 sub-block).
//
// The numbering: picture by picture; in it the 64x64 blocks in raster order; in each its four 32x32 leaves (upper left, upper
// right, lower left, lower right) of 1536 values: 1024 of Y, 256 of Cb, 256 of Cr. Inside a plane of a leaf HEVC walks the 4x4
// sub-blocks, and the samples of each, from the lower right corner to the upper left along diagonals. hevc_leaf_order() has it.
#pragma once

#include "../span.h"
#include "../status.h"

namespace kvreel {

// Width and height of the luma plane in samples: multiples of 64, 256 to 4096. `pictures` does not count the flat one.
struct HevcShape {
  uint16_t width;
  uint16_t height;
  uint16_t pictures;  // 1 to 32767
};

constexpr size_t kHevcLeafValues = 1536;

// Where one value of a leaf is shown.
struct HevcLeafSample {
  uint8_t plane;  // 0 Y, 1 Cb, 2 Cr
  uint8_t x;      // from the leaf's corner in that plane: the leaf is 32x32 in Y, 16x16 in Cb and Cr
  uint8_t y;
};

// Where a value of a stream is shown; x and y count samples of that plane.
struct HevcSample {
  uint16_t picture;
  uint8_t plane;
  uint16_t x;
  uint16_t y;
};

// Values the shape holds: pictures * width * height * 3 / 2. 0 if the shape is not allowed.
size_t hevc_values(HevcShape shape) noexcept;

// Bytes hevc_encode() needs to work in; the stream itself takes at most about one byte a value. 0 if the shape is not allowed.
size_t hevc_encode_bound(HevcShape shape) noexcept;

// The order of coding inside a leaf: kHevcLeafValues entries.
const HevcLeafSample* hevc_leaf_order() noexcept;

// Where value `index` < hevc_values(shape) is shown.
HevcSample hevc_locate(HevcShape shape, size_t index) noexcept;

// Encodes hevc_values(shape) values. `cancel` may be null; it is polled between pictures, anything but 0 ends in kCancelled.
// kUnsupported: the stream would take more than 8 bits a value, where plain bytes serve better (and level limits are near).
Status hevc_encode(HevcShape shape, Span<const int8_t> values, Bytes out, size_t* written, const volatile int32_t* cancel) noexcept;

// Decodes a stream of hevc_encode() with the same shape. Any other bytes end in kCorrupt, with `values` in no defined state,
// or in values as good as any: there is no checksum in here.
Status hevc_decode(HevcShape shape, ConstBytes stream, Span<int8_t> values, const volatile int32_t* cancel) noexcept;

}  // namespace kvreel
