// How a whole chunk is coded: work that runs in phases of independent units, so that a pool of threads (or one) can carry it out.
#pragma once

#include "buffer.h"
#include "layout.h"

namespace kvreel {

// A tensor's memory, as an engine holds it.
struct TensorLayout {
  LayoutOrder order;
  KvShape shape;
  uint32_t block_tokens;
};

// The smallest part of an object that is read and verified alone.
struct Section {
  uint64_t offset;  // from the first section's first byte
  uint64_t length;
  uint64_t checksum;
};

// Bytes that an encode needs at most.
struct EncodeBound {
  size_t sections;
  size_t model;
};

// One encode or decode. The owner calls run() once for every unit of phase 0, in any order and on any thread, then settle(0), then
// phase 1, and so on. `worker` is below the count given to start(); two units never run with the same worker at a time.
class ChunkJob {
 public:
  virtual ~ChunkJob() = default;
  virtual Status start(uint32_t workers) noexcept = 0;
  virtual uint32_t phases() const noexcept = 0;
  virtual uint32_t units(uint32_t phase) const noexcept = 0;
  virtual Status run(uint32_t phase, uint32_t unit, uint32_t worker) noexcept = 0;
  virtual Status settle(uint32_t phase) noexcept = 0;

  // A flag that run() may look at within a unit that takes long: nonzero means that nobody waits for the job any more.
  void cancel_with(const volatile int32_t* flag) noexcept { cancel_ = flag; }

 protected:
  const volatile int32_t* cancel_ = nullptr;
};

// What an encode leaves behind.
class EncodeJob : public ChunkJob {
 public:
  // Side information that every section needs to be decoded; belongs into the object's header.
  ConstBytes model() const noexcept { return {model_bytes_.data(), model_length_}; }
  Span<const Section> sections() const noexcept { return {sections_.data(), sections_.size()}; }

 protected:
  Buffer<uint8_t> model_bytes_;
  size_t model_length_ = 0;
  Buffer<Section> sections_;
};

// Layers that encode at the same time each write where they could be at their largest: moves `sections` (all of them, `groups` a layer)
// to the front of `out` without gaps.
void move_sections_together(Span<Section> sections, uint32_t groups, Bytes out) noexcept;

// The part of a chunk that is decoded: whole groups of tokens of whole layers. The destination holds just this part.
struct Selection {
  uint32_t layer_begin, layer_count;
  uint32_t group_begin, group_count;
};

constexpr uint32_t group_count(uint32_t tokens, uint32_t group_tokens) noexcept { return (tokens + group_tokens - 1) / group_tokens; }

}  // namespace kvreel
