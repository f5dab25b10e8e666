// Ranges of files in shared memory as ArrayBuffers.
#pragma once

#include <napi.h>

namespace kvreel {

// openShared(path, createBytes) -> [file, bytes]; the descriptor is the caller's to close. Throws an Error whose `code` is that of the system, ENOTREG or ENOTOWN.
Napi::Value open_shared(const Napi::CallbackInfo& info);
// lockFile(file) -> boolean: whether this process has it for itself now.
Napi::Value lock_shared(const Napi::CallbackInfo& info);
// mapFile(file, offset, bytes) -> ArrayBuffer, of at most 2 GiB: Node 20 makes none beyond 4 GiB of memory that it does not own. Throws a system error.
// The memory is unmapped when the buffer is collected or given up.
Napi::Value map_file_buffer(const Napi::CallbackInfo& info);
// unmapFile(buffer): detaches it. Nothing may work in it any more.
Napi::Value unmap_file_buffer(const Napi::CallbackInfo& info);
// reserveFile(file, offset, bytes) -> Promise<undefined>, on Node's own threads. Rejects with a system error.
Napi::Value reserve_file_async(const Napi::CallbackInfo& info);

}  // namespace kvreel
