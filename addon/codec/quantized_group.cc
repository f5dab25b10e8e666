#include "quantized_group.h"

#include <cstring>

#include "little_endian.h"
#include "quantized_kernels.h"

namespace kvreel {
namespace {

size_t quads(size_t tokens) noexcept { return (tokens + 3) / 4; }

// Tokens of a group that are kept exact: always its leading ones.
size_t exact_in_group(const GroupContext& context, size_t token_begin, size_t tokens) noexcept {
  const size_t exact = exact_tokens(context.parameters);
  if (token_begin >= exact) return 0;
  return exact - token_begin < tokens ? exact - token_begin : tokens;
}

void pack_low(const int16_t* q, size_t tokens, const LowBits::Level& level, uint8_t* out, size_t* bit) noexcept {
#if defined(KVREEL_AVX2)
  if (tokens % 4 == 0 && cpu_has_avx2()) return pack_low_row_bmi2(q, tokens, level, out, bit);
#endif
  pack_low_row(q, tokens, level, out, bit);
}

void add_low(const uint8_t* in, size_t tokens, const LowBits::Level& level, int16_t* q, size_t* bit) noexcept {
#if defined(KVREEL_AVX2)
  if (tokens % 4 == 0 && cpu_has_avx2()) return add_low_row_bmi2(in, tokens, level, q, bit);
#endif
  add_low_row(in, tokens, level, q, bit);
}

// What lies beside a group's symbols, read row by row.
struct Side {
  ConstBytes low_bits;
  size_t bit;
  ConstBytes escapes;
  ConstBytes kept;  // the tokens that are kept exact
};

bool split_side(const GroupContext& context, LowBits& low_bits, ConstBytes bytes, size_t token_begin, size_t tokens, Side* side) noexcept {
  const size_t kept = exact_in_group(context, token_begin, tokens) * layer_rows(context.shape) * element_bytes(context.shape.type);
  const size_t fixed = side_bytes(context, low_bits, token_begin, tokens);
  if (bytes.size < fixed) return false;
  *side = {bytes, 0, bytes.sub(fixed - kept, bytes.size - fixed), bytes.from(bytes.size - kept)};
  return true;
}

// Adds to q of the rows of one head what lies beside their symbols, but for the tokens that are kept exact.
bool add_side(const GroupContext& context, LowBits& low_bits, size_t first_row, const uint8_t* symbols, size_t tokens, Side* side, int16_t* q) noexcept {
  const size_t dims = context.shape.head_dim;
  for (size_t r = first_row; r < first_row + dims; r++) {
    const LowBits::Level* level = low_bits.level(context.rows[r], row_is_key(context.shape, first_row));
    if (level != nullptr) add_low(side->low_bits.data, tokens, *level, q + (r - first_row) * tokens, &side->bit);
  }
  if (side->escapes.size == 0) return true;
  const uint8_t* const end = symbols + dims * tokens;
  for (const uint8_t* p = symbols; (p = static_cast<const uint8_t*>(std::memchr(p, kSymbolEscape, size_t(end - p)))) != nullptr; p++) {
    if (side->escapes.size < 2) return false;
    q[p - symbols] = int16_t(load_u16(side->escapes.data));
    side->escapes = side->escapes.from(2);
  }
  return true;
}

}  // namespace

Status LowBits::resize(size_t tokens) noexcept {
  const Status status = masks_.resize(2 * size_t(kLevels) * quads(tokens));
  return status == Status::kOk ? factors_.resize(6 * size_t(kLevels) * tokens) : status;
}

void LowBits::prepare(const QuantizedModel& model, const KvShape& shape, uint32_t layer, size_t token_begin, size_t tokens) noexcept {
  tokens_ = tokens;
  key_codes_ = model.token_code.data() + size_t(layer) * shape.planes * shape.tokens + token_begin;
  int32_t& largest = largest_code_[true] = kTokenCodeMin;
  for (size_t t = 0; t < tokens; t++) largest = key_codes_[t] > largest ? key_codes_[t] : largest;
  uint32_t tokens_of_code[kTokenCodeMax - kTokenCodeMin + 1] = {};
  for (size_t t = 0; t < tokens; t++) tokens_of_code[key_codes_[t] - kTokenCodeMin]++;
  for (int32_t i = 0; i <= kLevels; i++) {
    row_bits_[false][i] = uint32_t(tokens) * token_bits(kLowest - 1 + i, 0);
    row_bits_[true][i] = 0;
    for (int32_t code = kTokenCodeMin; code <= kTokenCodeMax; code++) {
      row_bits_[true][i] += tokens_of_code[code - kTokenCodeMin] * token_bits(kLowest - 1 + i, code);
    }
  }
  for (auto& levels : levels_) {
    for (Level& level : levels) level.masks = nullptr;
  }
}

void LowBits::work_out(Level* level, int32_t low_bits, bool is_key) noexcept {
  const size_t index = size_t(is_key) * kLevels + size_t(low_bits - kLowest);
  uint64_t* const masks = masks_.data() + index * quads(tokens_);
  uint16_t* const factor = factors_.data() + index * 3 * tokens_;
  uint16_t* const half = factor + tokens_;
  uint16_t* const width = half + tokens_;
  *level = {masks, factor, half, width};
  std::memset(masks, 0, quads(tokens_) * sizeof(uint64_t));
  for (size_t t = 0; t < tokens_; t++) {
    const uint32_t bits = token_bits(low_bits, is_key ? key_codes_[t] : 0);
    masks[t / 4] |= ((uint64_t(1) << bits) - 1) << (16 * (t % 4));
    factor[t] = uint16_t(1u << bits);
    half[t] = uint16_t((1u << bits) >> 1);
    width[t] = uint16_t(bits);
  }
}

Status GroupScratch::resize(const KvShape& shape, size_t tokens) noexcept {
  const size_t values = layer_rows(shape) * tokens;
  if (low_bits.resize(tokens) != Status::kOk || q.resize(values) != Status::kOk || floats.resize(shape.head_dim * tokens) != Status::kOk ||
      factors.resize(4 * tokens) != Status::kOk || upper.resize(values) != Status::kOk || lower.resize(values) != Status::kOk ||
      side.resize(side_bound(shape, tokens) + 16) != Status::kOk) {
    return Status::kOutOfMemory;
  }
  return Status::kOk;
}

size_t side_bound(const KvShape& shape, size_t tokens) noexcept {
  const size_t values = layer_rows(shape) * tokens;
  return 2 * values + 2 * values + layer_rows(shape) * element_bytes(shape.type) + 8;
}

size_t side_bytes(const GroupContext& context, LowBits& low_bits, size_t token_begin, size_t tokens) noexcept {
  const size_t count = layer_rows(context.shape), key_rows = context.shape.planes == 2 ? count / 2 : 0;
  size_t bits = 0;
  for (size_t r = 0; r < key_rows; r++) bits += low_bits.bits(context.rows[r], true);
  for (size_t r = key_rows; r < count; r++) bits += low_bits.bits(context.rows[r], false);
  return (bits + 7) / 8 + exact_in_group(context, token_begin, tokens) * count * element_bytes(context.shape.type);
}

size_t group_symbols(const GroupContext& context, LowBits& low_bits, const int16_t* q, size_t q_stride, size_t tokens, uint8_t* symbols,
                     size_t stride) noexcept {
  const auto to_symbols = quantized_kernels().to_symbols;
  size_t escapes = 0;
  for (size_t r = 0; r < layer_rows(context.shape); r++) {
    const LowBits::Level* level = low_bits.level(context.rows[r], row_is_key(context.shape, r));
    const uint16_t* half = level == nullptr ? nullptr : level->half;
    const uint16_t* width = level == nullptr ? nullptr : level->width;
    escapes += to_symbols(q + r * q_stride, half, width, tokens, symbols + r * stride);
  }
  return escapes;
}

size_t write_side(const GroupContext& context, LowBits& low_bits, const int16_t* q, const uint16_t* upper, const uint16_t* lower, size_t q_stride,
                  const uint8_t* symbols, size_t stride, size_t token_begin, size_t tokens, uint8_t* out) noexcept {
  const size_t count = layer_rows(context.shape);
  size_t bit = 0;
  for (size_t r = 0; r < count; r++) {
    const LowBits::Level* level = low_bits.level(context.rows[r], row_is_key(context.shape, r));
    if (level != nullptr) pack_low(q + r * q_stride, tokens, *level, out, &bit);
  }
  uint8_t* p = out + (bit + 7) / 8;
  for (size_t r = 0; r < count; r++) {
    const uint8_t* row = symbols + r * stride;
    if (std::memchr(row, kSymbolEscape, tokens) == nullptr) continue;
    for (size_t t = 0; t < tokens; t++) {
      if (row[t] != kSymbolEscape) continue;
      store_u16(p, uint16_t(q[r * q_stride + t]));
      p += 2;
    }
  }
  const size_t exact = exact_in_group(context, token_begin, tokens);
  const bool wide = element_bytes(context.shape.type) == 4;
  for (size_t r = 0; r < count; r++) {
    for (size_t t = 0; t < exact; t++) {
      if (wide) {
        store_u16(p, lower[r * q_stride + t]);
        p += 2;
      }
      store_u16(p, upper[r * q_stride + t]);
      p += 2;
    }
  }
  return size_t(p - out);
}

Status restore_group(const GroupContext& context, const uint8_t* symbols, ConstBytes bytes, size_t token_begin, size_t tokens,
                     GroupScratch* scratch, RowSink* sink, uint32_t sink_layer, size_t sink_token, uint32_t worker) noexcept {
  const KvShape& shape = context.shape;
  const QuantizedKernels kernels = quantized_kernels();
  const size_t count = layer_rows(shape), dims = shape.head_dim;
  Side side;
  if (!split_side(context, scratch->low_bits, bytes, token_begin, tokens, &side)) return Status::kCorrupt;
  token_factors(context.model, shape, context.layer, token_begin, tokens, scratch->factors.data());
  float* const floats = scratch->floats.data();
  // Head by head, which stays in the L1 cache.
  for (size_t r = 0; r < count; r += dims) {
    const size_t at = r * tokens;
    const bool is_key = row_is_key(shape, r);
    int16_t* const q = scratch->q.data() + at;
    kernels.to_integers(symbols + at, dims * tokens, q);
    if (!add_side(context, scratch->low_bits, r, symbols + at, tokens, &side, q)) return Status::kCorrupt;
    kernels.dequantize(q, dims, tokens, context.rows + r, scratch->factors.data() + (is_key ? 0 : 2 * tokens), floats);
    if (is_key) context.rotation.apply_to_head(context.layer, floats, tokens, token_begin, tokens, false);
    kernels.to_elements(floats, dims * tokens, shape.type, scratch->upper.data() + at, scratch->lower.data() + at);
  }
  if (side.escapes.size != 0) return Status::kCorrupt;

  const size_t exact = exact_in_group(context, token_begin, tokens);
  for (size_t r = 0; r < count && exact > 0; r++) {
    for (size_t t = 0; t < exact; t++) {
      if (element_bytes(shape.type) == 4) {
        scratch->lower[r * tokens + t] = load_u16(side.kept.data);
        side.kept = side.kept.from(2);
      }
      scratch->upper[r * tokens + t] = load_u16(side.kept.data);
      side.kept = side.kept.from(2);
    }
  }
  return sink->put(scratch->upper.data(), scratch->lower.data(), sink_layer, sink_token, tokens, worker);
}

void load_floats(const GroupContext& context, const uint16_t* upper, const uint16_t* lower, size_t token_begin, size_t tokens, float* floats) noexcept {
  quantized_kernels().to_floats(upper, lower, layer_rows(context.shape) * tokens, context.shape.type, floats);
  context.rotation.apply(context.shape, context.layer, floats, tokens, token_begin, tokens, true);
}

void quantize_group(const GroupContext& context, const float* floats, size_t token_begin, size_t tokens, float* factors, int16_t* q) noexcept {
  const QuantizedKernels kernels = quantized_kernels();
  const size_t count = layer_rows(context.shape), key_rows = context.shape.planes == 2 ? count / 2 : 0;
  token_factors(context.model, context.shape, context.layer, token_begin, tokens, factors);
  kernels.quantize(floats, key_rows, tokens, context.rows, factors + tokens, q);
  kernels.quantize(floats + key_rows * tokens, count - key_rows, tokens, context.rows + key_rows, factors + 3 * tokens, q + key_rows * tokens);
  const size_t exact = exact_in_group(context, token_begin, tokens);
  for (size_t r = 0; r < count && exact > 0; r++) {
    for (size_t t = 0; t < exact; t++) q[r * tokens + t] = 0;
  }
}

void pack_low_row(const int16_t* q, size_t tokens, const LowBits::Level& level, uint8_t* out, size_t* bit) noexcept {
  for (size_t t = 0; t < tokens; t++) {
    const uint32_t bits = level.width[t];
    const uint32_t low = uint32_t(q[t] + level.half[t]) & (level.factor[t] - 1u);
    for (uint32_t b = 0; b < bits; b++, ++*bit) {
      uint8_t& byte = out[*bit / 8];
      if (*bit % 8 == 0) byte = 0;
      byte = uint8_t(byte | (low >> b & 1) << (*bit % 8));
    }
  }
}

void add_low_row(const uint8_t* in, size_t tokens, const LowBits::Level& level, int16_t* q, size_t* bit) noexcept {
  for (size_t t = 0; t < tokens; t++) {
    const uint32_t bits = level.width[t];
    const uint8_t* p = in + *bit / 8;
    const uint32_t word = uint32_t(p[0]) | uint32_t(p[1]) << 8 | uint32_t(p[2]) << 16;
    const uint32_t low = word >> (*bit % 8) & (level.factor[t] - 1u);
    q[t] = int16_t(uint16_t(uint32_t(uint16_t(q[t])) * level.factor[t] + low - level.half[t]));
    *bit += bits;
  }
}

}  // namespace kvreel
