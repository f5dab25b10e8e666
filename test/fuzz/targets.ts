import type { FuzzTarget } from './target.js';
import { daemonWire } from './targets/daemon.js';
import { encryptedValue } from './targets/encrypted.js';
import { entryFile } from './targets/entry-file.js';
import { lm } from './targets/lm.js';
import { llamaSession } from './targets/llama-session.js';
import { llamaState } from './targets/llama-state.js';
import { lmcache } from './targets/lmcache.js';
import { manifest } from './targets/manifest.js';
import { object } from './targets/object.js';
import { resp } from './targets/resp.js';
import { s3 } from './targets/s3.js';
import { s3Wire } from './targets/s3-wire.js';
import { safetensors } from './targets/safetensors.js';

/** Every parser in TypeScript that meets foreign bytes, and the reader of entry files in C++. The decoders there have fuzzers of their own in test/addon. */
export const TARGETS: readonly FuzzTarget[] = [object, manifest, daemonWire, resp, s3, s3Wire, lmcache, lm, llamaState, llamaSession, encryptedValue, entryFile, safetensors];
