#include "mapped_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace kvreel {
namespace {

OpenRefusal look(int file, uint64_t create_bytes, uint64_t* bytes) noexcept {
  if (create_bytes > 0 && ftruncate(file, off_t(create_bytes)) != 0) return OpenRefusal::kSystem;
  struct stat about;
  if (fstat(file, &about) != 0) return OpenRefusal::kSystem;
  if (!S_ISREG(about.st_mode)) return OpenRefusal::kNotRegular;
  if (about.st_uid != geteuid()) return OpenRefusal::kNotOwn;
  *bytes = uint64_t(about.st_size);
  return OpenRefusal::kNone;
}

}  // namespace

SharedFile open_shared_file(const char* path, uint64_t create_bytes) noexcept {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  const int make = create_bytes > 0 ? O_CREAT | O_EXCL : 0;
  SharedFile opened{open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | make, 0600), 0, OpenRefusal::kNone, 0};
  opened.refusal = opened.file < 0 ? OpenRefusal::kSystem : look(opened.file, create_bytes, &opened.bytes);
  opened.error = opened.refusal == OpenRefusal::kSystem ? errno : 0;
  if (opened.refusal != OpenRefusal::kNone && opened.file >= 0) {
    close(opened.file);
    if (make != 0) unlink(path);
  }
  return opened;
}

bool lock_file(int file) noexcept { return flock(file, LOCK_EX | LOCK_NB) == 0; }

uint8_t* map_file(int file, uint64_t offset, uint64_t bytes) noexcept {
  void* const data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, off_t(offset));
  return data == MAP_FAILED ? nullptr : static_cast<uint8_t*>(data);
}

void unmap_file(uint8_t* data, uint64_t bytes) noexcept { munmap(data, bytes); }

int reserve_file(int file, uint64_t offset, uint64_t bytes) noexcept {
#ifdef __linux__
  while (fallocate(file, FALLOC_FL_KEEP_SIZE, off_t(offset), off_t(bytes)) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
#else
  (void)file, (void)offset, (void)bytes;
  return ENOTSUP;
#endif
}

}  // namespace kvreel
