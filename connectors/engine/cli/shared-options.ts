// Options that several commands take, and what the library makes of them.
import { CODER_NAMES } from '../../../lib/codec/coders/registry.js';
import { QUALITY_NAMES } from '../../../lib/codec/rungs.js';
import { ENCODE_DEFAULTS } from '../../../lib/options.js';
import type { Call, OptionSpec } from './command.js';

const CODECS: readonly string[] = ['auto', ...CODER_NAMES];

/** Of commands that write a file. */
export const OUTPUT_OPTIONS = {
  out: { short: 'o', value: 'FILE', help: 'where to write' },
  force: { help: 'overwrite FILE if it exists' },
} as const satisfies Record<string, OptionSpec>;

/** Of commands that encode. */
export const ENCODE_OPTIONS = {
  quality: { value: 'QUALITY', help: `${QUALITY_NAMES.join(', ')} (default ${ENCODE_DEFAULTS.quality})`, isInEnvironment: true },
  codec: { value: 'CODEC', help: `${CODECS.join(', ')} (default ${ENCODE_DEFAULTS.coder})`, isInEnvironment: true },
  'group-tokens': { value: 'N', help: `tokens that can be read alone (default ${ENCODE_DEFAULTS.groupTokens})`, isInEnvironment: true },
} as const satisfies Record<string, OptionSpec>;

/** Of commands that encode or decode. */
export const THREADS_OPTION = {
  threads: { value: 'N', help: 'threads to work with (default: all)', isInEnvironment: true },
} as const satisfies Record<string, OptionSpec>;

/** Of commands that use a store. */
export const STORE_OPTIONS = {
  store: { value: 'URL', help: 'the store: fs:///path, redis://host, rediss://host, redis+unix:///socket, s3://bucket/prefix?endpoint=URL', isInEnvironment: true },
  deadline: { value: 'MS', help: 'give up after this many milliseconds, with exit code 4 (default: only the limits of single calls)', isInEnvironment: true },
  tenant: { value: 'NAME', help: "only this tenant's part of the store", isInEnvironment: true },
  'encryption-keys': { value: 'FILE', help: 'the store is encrypted with these keys: lines id=key, the first key seals', isInEnvironment: true },
} as const satisfies Record<string, OptionSpec>;

/** Where and how the command writes its file. */
export function outputOf(call: Call): { path: string; force: boolean; signal: AbortSignal } {
  return { path: call.requiredText('out'), force: call.isSet('force'), signal: call.signal };
}

/** What the call says about encoding. */
export function encodingOf(call: Call): { quality: string; coder: string; groupTokens: number; threads: number } {
  return {
    quality: call.choice('quality', QUALITY_NAMES) ?? ENCODE_DEFAULTS.quality,
    coder: call.choice('codec', CODECS) ?? ENCODE_DEFAULTS.coder,
    groupTokens: call.integer('group-tokens', 1) ?? ENCODE_DEFAULTS.groupTokens,
    threads: threadsOf(call),
  };
}

/** How many threads the call may use; 0 = all. */
export function threadsOf(call: Call): number {
  return call.integer('threads', 0) ?? ENCODE_DEFAULTS.threads;
}
