#include "hevc.h"

#include <cstring>
#include <memory>
#include <new>

#include "../cpu.h"
#include "hevc_headers.h"
#include "hevc_picture.h"
#include "hevc_tables.h"

namespace kvreel {
namespace {

constexpr uint8_t kEmulationPrevention = 3;
constexpr uint8_t kForbiddenStart = 255;  // ivlOffset 510 or 511, which 9.3.2.5 excludes and the readers rely on

struct LeafOrder {
  HevcLeafSample of[kHevcLeafValues];
};

LeafOrder make_leaf_order() noexcept {
  LeafOrder order = {};
  HevcLeafSample* sample = order.of;
  for (uint8_t plane = 0; plane < 3; plane++) {
    const HevcResidual& residual = kHevcResiduals[plane];
    for (int i = 0; i < residual.sub_blocks; i++) {
      const HevcPoint corner = residual.sub_block_scan[i];
      for (const HevcPoint inside : kHevcScan.of4) *sample++ = {plane, uint8_t(corner.x * 4 + inside.x), uint8_t(corner.y * 4 + inside.y)};
    }
  }
  return order;
}

bool is_allowed(HevcShape shape) noexcept {
  const auto fits = [](uint16_t side) { return side >= 256 && side <= 4096 && side % 64 == 0; };
  return fits(shape.width) && fits(shape.height) && shape.pictures >= 1 && shape.pictures <= 32767;
}

size_t picture_values(HevcShape shape) noexcept { return hevc_picture_blocks(shape) * kHevcBlockValues; }

// The longest stream that is worth having: 8 bits a value and the headers.
size_t stream_limit(HevcShape shape) noexcept {
  return kHevcPrefixBound + shape.pictures * (kHevcSliceHeaderBound + picture_values(shape));
}

bool is_cancelled(const volatile int32_t* cancel) noexcept { return cancel != nullptr && __atomic_load_n(cancel, __ATOMIC_RELAXED) != 0; }

// The choice between the scalar and the fast path; both write the same bytes.
void write_pictures(HevcShape shape, HevcPictureValues* pictures, unsigned count, [[maybe_unused]] uint8_t* scratch) noexcept {
#if defined(KVREEL_AVX2)
  if (scratch != nullptr) return hevc_write_pictures_avx2(shape, pictures, count, scratch);
#endif
  for (unsigned i = 0; i < count; i++) hevc_write_picture(shape, &pictures[i]);
}

bool read_pictures(HevcShape shape, const HevcPictureData* pictures, unsigned count, [[maybe_unused]] bool fast) noexcept {
#if defined(KVREEL_AVX2)
  if (fast) return hevc_read_pictures_avx2(shape, pictures, count);
#endif
  for (unsigned i = 0; i < count; i++) {
    if (!hevc_read_picture(shape, pictures[i])) return false;
  }
  return true;
}

// Takes slice data without emulation prevention out of a stream, one picture after the other.
class StreamReader {
 public:
  explicit StreamReader(ConstBytes stream) noexcept : at_(stream.data), end_(stream.data + stream.size) {}

  bool skip(const uint8_t* expected, size_t size) noexcept {
    if (size_t(end_ - at_) < size || std::memcmp(at_, expected, size) != 0) return false;
    at_ += size;
    return true;
  }

  bool is_at_end() const noexcept { return at_ == end_; }

