// What JavaScript sees of the addon. No arithmetic here: arguments are checked, work is handed to the pool, promises are settled.
#include <napi.h>

#include "../codec/checksum.h"
#include "../codec/cpu.h"
#include "../codec/quantized_hevc.h"
#include "../net/receive_threshold.h"
#include "arguments.h"
#include "entry_reader.h"
#include "errors.h"
#include "mapped_file.h"
#include "worker_pool.h"

namespace kvreel {
namespace {

class Addon : public Napi::Addon<Addon> {
 public:
  Addon(Napi::Env env, Napi::Object exports);
  ~Addon();

 private:
  // A call that is under way: what it keeps alive, and how it answers.
  struct Call {
    explicit Call(Napi::Env env) : deferred(Napi::Promise::Deferred::New(env)) {}
    Napi::Promise::Deferred deferred;
    std::vector<Napi::ObjectReference> held;
    std::unique_ptr<RowSink> sink;
    ChunkJob* job = nullptr;  // owned by the pooled job
    std::shared_ptr<PooledJob> pooled;
    std::function<Napi::Value(Napi::Env)> result;
    Status status = Status::kOk;
  };

  Napi::Value EncodeBound(const Napi::CallbackInfo& info);
  Napi::Value Encode(const Napi::CallbackInfo& info);
  Napi::Value Decode(const Napi::CallbackInfo& info);
  Napi::Value Verify(const Napi::CallbackInfo& info);
  Napi::Value Pack(const Napi::CallbackInfo& info);
  Napi::Value Unpack(const Napi::CallbackInfo& info);
  Napi::Value HevcStreamLayers(const Napi::CallbackInfo& info);
  Napi::Value Xxh3(const Napi::CallbackInfo& info);
  Napi::Value ReadEntry(const Napi::CallbackInfo& info) { return read_entry_async(info); }
  Napi::Value OpenShared(const Napi::CallbackInfo& info) { return open_shared(info); }
  Napi::Value LockFile(const Napi::CallbackInfo& info) { return lock_shared(info); }
  Napi::Value MapFile(const Napi::CallbackInfo& info) { return map_file_buffer(info); }
  Napi::Value UnmapFile(const Napi::CallbackInfo& info) { return unmap_file_buffer(info); }
  Napi::Value ReserveFile(const Napi::CallbackInfo& info) { return reserve_file_async(info); }
  Napi::Value SetReceiveThreshold(const Napi::CallbackInfo& info);
  Napi::Value ForceScalar(const Napi::CallbackInfo& info);

  Napi::Value run(Napi::Env env, std::unique_ptr<Call> call, uint32_t threads, const volatile int32_t* cancel);
  Napi::Value decode_into(const Napi::CallbackInfo& info, bool verify);
  Napi::Value repack(const Napi::CallbackInfo& info, bool to_split);
  static void settle(Napi::Env env, Napi::Function, Addon* addon, Call* call);

