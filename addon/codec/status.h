// What every codec stage returns. A stage never throws and never aborts: bad input ends in one of these.
#pragma once

namespace kvreel {

enum class Status : int {
  kOk = 0,
  kInvalidArgument,  // the caller's parameters contradict each other
  kBufferTooSmall,   // the output span is smaller than the matching ..._bound()
  kCorrupt,          // the input bytes cannot have come from our writer
  kUnsupported,      // well formed, but a feature this reader does not have
  kOutOfMemory,
  kCancelled,
};

}  // namespace kvreel
