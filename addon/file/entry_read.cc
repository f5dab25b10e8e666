#include "entry_read.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "../codec/little_endian.h"

namespace kvreel {
namespace {

// A single read moves at most this much on Linux.
constexpr uint64_t kMostAtOnce = 0x40000000;

// Returns the bytes read, fewer than `size` at the end of the file, or -1 with errno set.
ssize_t read_fully(int file, uint8_t* into, uint64_t size, uint64_t offset) noexcept {
  uint64_t done = 0;
  while (done < size) {
    const uint64_t left = size - done;
    const ssize_t n = pread(file, into + done, left < kMostAtOnce ? left : kMostAtOnce, off_t(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -1;
    if (n == 0) break;
    done += uint64_t(n);
  }
  return ssize_t(done);
}

// The length of the value, if the tail of a file of `file_bytes` bytes is that of a whole entry of the key.
bool value_length(const uint8_t* tail, size_t tail_bytes, uint64_t file_bytes, const uint8_t* key, uint64_t* length) noexcept {
  if (tail_bytes < kEntryTrailerBytes) return false;
  const uint8_t* const trailer = tail + tail_bytes - kEntryTrailerBytes;
  const uint8_t* const told = trailer + kEntryKeyBytes;
  const uint8_t* const magic = told + 8;
  const bool has_lifetime = std::memcmp(magic, "kvreel.2", 8) == 0;
  if (!has_lifetime && std::memcmp(magic, "kvreel.1", 8) != 0) return false;
  const uint64_t rest = kEntryTrailerBytes + (has_lifetime ? kEntryLifetimeBytes : 0);
  *length = uint64_t(load_u32(told)) | uint64_t(load_u32(told + 4)) << 32;
  return file_bytes >= rest && *length == file_bytes - rest && std::memcmp(trailer, key, kEntryKeyBytes) == 0;
}

int read_open(int file, const EntryRead& wanted, EntryReadResult* result) noexcept {
  struct stat about;
  if (fstat(file, &about) != 0) return errno;
  result->is_regular = S_ISREG(about.st_mode);
  if (!result->is_regular) return 0;
  result->file_bytes = uint64_t(about.st_size);
  constexpr uint64_t kTail = kEntryLifetimeBytes + kEntryTrailerBytes;
  const uint64_t tail_bytes = result->file_bytes < kTail ? result->file_bytes : kTail;
  const ssize_t tail_read = read_fully(file, wanted.tail, tail_bytes, result->file_bytes - tail_bytes);
  if (tail_read < 0) return errno;
  uint64_t value_bytes = 0;
  if (!value_length(wanted.tail, size_t(tail_read), result->file_bytes, wanted.key, &value_bytes)) return 0;
  const uint64_t offset = wanted.offset < value_bytes ? wanted.offset : value_bytes;
  const uint64_t length = wanted.length < value_bytes - offset ? wanted.length : value_bytes - offset;
  if (length > wanted.into_size) return 0;
  const ssize_t read = read_fully(file, wanted.into, length, offset);
  if (read < 0) return errno;
  result->bytes_read = uint64_t(read);
  return 0;
}

}  // namespace

EntryReadResult read_entry(const char* path, const EntryRead& wanted) noexcept {
  EntryReadResult result{};
  // O_NONBLOCK: opening a FIFO that stands in an entry's place must not wait for a writer.
  const int file = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) {
    result.error = errno;
    return result;
  }
  result.error = read_open(file, wanted, &result);
  close(file);
  return result;
}

}  // namespace kvreel
