#include "row_sink.h"

#include <cmath>

#include "float16.h"

namespace kvreel {
namespace {

// The value of an element given as halves. 8-bit elements count as the integers that their bits are: they are only ever coded exactly.
float value_of(ElementType type, uint16_t upper, uint16_t lower) noexcept {
  switch (type) {
    case ElementType::kBf16: return bf16_to_float(upper);
    case ElementType::kF16: return f16_to_float(upper);
    case ElementType::kF32: return float_of(uint32_t(upper) << 16 | lower);
    default: return float(upper);
  }
}

}  // namespace

Status RowSink::start(uint32_t workers, uint32_t group_tokens) noexcept {
  size_t bytes = 0;
  Status status = tensor_bytes(layout_.shape, &bytes);
  if (status != Status::kOk) return status;
  if ((original_.data == nullptr ? tensor_.size : original_.size) != bytes) return Status::kInvalidArgument;
  if (original_.data == nullptr) return Status::kOk;
  group_tokens_ = group_tokens;
  groups_ = group_count(layout_.shape.tokens, group_tokens);
  group_values_ = layer_rows(layout_.shape) * group_tokens;
  status = rows_.resize(2 * group_values_ * workers);
  if (status == Status::kOk) status = errors_.resize(layout_.shape.layers * groups_);
  for (size_t i = 0; i < errors_.size(); i++) errors_[i] = {};
  return status;
}

Status RowSink::put(const uint16_t* rows, const uint16_t* low, uint32_t layer, size_t token_begin, size_t count, uint32_t worker) noexcept {
  LayerAddress address;
  const Status status = layer_address(layout_.order, layout_.shape, layout_.block_tokens, layer, &address);
  if (status != Status::kOk) return status;
  if (original_.data != nullptr) {
    return compare(rows, low, address, token_begin, count, worker, &errors_[layer * groups_ + token_begin / group_tokens_]);
  }
  store_rows(rows, low, count, address, layout_.shape, token_begin, count, tensor_.data);
  return Status::kOk;
}

Status RowSink::compare(const uint16_t* rows, const uint16_t* low, const LayerAddress& address, size_t token_begin, size_t count,
                        uint32_t worker, ErrorSums* out) noexcept {
  const ElementType type = layout_.shape.type;
  const bool wide = element_bytes(type) == 4;
  uint16_t* const original = rows_.data() + 2 * group_values_ * worker;
  uint16_t* const original_low = original + group_values_;
  load_rows(original_.data, address, layout_.shape, token_begin, count, original, original_low, count);
  ErrorSums& sums = *out;
  const size_t values = layer_rows(layout_.shape) * count;
  for (size_t i = 0; i < values; i++) {
    const uint16_t lower = wide ? low[i] : uint16_t(0), original_lower = wide ? original_low[i] : uint16_t(0);
    const bool same = rows[i] == original[i] && lower == original_lower;
    const double was = value_of(type, original[i], original_lower);
    sums.different += !same;
    if (!std::isfinite(was)) {
      if (!same) return Status::kCorrupt;
      continue;
    }
    const double error = same ? 0 : std::fabs(value_of(type, rows[i], lower) - was);
    if (!(error <= sums.max_absolute)) sums.max_absolute = error;
    sums.squared_error += error * error;
    sums.squared_original += was * was;
  }
  return Status::kOk;
}

ErrorSums RowSink::errors() const noexcept {
  ErrorSums total{};
  for (size_t i = 0; i < errors_.size(); i++) {
    const ErrorSums& e = errors_[i];
    if (!(e.max_absolute <= total.max_absolute)) total.max_absolute = e.max_absolute;
    total.squared_error += e.squared_error;
    total.squared_original += e.squared_original;
    total.different += e.different;
  }
  return total;
}

}  // namespace kvreel
