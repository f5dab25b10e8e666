#include "arguments.h"

#include <string>

namespace kvreel {
namespace {

bool refuse(Napi::Env env, const char* name, const char* expected) {
  Napi::TypeError::New(env, std::string("expected `") + name + "` to be " + expected).ThrowAsJavaScriptException();
  return false;
}

bool is_typed_array(Napi::Value value, napi_typedarray_type type) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == type && value.As<Napi::TypedArray>().ArrayBuffer().IsArrayBuffer();
}

}  // namespace

bool read_u32(Napi::Object object, const char* name, uint32_t* out) {
  const Napi::Value value = object.Get(name);
  if (object.Env().IsExceptionPending()) return false;
  if (!value.IsNumber()) return refuse(object.Env(), name, "a number");
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= 0 && number <= 4294967295.0) || number != double(uint32_t(number))) return refuse(object.Env(), name, "an integer from 0 to 2^32 - 1");
  *out = uint32_t(number);
  return true;
}

bool read_bytes(Napi::Value value, const char* name, Bytes* out) {
  if (!is_typed_array(value, napi_uint8_array)) return refuse(value.Env(), name, "a Uint8Array over an ArrayBuffer that is not shared");
  Napi::Uint8Array array = value.As<Napi::Uint8Array>();
  *out = {array.Data(), array.ByteLength()};
  return true;
}

bool read_cancel_flag(Napi::Value value, const volatile int32_t** out) {
  if (!is_typed_array(value, napi_int32_array) || value.As<Napi::Int32Array>().ElementLength() == 0) {
    return refuse(value.Env(), "cancel", "an Int32Array of one element");
  }
  *out = value.As<Napi::Int32Array>().Data();
  return true;
}

bool read_sections(Napi::Value value, Span<const Section>* out) {
  static_assert(sizeof(Section) == 3 * sizeof(uint64_t), "sections are read in place");
  if (!is_typed_array(value, napi_biguint64_array) || value.As<Napi::BigUint64Array>().ElementLength() % 3 != 0) {
    return refuse(value.Env(), "sections", "a BigUint64Array of (offset, length, checksum)");
  }
  const Napi::BigUint64Array array = value.As<Napi::BigUint64Array>();
  *out = {reinterpret_cast<const Section*>(array.Data()), array.ElementLength() / 3};
  return true;
}

bool read_layout(Napi::Object object, TensorLayout* out) {
  uint32_t order = 0, dtype = 0;
  KvShape& shape = out->shape;
  if (!read_u32(object, "order", &order) || !read_u32(object, "dtype", &dtype) || !read_u32(object, "layers", &shape.layers) ||
      !read_u32(object, "planes", &shape.planes) || !read_u32(object, "tokens", &shape.tokens) || !read_u32(object, "kvHeads", &shape.kv_heads) ||
      !read_u32(object, "headDim", &shape.head_dim) || !read_u32(object, "blockTokens", &out->block_tokens)) {
    return false;
  }
  if (order > uint32_t(LayoutOrder::kBytes)) return refuse(object.Env(), "order", "a known layout");
  if (dtype > uint32_t(ElementType::kU8)) return refuse(object.Env(), "dtype", "a known element type");
  out->order = LayoutOrder(order);
  shape.type = ElementType(dtype);
  return true;
}

bool read_chunk_parameters(Napi::Value value, ChunkParameters* out) {
  if (!value.IsObject()) return refuse(value.Env(), "parameters", "an object");
  const Napi::Object object = value.As<Napi::Object>();
  uint32_t coder = 0, style = 0;
  QuantizedParameters& quantized = out->quantized;
  if (!read_layout(object, &out->layout) || !read_u32(object, "coder", &coder) || !read_u32(object, "groupTokens", &out->group_tokens) ||
      !read_u32(object, "start", &quantized.start) || !read_u32(object, "rotaryDims", &quantized.rotary_dims) ||
      !read_u32(object, "rotaryStyle", &style)) {
    return false;
  }
  if (coder > uint32_t(Coder::kHevc)) return refuse(value.Env(), "coder", "a known coder");
  if (style > uint32_t(RotaryStyle::kInterleaved)) return refuse(value.Env(), "rotaryStyle", "a known style");
  const Napi::Value gain = object.Get("gainEighths"), thetas = object.Get("thetas");
  if (!gain.IsNumber()) return refuse(value.Env(), "gainEighths", "a number");
  if (!is_typed_array(thetas, napi_float64_array)) return refuse(value.Env(), "thetas", "a Float64Array");
  out->coder = Coder(coder);
  quantized.gain_eighths = gain.As<Napi::Number>().Int32Value();
  quantized.rotary_style = RotaryStyle(style);
  quantized.thetas = {thetas.As<Napi::Float64Array>().Data(), thetas.As<Napi::Float64Array>().ElementLength()};
  return true;
}

}  // namespace kvreel
