// The row loops of quantised planes, compiled for AVX2.
#include "float16.h"
#include "quantized.h"

namespace kvreel {

#define KVREEL_VARIANT(name) name##_avx2
#include "quantized_loops.inl"
#undef KVREEL_VARIANT

}  // namespace kvreel
