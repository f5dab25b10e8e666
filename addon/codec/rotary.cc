#include "rotary.h"

namespace kvreel {
namespace {

double power(double base, uint32_t exponent) noexcept {
  double result = 1;
  for (; exponent != 0; exponent >>= 1, base *= base) {
    if (exponent & 1) result *= base;
  }
  return result;
}

// The n-th root of theta, by bisection: pow() differs between machines in its last bit.
double root(double theta, uint32_t n) noexcept {
  double low = 1;
  double high = theta;
  for (;;) {
    const double middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) return low;
    (power(middle, n) <= theta ? low : high) = middle;
  }
}

// Angle in [0, kMaxPosition]. Pi / 2 in three parts: quarters times either of the first two, 29 bits each, is exact.
void sine_cosine(double angle, double* sine, double* cosine) noexcept {
  const uint32_t quarters = static_cast<uint32_t>(angle * 0x1.45f306dc9c883p-1 + 0.5);
  const double x = ((angle - quarters * 0x1.921fb54p+0) - quarters * 0x1.10b4611p-30) - quarters * 0x1.4c4c6628b80dcp-59;
  // Taylor series; |x| <= pi / 4 leaves the first term that is left out below 5e-17.
  const double z = x * x;
  double s = 0;
  double c = 0;
  for (int n = 16; n > 0; n -= 2) {
    s = (1 - s) * z * (1.0 / (n * (n + 1)));
    c = (1 - c) * z * (1.0 / ((n - 1) * n));
  }
  s = x * (1 - s);
  c = 1 - c;
  *sine = quarters & 1 ? c : s;
  *cosine = quarters & 1 ? s : c;
  if (quarters & 2) *sine = -*sine;
  if ((quarters + 1) & 2) *cosine = -*cosine;
}

bool is_valid(uint32_t rotary_dims, uint32_t tokens) noexcept {
  return rotary_dims != 0 && rotary_dims % 2 == 0 && rotary_dims <= kMaxTokenElements && tokens != 0 && tokens <= kMaxTokens;
}

// `sign` is 1 or -1, so the product with it is exact.
void rotate_half(float* __restrict low, float* __restrict high, const float* __restrict cosines, const float* __restrict sines,
                 uint32_t pairs, float sign) noexcept {
  for (uint32_t i = 0; i < pairs; ++i) {
    const float cosine = cosines[i];
    const float sine = sign * sines[i];
    const float a = low[i];
    const float b = high[i];
    low[i] = a * cosine - b * sine;
    high[i] = b * cosine + a * sine;
  }
}

void rotate_interleaved(float* __restrict head, const float* __restrict cosines, const float* __restrict sines, uint32_t pairs,
                        float sign) noexcept {
  for (uint32_t i = 0; i < pairs; ++i) {
    const float cosine = cosines[i];
    const float sine = sign * sines[i];
    const float a = head[2 * i];
    const float b = head[2 * i + 1];
    head[2 * i] = a * cosine - b * sine;
    head[2 * i + 1] = b * cosine + a * sine;
  }
}

}  // namespace

size_t rotary_table_floats(uint32_t rotary_dims, uint32_t tokens) noexcept {
  size_t bytes = 0;
  if (!is_valid(rotary_dims, tokens) || !checked_bytes({rotary_dims, tokens, sizeof(float)}, &bytes)) return 0;
  return bytes / sizeof(float);
}

Status build_rotary_table(const RotaryParameters& parameters, uint32_t start, uint32_t tokens, Span<float> memory,
                          RotaryTable* table) noexcept {
  const size_t floats = rotary_table_floats(parameters.rotary_dims, tokens);
  if (floats == 0 || start > kMaxPosition - tokens) return Status::kInvalidArgument;
  if (!(parameters.theta >= 1 && parameters.theta <= 1e30)) return Status::kInvalidArgument;  // a NaN, too
  if (parameters.style != RotaryStyle::kHalf && parameters.style != RotaryStyle::kInterleaved) return Status::kInvalidArgument;
  if (memory.size < floats) return Status::kBufferTooSmall;

  const uint32_t pairs = parameters.rotary_dims / 2;
  float* cosines = memory.data;
  float* sines = memory.data + floats / 2;
  const double base = root(parameters.theta, pairs);
  for (uint32_t pair = 0; pair < pairs; ++pair) {
    const double frequency = 1 / power(base, pair);
    for (size_t token = 0; token < tokens; ++token) {
      double sine;
      double cosine;
      sine_cosine(static_cast<double>(start + token) * frequency, &sine, &cosine);
      cosines[token * pairs + pair] = static_cast<float>(cosine);
      sines[token * pairs + pair] = static_cast<float>(sine);
    }
  }
  *table = {cosines, sines, tokens, parameters.rotary_dims, parameters.style};
  return Status::kOk;
}

void rotate_rows(float* rows, size_t row_stride_floats, uint32_t tokens, uint32_t heads, uint32_t head_dim, const RotaryTable& table,
                 bool undo) noexcept {
  const uint32_t pairs = table.rotary_dims / 2;
  const float sign = undo ? -1.0f : 1.0f;
  for (size_t token = 0; token < tokens; ++token) {
    const float* cosines = table.cosines + token * pairs;
    const float* sines = table.sines + token * pairs;
    for (size_t head = 0; head < heads; ++head) {
      float* dims = rows + token * row_stride_floats + head * head_dim;
      if (table.style == RotaryStyle::kHalf) {
        rotate_half(dims, dims + pairs, cosines, sines, pairs, sign);
      } else {
        rotate_interleaved(dims, cosines, sines, pairs, sign);
      }
    }
  }
}

Status rotate_plane(Span<float> plane, uint32_t heads, uint32_t tokens, uint32_t head_dim, const RotaryTable& table, bool undo) noexcept {
  size_t bytes = 0;
  if (tokens > table.tokens || table.rotary_dims > head_dim) return Status::kInvalidArgument;
  if (!checked_bytes({heads, tokens, head_dim, sizeof(float)}, &bytes)) return Status::kInvalidArgument;
  if (plane.size < bytes / sizeof(float)) return Status::kBufferTooSmall;
  const size_t head_floats = size_t{tokens} * head_dim;
  for (size_t head = 0; head < heads; ++head) rotate_rows(plane.data + head * head_floats, head_dim, tokens, 1, head_dim, table, undo);
  return Status::kOk;
}

}  // namespace kvreel
