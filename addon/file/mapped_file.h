// Memory that other processes have too: ranges of a file of theirs or of ours, mapped. Who makes such a file shorter while it is in use ends
// this process with SIGBUS, as does a full file system that a page of a hole is taken from; the caller looks at the length before each use
// and has the range reserved.
#pragma once

#include <cstdint>

namespace kvreel {

enum class OpenRefusal {
  kNone,
  kSystem,      // `error` tells
  kNotRegular,  // a device, a FIFO, a directory
  kNotOwn,      // of another user, who could make it shorter
};

struct SharedFile {
  int file;  // the caller's to close
  uint64_t bytes;
  OpenRefusal refusal;
  int error;  // errno
};

// Opens a regular file of this process' own user for reading and writing. A symbolic link is not followed. With `create_bytes` above 0 the
// file is made, with so many bytes, and must not exist.
SharedFile open_shared_file(const char* path, uint64_t create_bytes) noexcept;

// Marks the file as in use by this process, until it closes it or ends however it does. False if another one has.
bool lock_file(int file) noexcept;

// Maps a range of the file; `offset` is a multiple of the page size. Null with errno set if the system refuses.
uint8_t* map_file(int file, uint64_t offset, uint64_t bytes) noexcept;
void unmap_file(uint8_t* data, uint64_t bytes) noexcept;

// Takes memory for a range of the file. Returns 0 or errno: ENOSPC if the file system is full.
int reserve_file(int file, uint64_t offset, uint64_t bytes) noexcept;

}  // namespace kvreel
