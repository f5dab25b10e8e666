#include "entry_reader.h"

#include <uv.h>

#include <cerrno>
#include <limits>
#include <string>

#include "../file/entry_read.h"

namespace kvreel {
namespace {

// Shared memory is fine here, unlike in the codec: nothing is decided by what was written into it.
bool is_bytes(Napi::Value value, size_t least) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array && value.As<Napi::TypedArray>().ByteLength() >= least;
}

// A whole number from 0 that JavaScript can hold; the caller has checked ranges of its own.
uint64_t read_size(Napi::Value value) { return uint64_t(value.As<Napi::Number>().Int64Value()); }

class EntryReader final : public Napi::AsyncWorker {
 public:
  EntryReader(Napi::Env env, std::string path, const EntryRead& wanted, Napi::Value key, Napi::Value tail, Napi::Value into)
      : AsyncWorker(env, "kvreel"), deferred_(Napi::Promise::Deferred::New(env)), path_(std::move(path)), wanted_(wanted) {
    for (int i = 0; i < 3; i++) held_[i] = Napi::Persistent((i == 0 ? key : i == 1 ? tail : into).As<Napi::Object>());
  }

  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override { result_ = read_entry(path_.c_str(), wanted_); }

  void OnOK() override {
    const Napi::Env env = Env();
    if (result_.error == ENOENT) return deferred_.Resolve(env.Undefined());
    if (result_.error != 0) {
      Napi::Error error = Napi::Error::New(env, std::string(uv_strerror(-result_.error)));
      error.Set("code", Napi::String::New(env, uv_err_name(-result_.error)));
      error.Set("errno", Napi::Number::New(env, -result_.error));
      return deferred_.Reject(error.Value());
    }
    Napi::Array numbers = Napi::Array::New(env, 2);
    numbers.Set(0u, Napi::Number::New(env, result_.is_regular ? double(result_.file_bytes) : std::numeric_limits<double>::quiet_NaN()));
    numbers.Set(1u, Napi::Number::New(env, double(result_.bytes_read)));
    deferred_.Resolve(numbers);
  }

 private:
  const Napi::Promise::Deferred deferred_;
  const std::string path_;
  const EntryRead wanted_;
  Napi::ObjectReference held_[3];
  EntryReadResult result_{};
};

}  // namespace

Napi::Value read_entry_async(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsString() || !is_bytes(info[1], kEntryKeyBytes) || !is_bytes(info[2], kEntryLifetimeBytes + kEntryTrailerBytes) || !info[3].IsNumber() ||
      !info[4].IsNumber() || !is_bytes(info[5], 0)) {
    Napi::TypeError::New(env, "expected a path, a key and room for a tail, two numbers, and a Uint8Array").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  Napi::Uint8Array key = info[1].As<Napi::Uint8Array>(), tail = info[2].As<Napi::Uint8Array>(), into = info[5].As<Napi::Uint8Array>();
  const EntryRead wanted{read_size(info[3]), read_size(info[4]), into.Data(), into.ByteLength(), key.Data(), tail.Data()};
  auto* reader = new EntryReader(env, info[0].As<Napi::String>().Utf8Value(), wanted, info[1], info[2], info[5]);
  const Napi::Promise promise = reader->promise();
  reader->Queue();
  return promise;
}

}  // namespace kvreel
