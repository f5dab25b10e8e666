// The one map from the codec's Status to what JavaScript sees.
#pragma once

#include <napi.h>

#include "../codec/status.h"

namespace kvreel {

// An Error whose `code` is one of those in lib/errors.ts. kOk has none and must not be passed.
Napi::Error error_of(Napi::Env env, Status status);

}  // namespace kvreel
