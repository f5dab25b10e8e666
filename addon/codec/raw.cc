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
 private:
  const ConstBytes tensor_;
  const Bytes out_;
};

class RawDecodeJob final : public ChunkJob {
 public:
  explicit RawDecodeJob(const DecodeRequest& request) noexcept
      : request_(request), tensor_(request.sink->tensor()), original_(request.sink->original()) {}

  Status start(uint32_t) noexcept override {
    const size_t bytes = tensor_.size + original_.size;
    if (request_.sections.size != (bytes + kRawSectionBytes - 1) / kRawSectionBytes) return Status::kCorrupt;
    for (size_t i = 0; i < request_.sections.size; i++) {
      const size_t left = bytes - i * kRawSectionBytes;
      if (request_.sections[i].length != (left < kRawSectionBytes ? left : kRawSectionBytes)) return Status::kCorrupt;
    }
    return Status::kOk;
  }
  uint32_t phases() const noexcept override { return 1; }
  uint32_t units(uint32_t) const noexcept override { return uint32_t(request_.sections.size); }
  Status run(uint32_t, uint32_t unit, uint32_t) noexcept override {
    ConstBytes bytes;
    const Status opened = request_.open_section(unit, &bytes);
    if (opened != Status::kOk) return opened;
    const size_t at = unit * kRawSectionBytes;
    if (original_.data != nullptr) return std::memcmp(original_.data + at, bytes.data, bytes.size) == 0 ? Status::kOk : Status::kCorrupt;
    if (bytes.size > 0) std::memcpy(tensor_.data + at, bytes.data, bytes.size);
    return Status::kOk;
  }
  Status settle(uint32_t) noexcept override { return Status::kOk; }

 private:
  const DecodeRequest request_;
  const Bytes tensor_;
  const ConstBytes original_;
};

}  // namespace

EncodeJob* raw_encode_job(ConstBytes tensor, Bytes out) noexcept { return new (std::nothrow) RawEncodeJob(tensor, out); }

ChunkJob* raw_decode_job(const DecodeRequest& request) noexcept { return new (std::nothrow) RawDecodeJob(request); }

}  // namespace kvreel