  using Settler = Napi::TypedThreadSafeFunction<Addon, Call, &Addon::settle>;
  Settler settler_;
  uint32_t calls_ = 0;
  WorkerPool pool_;
};

uint32_t pool_size() noexcept {
  const uint32_t cores = std::thread::hardware_concurrency();
  return cores == 0 ? 1 : cores < 16 ? cores : 16;
}

Napi::Uint8Array copy_bytes(Napi::Env env, ConstBytes bytes) {
  Napi::Uint8Array array = Napi::Uint8Array::New(env, bytes.size);
  if (bytes.size > 0) std::copy(bytes.data, bytes.data + bytes.size, array.Data());
  return array;
}

Napi::BigUint64Array copy_sections(Napi::Env env, Span<const Section> sections) {
  Napi::BigUint64Array array = Napi::BigUint64Array::New(env, 3 * sections.size);
  const uint64_t* from = reinterpret_cast<const uint64_t*>(sections.data);
  std::copy(from, from + 3 * sections.size, array.Data());
  return array;
}

Napi::Value error_sums(Napi::Env env, const ErrorSums& sums) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("maxAbsolute", Napi::Number::New(env, sums.max_absolute));
  result.Set("squaredError", Napi::Number::New(env, sums.squared_error));
  result.Set("squaredOriginal", Napi::Number::New(env, sums.squared_original));
  result.Set("different", Napi::Number::New(env, double(sums.different)));
  return result;
}

Addon::Addon(Napi::Env env, Napi::Object exports) : pool_(pool_size()) {
  settler_ = Settler::New(env, "kvreel", 0, 1, this);
  settler_.Unref(env);
  DefineAddon(exports, {
                           InstanceMethod("encodeBound", &Addon::EncodeBound),
                           InstanceMethod("encode", &Addon::Encode),
                           InstanceMethod("decode", &Addon::Decode),
                           InstanceMethod("verify", &Addon::Verify),
                           InstanceMethod("pack", &Addon::Pack),
                           InstanceMethod("unpack", &Addon::Unpack),
                           InstanceMethod("hevcStreamLayers", &Addon::HevcStreamLayers),
                           InstanceMethod("xxh3", &Addon::Xxh3),
                           InstanceMethod("readEntry", &Addon::ReadEntry),
                           InstanceMethod("openShared", &Addon::OpenShared),
                           InstanceMethod("lockFile", &Addon::LockFile),
                           InstanceMethod("mapFile", &Addon::MapFile),
                           InstanceMethod("unmapFile", &Addon::UnmapFile),
                           InstanceMethod("reserveFile", &Addon::ReserveFile),
                           InstanceMethod("setReceiveThreshold", &Addon::SetReceiveThreshold),
                           InstanceMethod("forceScalar", &Addon::ForceScalar),
                       });
}

Addon::~Addon() { settler_.Abort(); }

void Addon::settle(Napi::Env env, Napi::Function, Addon* addon, Call* raw) {
  const std::unique_ptr<Call> call(raw);
  if (env == nullptr) return;  // the environment is going down: nobody waits for the answer
  if (--addon->calls_ == 0) addon->settler_.Unref(env);
  if (call->status == Status::kOk) {
    call->deferred.Resolve(call->result(env));
  } else {
    call->deferred.Reject(error_of(env, call->status).Value());
  }
}

Napi::Value Addon::run(Napi::Env env, std::unique_ptr<Call> owned, uint32_t threads, const volatile int32_t* cancel) {
  Call* call = owned.get();
  const Napi::Promise promise = call->deferred.Promise();
  if (call->job == nullptr) {
    call->deferred.Reject(error_of(env, Status::kOutOfMemory).Value());
    return promise;
  }
  const uint32_t workers = threads == 0 || threads > pool_.threads() ? pool_.threads() : threads;
  call->pooled = std::make_shared<PooledJob>(call->job, workers, cancel, [this, call](Status status) {
    call->status = status;
    settler_.BlockingCall(call);
  });
  if (!pool_.submit(call->pooled)) {
    Napi::Error error = Napi::Error::New(env, "too many encodes and decodes are waiting; await some of them first");
    error.Set("code", Napi::String::New(env, "KV_OVERLOADED"));
    call->deferred.Reject(error.Value());
    return promise;
  }
  owned.release();
  if (calls_++ == 0) settler_.Ref(env);
  return promise;
}

// encodeBound(parameters) -> { sections, model } in bytes
Napi::Value Addon::EncodeBound(const Napi::CallbackInfo& info) {
  ChunkParameters parameters;
  if (!read_chunk_parameters(info[0], &parameters)) return info.Env().Undefined();
  kvreel::EncodeBound bound{};
  const Status status = encode_bound(parameters, &bound);
  if (status != Status::kOk) {
    error_of(info.Env(), status).ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("sections", Napi::Number::New(info.Env(), double(bound.sections)));
  result.Set("model", Napi::Number::New(info.Env(), double(bound.model)));
  return result;
}

// encode(parameters, tensor, out, cancel, threads) -> Promise<{ model, sections }>
Napi::Value Addon::Encode(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  ChunkParameters parameters;
  Bytes tensor, out;
  const volatile int32_t* cancel = nullptr;
  if (!read_chunk_parameters(info[0], &parameters) || !read_bytes(info[1], "tensor", &tensor) || !read_bytes(info[2], "out", &out) ||
      !read_cancel_flag(info[3], &cancel)) {
    return env.Undefined();
  }
  auto call = std::make_unique<Call>(env);
  call->held.push_back(Napi::Persistent(info[0].As<Napi::Object>().Get("thetas").As<Napi::Object>()));
  for (size_t i = 1; i <= 3; i++) call->held.push_back(Napi::Persistent(info[i].As<Napi::Object>()));
  EncodeJob* job = make_encode_job(parameters, tensor, out);
  call->job = job;
  call->result = [job](Napi::Env e) -> Napi::Value {
    Napi::Object result = Napi::Object::New(e);
    result.Set("model", copy_bytes(e, job->model()));
    result.Set("sections", copy_sections(e, job->sections()));
    return result;
  };
  return run(env, std::move(call), info[4].As<Napi::Number>().Uint32Value(), cancel);
}

// decode(parameters, model, selection, sections, object, target, tensor, cancel, threads) -> Promise<undefined>
Napi::Value Addon::Decode(const Napi::CallbackInfo& info) { return decode_into(info, false); }

// verify(the same, with the original as `tensor`) -> Promise<{ maxAbsolute, squaredError, squaredOriginal, different }>
Napi::Value Addon::Verify(const Napi::CallbackInfo& info) { return decode_into(info, true); }

Napi::Value Addon::decode_into(const Napi::CallbackInfo& info, bool verify) {
  const Napi::Env env = info.Env();
  ChunkParameters parameters;
  TensorLayout target;
  Selection selection;
  Bytes model, object, tensor;
  Span<const Section> sections;
  const volatile int32_t* cancel = nullptr;
  if (!read_chunk_parameters(info[0], &parameters) || !read_bytes(info[1], "model", &model)) return env.Undefined();
  const Napi::Object selected = info[2].As<Napi::Object>();
  if (!read_u32(selected, "layerBegin", &selection.layer_begin) || !read_u32(selected, "layerCount", &selection.layer_count) ||
      !read_u32(selected, "groupBegin", &selection.group_begin) || !read_u32(selected, "groupCount", &selection.group_count) ||
      !read_sections(info[3], &sections) || !read_bytes(info[4], "object", &object) || !read_layout(info[5].As<Napi::Object>(), &target) ||
      !read_bytes(info[6], "tensor", &tensor) || !read_cancel_flag(info[7], &cancel)) {
    return env.Undefined();
  }
  const Status selected_status = check_selection(parameters, selection, sections.size, target.shape);
  if (selected_status != Status::kOk) {
    error_of(env, selected_status).ThrowAsJavaScriptException();
    return env.Undefined();
  }
  auto call = std::make_unique<Call>(env);
  call->held.push_back(Napi::Persistent(info[0].As<Napi::Object>().Get("thetas").As<Napi::Object>()));
  for (const size_t i : {1, 3, 4, 6, 7}) call->held.push_back(Napi::Persistent(info[i].As<Napi::Object>()));
  call->sink = verify ? std::make_unique<RowSink>(target, ConstBytes(tensor)) : std::make_unique<RowSink>(target, tensor);
  const RowSink* sink = call->sink.get();
  call->job = make_decode_job(parameters, model, selection, sections, object, call->sink.get());
  call->result = [sink, verify](Napi::Env e) -> Napi::Value { return verify ? error_sums(e, sink->errors()) : e.Undefined(); };
  return run(env, std::move(call), info[8].As<Napi::Number>().Uint32Value(), cancel);
}

// pack(layout, source, target): the tensor in canonical split order. Synchronous: it is a copy.
Napi::Value Addon::Pack(const Napi::CallbackInfo& info) { return repack(info, true); }

// unpack(layout, source, target): the inverse
Napi::Value Addon::Unpack(const Napi::CallbackInfo& info) { return repack(info, false); }

Napi::Value Addon::repack(const Napi::CallbackInfo& info, bool to_split) {
  TensorLayout layout;
  Bytes source, target;
  if (!read_layout(info[0].As<Napi::Object>(), &layout) || !read_bytes(info[1], "source", &source) || !read_bytes(info[2], "target", &target)) {
    return info.Env().Undefined();
  }
  const auto copy = to_split ? pack : unpack;
  const Status status = copy(layout.order, layout.shape, layout.block_tokens, source, target);
  if (status != Status::kOk) error_of(info.Env(), status).ThrowAsJavaScriptException();
  return info.Env().Undefined();
}

// hevcStreamLayers(parameters) -> layers in one stream of coder hevc
Napi::Value Addon::HevcStreamLayers(const Napi::CallbackInfo& info) {
  ChunkParameters parameters;
  if (!read_chunk_parameters(info[0], &parameters)) return info.Env().Undefined();
  size_t bytes = 0;
  const Status status = tensor_bytes(parameters.layout.shape, &bytes);
  if (status != Status::kOk || parameters.group_tokens == 0) {
    error_of(info.Env(), Status::kInvalidArgument).ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  return Napi::Number::New(info.Env(), hevc_streams(parameters.layout.shape, parameters.group_tokens).layers);
}

// xxh3(bytes) -> bigint
Napi::Value Addon::Xxh3(const Napi::CallbackInfo& info) {
  Bytes bytes;
  if (!read_bytes(info[0], "bytes", &bytes)) return info.Env().Undefined();
  return Napi::BigInt::New(info.Env(), xxh3_64(bytes));
}

// setReceiveThreshold(socket, bytes): boolean
Napi::Value Addon::SetReceiveThreshold(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsNumber() || !info[1].IsNumber()) {
    Napi::TypeError::New(env, "expected a socket's descriptor and a number of bytes").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  return Napi::Boolean::New(env, set_receive_threshold(info[0].As<Napi::Number>().Int32Value(), info[1].As<Napi::Number>().Int32Value()));
}

// forceScalar(boolean): for tests and benchmarks
Napi::Value Addon::ForceScalar(const Napi::CallbackInfo& info) {
  cpu_force_scalar(info[0].ToBoolean());
  return info.Env().Undefined();
}

}  // namespace

NODE_API_ADDON(Addon)

}  // namespace kvreel
