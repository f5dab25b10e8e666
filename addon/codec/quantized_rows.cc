// The row loops of quantised planes: the portable variant.
#include "float16.h"
#include "quantized.h"

namespace kvreel {

#define KVREEL_VARIANT(name) name
#include "quantized_loops.inl"
#undef KVREEL_VARIANT

}  // namespace kvreel