  // The payload up to the next start code, at most `room` bytes. Returns its size, 0 where it is not what our writer writes.
  size_t payload(uint8_t* out, size_t room) noexcept {
    uint8_t* to = out;
    const uint8_t* plain = at_;  // from here nothing is copied yet
    const uint8_t* p = at_;
    for (;;) {
      const void* found = p < end_ ? std::memchr(p, 0, size_t(end_ - p)) : nullptr;
      const uint8_t* zero = found == nullptr ? end_ : static_cast<const uint8_t*>(found);
      const bool is_special = end_ - zero >= 3 && zero[1] == 0 && zero[2] <= kEmulationPrevention;
      if (zero != end_ && !is_special) {
        p = zero + 1;
        continue;
      }
      const bool escaped = is_special && zero[2] == kEmulationPrevention;
      const size_t count = size_t(zero - plain) + (escaped ? 2 : 0);
      if (size_t(out + room - to) < count) return 0;
      std::memcpy(to, plain, count);
      to += count;
      at_ = zero;
      if (!escaped) return size_t(to - out);
      p = plain = zero + 3;
    }
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

}  // namespace

size_t hevc_values(HevcShape shape) noexcept { return is_allowed(shape) ? shape.pictures * picture_values(shape) : 0; }

size_t hevc_encode_bound(HevcShape shape) noexcept {
  if (!is_allowed(shape)) return 0;
  const size_t rooms = shape.pictures == 1 ? 1 : 2;  // two pictures are coded side by side
  return stream_limit(shape) + rooms * (kHevcSliceHeaderBound + hevc_picture_room(hevc_picture_blocks(shape)));
}

const HevcLeafSample* hevc_leaf_order() noexcept {
  static const LeafOrder order = make_leaf_order();
  return order.of;
}

HevcSample hevc_locate(HevcShape shape, size_t index) noexcept {
  const size_t columns = shape.width / 64u;
  const size_t picture = index / picture_values(shape);
  const size_t block = index % picture_values(shape) / kHevcBlockValues;
  const size_t leaf = index % kHevcBlockValues / kHevcLeafValues;
  const HevcLeafSample sample = hevc_leaf_order()[index % kHevcLeafValues];
  const size_t side = sample.plane == 0 ? 32 : 16;
  const size_t x = (block % columns * 2 + leaf % 2) * side + sample.x;
  const size_t y = (block / columns * 2 + leaf / 2) * side + sample.y;
  return {uint16_t(picture), sample.plane, uint16_t(x), uint16_t(y)};
}

Status hevc_encode(HevcShape shape, Span<const int8_t> values, Bytes out, size_t* written, const volatile int32_t* cancel) noexcept {
  if (!is_allowed(shape) || values.size != hevc_values(shape)) return Status::kInvalidArgument;
  if (out.size < hevc_encode_bound(shape)) return Status::kBufferTooSmall;
  const bool fast = cpu_has_avx2();
  const std::unique_ptr<uint8_t[]> scratch(fast ? new (std::nothrow) uint8_t[kHevcWriterScratch] : nullptr);
  if (fast && scratch == nullptr) return Status::kOutOfMemory;
  const size_t blocks = hevc_picture_blocks(shape);
  const size_t room = hevc_picture_room(blocks);
  const size_t limit = stream_limit(shape);
  size_t at = hevc_write_prefix(shape, out.data);
  for (unsigned first = 0; first < shape.pictures;) {
    if (is_cancelled(cancel)) return Status::kCancelled;
    const unsigned count = fast && first + 1 < shape.pictures ? 2 : 1;
    HevcPictureValues pictures[2];
    for (unsigned i = 0; i < count; i++) {
      // Each behind the room of the one before, from where it then moves up.
      pictures[i] = {values.data + (first + i) * picture_values(shape), out.data + at + i * room + (i + 1) * kHevcSliceHeaderBound, 0};
    }
    write_pictures(shape, pictures, count, scratch.get());
    for (unsigned i = 0; i < count; i++) {
      if (pictures[i].written == 0) return Status::kUnsupported;
      at += hevc_write_slice_header(first + i + 1, out.data + at);
      std::memmove(out.data + at, pictures[i].out, pictures[i].written);
      const size_t size = hevc_prevent_emulation(out.data + at, pictures[i].written, room);
      at += size;
      if (size == 0 || at > limit) return Status::kUnsupported;
    }
    first += count;
  }
  *written = at;
  return Status::kOk;
}

Status hevc_decode(HevcShape shape, ConstBytes stream, Span<int8_t> values, const volatile int32_t* cancel) noexcept {
  if (!is_allowed(shape) || values.size != hevc_values(shape)) return Status::kInvalidArgument;
  if (stream.size > stream_limit(shape)) return Status::kCorrupt;
  uint8_t expected[kHevcPrefixBound];
  StreamReader reader(stream);
  if (!reader.skip(expected, hevc_write_prefix(shape, expected))) return Status::kCorrupt;
  const size_t whole = hevc_picture_room(hevc_picture_blocks(shape));
  const size_t room = whole < stream.size ? whole : stream.size;
  const std::unique_ptr<uint8_t[]> scratch(new (std::nothrow) uint8_t[2 * (room + kHevcReaderPadding)]);
  if (scratch == nullptr) return Status::kOutOfMemory;
  const bool fast = cpu_has_avx2();
  for (unsigned first = 0; first < shape.pictures;) {
    if (is_cancelled(cancel)) return Status::kCancelled;
    const unsigned count = fast && first + 1 < shape.pictures ? 2 : 1;
    HevcPictureData pictures[2];
    for (unsigned i = 0; i < count; i++) {
      if (!reader.skip(expected, hevc_write_slice_header(first + i + 1, expected))) return Status::kCorrupt;
      uint8_t* const data = scratch.get() + i * (room + kHevcReaderPadding);
      const size_t size = reader.payload(data, room);
      if (size == 0 || data[0] == kForbiddenStart) return Status::kCorrupt;
      std::memset(data + size, 0, kHevcReaderPadding);
      pictures[i] = {data, size, values.data + (first + i) * picture_values(shape)};
    }
    if (!read_pictures(shape, pictures, count, fast)) return Status::kCorrupt;
    first += count;
  }
  return reader.is_at_end() ? Status::kOk : Status::kCorrupt;
}

}  // namespace kvreel
