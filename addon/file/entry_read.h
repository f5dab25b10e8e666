// Reads an entry of the filesystem connector in one trip to a thread: open, look, read the tail, read the value, close. Five calls of
// Node for that cost more processor time than copying a value of 1 MiB does.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvreel {

// connectors/storage/filesystem/entry-file.ts tells the format.
constexpr size_t kEntryKeyBytes = 512;
constexpr size_t kEntryTrailerBytes = kEntryKeyBytes + 8 + 8;
constexpr size_t kEntryLifetimeBytes = 32;

// What is to be read.
struct EntryRead {
  uint64_t offset;  // of the value
  uint64_t length;  // less is read where the value ends first
  uint8_t* into;
  size_t into_size;
  const uint8_t* key;  // as in the trailer
  uint8_t* tail;       // gets the last bytes of the file, at most kEntryLifetimeBytes + kEntryTrailerBytes
};

struct EntryReadResult {
  uint64_t file_bytes;
  uint64_t bytes_read;  // of the value
  bool is_regular;
  int error;  // errno, or 0
};

// Nothing is read of a value that `into` is too small for, or whose trailer is not that of a whole entry of this key: why, the caller can
// see in the tail.
EntryReadResult read_entry(const char* path, const EntryRead& wanted) noexcept;

}  // namespace kvreel
