// Reading entries of the filesystem connector, on Node's own threads: the codec's pool must not wait for disks.
#pragma once

#include <napi.h>

namespace kvreel {

// readEntry(path, key, tail, offset, length, into) -> Promise<[file_bytes, bytes_read] | undefined>: undefined where there is no file, NaN bytes where it is no regular
// one. Rejects with an Error that has `code` and `errno`, as those of node:fs do.
Napi::Value read_entry_async(const Napi::CallbackInfo& info);

}  // namespace kvreel
