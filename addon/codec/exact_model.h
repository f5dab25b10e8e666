// The side information of an `exact` chunk: tables, and for each channel of each layer its table, mean and sign. Goes into the header.
#pragma once

#include "exact.h"

namespace kvreel {

constexpr uint32_t kExactMaxTables = 256;

struct ExactModel {
  bool has_low_halves = false;  // 32-bit elements only
  Buffer<ExactTable> tables;
  Buffer<ExactChannel> channels;  // [layer][row]

  // Bytes that write() needs at most.
  static size_t bound(size_t table_count, size_t channel_count) noexcept;
  Status write(Bytes out, size_t* written) const noexcept;
  // Reads and checks a model of layers * rows channels.
  Status read(ConstBytes in, size_t channel_count, uint32_t magnitude_bits) noexcept;
};

// Walks the channels of one layer table by table; `order` and `table_of_channel` hold one entry a channel.
RansPlan exact_plan(Span<const ExactChannel> channels, uint16_t* order, uint8_t* table_of_channel) noexcept;

}  // namespace kvreel
