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
      cosines[size_t{pair} * tokens + token] = static_cast<float>(cosine);
      sines[size_t{pair} * tokens + token] = static_cast<float>(sine);
    }
  }
  *table = {cosines, sines, tokens, parameters.rotary_dims, parameters.style};
  return Status::kOk;
}

}  // namespace kvreel
