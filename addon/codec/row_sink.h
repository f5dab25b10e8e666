// Where decoded rows go: into the caller's tensor, or beside the original to see how far they are from it.
#pragma once

#include "chunk.h"
#include "rows.h"

namespace kvreel {

// How far a decoded tensor is from the original. Elements that are not finite in the original have to be the same bits, and are not counted.
struct ErrorSums {
  double max_absolute;
  double squared_error;
  double squared_original;
  uint64_t different;  // elements whose bits differ
};

class RowSink {
 public:
  // Decoding: rows are stored into `tensor`, laid out as `target`.
  RowSink(const TensorLayout& target, Bytes tensor) noexcept : layout_(target), tensor_(tensor) {}
  // Verifying: rows are compared with `original`.
  RowSink(const TensorLayout& layout, ConstBytes original) noexcept : layout_(layout), original_(original) {}

  // Exactly one of these has data.
  Bytes tensor() const noexcept { return tensor_; }
  ConstBytes original() const noexcept { return original_; }
  // Call first: checks the tensor's length, makes room for `workers` and groups of `group_tokens`.
  Status start(uint32_t workers, uint32_t group_tokens) noexcept;
  // Takes rows[row * count + token] of tokens [token_begin, token_begin + count) of `layer`.
  Status put(const uint16_t* rows, const uint16_t* low, uint32_t layer, size_t token_begin, size_t count, uint32_t worker) noexcept;
  // Of the whole tensor; zeros where rows were stored. Does not depend on which worker did what.
  ErrorSums errors() const noexcept;

 private:
  Status compare(const uint16_t* rows, const uint16_t* low, const LayerAddress& address, size_t token_begin, size_t count, uint32_t worker,
                 ErrorSums* sums) noexcept;

  const TensorLayout layout_;
  const Bytes tensor_;
  const ConstBytes original_;
  size_t group_tokens_ = 0, groups_ = 0, group_values_ = 0;
  Buffer<uint16_t> rows_;  // [worker][upper and lower halves][group]
  Buffer<ErrorSums> errors_;  // [layer][group]
};

}  // namespace kvreel
