#include "raw.h"

#include <cstring>
#include <new>

#include "checksum.h"

namespace kvreel {
namespace {

class RawEncodeJob final : public EncodeJob {
 public:
  RawEncodeJob(ConstBytes tensor, Bytes out) noexcept : tensor_(tensor), out_(out) {}

  Status start(uint32_t) noexcept override {
    if (out_.size < tensor_.size) return Status::kBufferTooSmall;
    return sections_.resize((tensor_.size + kRawSectionBytes - 1) / kRawSectionBytes);
  }
  uint32_t phases() const noexcept override { return 1; }
  uint32_t units(uint32_t) const noexcept override { return uint32_t(sections_.size()); }
  Status run(uint32_t, uint32_t unit, uint32_t) noexcept override {
    const size_t offset = unit * kRawSectionBytes;
    const size_t length = tensor_.size - offset < kRawSectionBytes ? tensor_.size - offset : kRawSectionBytes;
    std::memcpy(out_.data + offset, tensor_.data + offset, length);
    sections_[unit] = {offset, length, xxh3_64(tensor_.sub(offset, length))};
    return Status::kOk;
  }
  Status settle(uint32_t) noexcept override { return Status::kOk; }
  ConstBytes model() const noexcept override { return {}; }
  Span<const Section> sections() const noexcept override { return {sections_.data(), sections_.size()}; }

 private:
  const ConstBytes tensor_;
  const Bytes out_;
  Buffer<Section> sections_;
};

class RawDecodeJob final : public ChunkJob {
 public:
  RawDecodeJob(Span<const Section> sections, ConstBytes object, Bytes tensor, ConstBytes original) noexcept
      : sections_(sections), object_(object), tensor_(tensor), original_(original) {}

  Status start(uint32_t) noexcept override {
    size_t sum = 0;
    for (size_t i = 0; i < sections_.size; i++) {
      const Section& section = sections_[i];
      const bool full = i + 1 < sections_.size;
      if (section.length > kRawSectionBytes || (full && section.length != kRawSectionBytes)) return Status::kCorrupt;
      if (section.offset > object_.size || section.length > object_.size - section.offset) return Status::kCorrupt;
      sum += section.length;
    }
    return sum == tensor_.size + original_.size ? Status::kOk : Status::kCorrupt;
  }
  uint32_t phases() const noexcept override { return 1; }
  uint32_t units(uint32_t) const noexcept override { return uint32_t(sections_.size); }
  Status run(uint32_t, uint32_t unit, uint32_t) noexcept override {
    const Section& section = sections_[unit];
    const ConstBytes bytes = object_.sub(section.offset, section.length);
    if (xxh3_64(bytes) != section.checksum) return Status::kCorrupt;
    const size_t at = unit * kRawSectionBytes;
    if (original_.data != nullptr) return std::memcmp(original_.data + at, bytes.data, bytes.size) == 0 ? Status::kOk : Status::kCorrupt;
    if (bytes.size > 0) std::memcpy(tensor_.data + at, bytes.data, bytes.size);
    return Status::kOk;
  }
  Status settle(uint32_t) noexcept override { return Status::kOk; }

 private:
  const Span<const Section> sections_;
  const ConstBytes object_;
  const Bytes tensor_;
  const ConstBytes original_;
};

}  // namespace

EncodeJob* raw_encode_job(ConstBytes tensor, Bytes out) noexcept { return new (std::nothrow) RawEncodeJob(tensor, out); }

ChunkJob* raw_decode_job(Span<const Section> sections, ConstBytes object, const RowSink& sink) noexcept {
  return new (std::nothrow) RawDecodeJob(sections, object, sink.tensor(), sink.original());
}

}  // namespace kvreel
