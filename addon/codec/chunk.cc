#include "chunk.h"

#include <cstring>

namespace kvreel {

void move_sections_together(Span<Section> sections, uint32_t groups, Bytes out) noexcept {
  uint64_t offset = 0;
  for (size_t i = 0; i < sections.size;) {
    const uint64_t from = sections[i].offset;
    uint64_t length = 0;
    for (uint32_t g = 0; g < groups; g++, i++) {
      sections[i].offset = offset + length;
      length += sections[i].length;
    }
    std::memmove(out.data + offset, out.data + from, length);
    offset += length;
  }
}

}  // namespace kvreel
