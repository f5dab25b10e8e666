#include "mapped_file.h"

#include <uv.h>

#include <cerrno>
#include <string>

#include "../file/mapped_file.h"

namespace kvreel {
namespace {

constexpr uint64_t kMostMapped = uint64_t(2) << 30;

Napi::Error error_with(Napi::Env env, const char* code, const char* message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

Napi::Error system_error(Napi::Env env, int error) { return error_with(env, uv_err_name(-error), uv_strerror(-error)); }

Napi::Error error_of(Napi::Env env, const SharedFile& opened) {
  if (opened.refusal == OpenRefusal::kNotRegular) return error_with(env, "ENOTREG", "not a regular file");
  if (opened.refusal == OpenRefusal::kNotOwn) return error_with(env, "ENOTOWN", "a file of another user");
  return system_error(env, opened.error);
}

// What JavaScript holds as a number is a whole number from 0, or nothing that is used.
bool read_size(Napi::Value value, uint64_t* out) {
  if (!value.IsNumber()) return false;
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= 0 && number <= 9007199254740991.0) || number != double(uint64_t(number))) return false;
  *out = uint64_t(number);
  return true;
}

bool read_descriptor(Napi::Value value, uint64_t* out) { return read_size(value, out) && *out <= 0x7fffffff; }

bool read_range(const Napi::CallbackInfo& info, uint64_t* file, uint64_t* offset, uint64_t* bytes) {
  return read_descriptor(info[0], file) && read_size(info[1], offset) && read_size(info[2], bytes);
}

class Reserver final : public Napi::AsyncWorker {
 public:
  Reserver(Napi::Env env, int file, uint64_t offset, uint64_t bytes)
      : AsyncWorker(env, "kvreel"), deferred_(Napi::Promise::Deferred::New(env)), file_(file), offset_(offset), bytes_(bytes) {}

  Napi::Promise promise() const { return deferred_.Promise(); }
  void Execute() override { error_ = reserve_file(file_, offset_, bytes_); }
  void OnOK() override {
    if (error_ == 0) return deferred_.Resolve(Env().Undefined());
    deferred_.Reject(system_error(Env(), error_).Value());
  }

 private:
  const Napi::Promise::Deferred deferred_;
  const int file_;
  const uint64_t offset_, bytes_;
  int error_ = 0;
};

}  // namespace

Napi::Value open_shared(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  uint64_t create_bytes = 0;
  if (!info[0].IsString() || !read_size(info[1], &create_bytes)) {
    Napi::TypeError::New(env, "expected a path and a number of bytes").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const SharedFile opened = open_shared_file(info[0].As<Napi::String>().Utf8Value().c_str(), create_bytes);
  if (opened.refusal != OpenRefusal::kNone) {
    error_of(env, opened).ThrowAsJavaScriptException();
    return env.Undefined();
  }
  Napi::Array result = Napi::Array::New(env, 2);
  result.Set(0u, Napi::Number::New(env, opened.file));
  result.Set(1u, Napi::Number::New(env, double(opened.bytes)));
  return result;
}

Napi::Value lock_shared(const Napi::CallbackInfo& info) {
  uint64_t file = 0;
  if (!read_descriptor(info[0], &file)) {
    Napi::TypeError::New(info.Env(), "expected a file descriptor").ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  return Napi::Boolean::New(info.Env(), lock_file(int(file)));
}

Napi::Value map_file_buffer(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  uint64_t file = 0, offset = 0, bytes = 0;
  if (!read_range(info, &file, &offset, &bytes) || bytes == 0 || bytes > kMostMapped) {
    Napi::TypeError::New(env, "expected a file descriptor, an offset, and from 1 byte to 2 GiB").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  uint8_t* const data = map_file(int(file), offset, bytes);
  if (data == nullptr) {
    system_error(env, errno).ThrowAsJavaScriptException();
    return env.Undefined();
  }
  return Napi::ArrayBuffer::New(env, data, bytes, [bytes](Napi::Env, void* mapped) { unmap_file(static_cast<uint8_t*>(mapped), bytes); });
}

Napi::Value unmap_file_buffer(const Napi::CallbackInfo& info) {
  if (!info[0].IsArrayBuffer()) {
    Napi::TypeError::New(info.Env(), "expected an ArrayBuffer").ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  info[0].As<Napi::ArrayBuffer>().Detach();
  return info.Env().Undefined();
}

Napi::Value reserve_file_async(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  uint64_t file = 0, offset = 0, bytes = 0;
  if (!read_range(info, &file, &offset, &bytes)) {
    Napi::TypeError::New(env, "expected a file descriptor and two numbers").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  auto* reserver = new Reserver(env, int(file), offset, bytes);
  const Napi::Promise promise = reserver->promise();
  reserver->Queue();
  return promise;
}

}  // namespace kvreel
