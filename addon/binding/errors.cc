#include "errors.h"

namespace kvreel {
namespace {

struct Description {
  const char* code;
  const char* message;
};

Description describe(Status status) noexcept {
  switch (status) {
    case Status::kInvalidArgument: return {"KV_INVALID_INPUT", "the tensor's length and its layout contradict each other, or a dimension is out of range"};
    case Status::kBufferTooSmall: return {"KV_INVALID_INPUT", "the output buffer is too small"};
    case Status::kCorrupt: return {"KV_CORRUPT_OBJECT", "the object is damaged: a section does not match its checksum or cannot be decoded"};
    case Status::kUnsupported: return {"KV_UNSUPPORTED", "this coder cannot carry this tensor: it holds a NaN or an infinity, or its values are too wild to gain; use coder exact"};
    case Status::kOutOfMemory: return {"KV_OUT_OF_MEMORY", "not enough memory for this chunk"};
    case Status::kCancelled: return {"KV_CANCELLED", "the call was cancelled"};
    case Status::kOk: break;
  }
  return {"KV_INVALID_INPUT", "no error"};
}

}  // namespace

Napi::Error error_of(Napi::Env env, Status status) {
  const Description description = describe(status);
  Napi::Error error = Napi::Error::New(env, description.message);
  error.Set("code", Napi::String::New(env, description.code));
  return error;
}

}  // namespace kvreel
