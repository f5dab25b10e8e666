#include "decode_request.h"

#include "checksum.h"

namespace kvreel {

Status DecodeRequest::open_section(size_t index, ConstBytes* bytes) const noexcept {
  const Section& section = sections[index];
  if (section.offset > object.size || section.length > object.size - section.offset) return Status::kCorrupt;
  *bytes = object.sub(section.offset, section.length);
  return xxh3_64(*bytes) == section.checksum ? Status::kOk : Status::kCorrupt;
}

}  // namespace kvreel
