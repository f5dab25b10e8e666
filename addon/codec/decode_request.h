// What every decode is told: which part of which chunk, from which bytes, to where.
#pragma once

#include "row_sink.h"

namespace kvreel {

struct DecodeRequest {
  KvShape source;  // the shape that was encoded
  uint32_t group_tokens;
  ConstBytes model;
  Selection selection;
  Span<const Section> sections;  // those of the selection, pointing into `object`
  ConstBytes object;
  RowSink* sink;  // its layout is that of the selected part

  // The bytes of section `index`, checked against their checksum: nothing is decoded before.
  Status open_section(size_t index, ConstBytes* bytes) const noexcept;
};

}  // namespace kvreel
