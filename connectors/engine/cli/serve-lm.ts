import { QUALITY_NAMES } from '../../../lib/codec/rungs.js';
import { LM_DEFAULTS, type LmServerOptions } from '../lm/options.js';
import { UsageError, type Call, type OptionSpec } from './command.js';
import { SIZE_FORM } from './quantity.js';

/** Options of `kvreel serve` about lm://. */
export const LM_OPTIONS = {
  'lm-port': { value: 'N', help: 'serve LMCache over lm:// too, on this port (0 takes a free one). It knows no password: whoever reaches the port reads and writes every chunk' },
  'lm-host': { value: 'NAME', help: `address for --lm-port (default ${LM_DEFAULTS.host}: this machine alone)` },
  'lm-kv-heads': { value: 'N', help: 'heads of K on one worker, which LMCache does not tell; with --lm-head-dim' },
  'lm-head-dim': { value: 'N', help: 'dims of a head' },
  'lm-order': { value: 'ORDER', help: 'fused, where chunks are [1, layers, tokens, 2 * heads * dims] (vLLM 0.32 on GPUs)' },
  'lm-quality': { value: 'QUALITY', help: `of chunks over lm://: ${QUALITY_NAMES.join(', ')} (default ${LM_DEFAULTS.quality})` },
  'lm-deadline-ms': { value: 'MS', help: `time for a get over lm://; then it is a miss (default ${LM_DEFAULTS.deadlineMs})` },
  'lm-max-chunk': { value: 'SIZE', help: `largest chunk that is stored: ${SIZE_FORM} (default 256MiB)` },
} as const satisfies Record<string, OptionSpec>;

/** Whether an address is reached from this machine alone. */
export function isThisMachine(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\./.test(host);
}

type LmSettings = Omit<LmServerOptions, 'connector' | 'events'> & { readonly host: string };

/** How lm:// is to be served; undefined where it is not. Throws a UsageError. */
export function lmOptions(call: Call): LmSettings | undefined {
  const [port, host, quality, deadlineMs, maxBytes] = [call.integer('lm-port', 0), call.text('lm-host'), call.choice('lm-quality', QUALITY_NAMES), call.integer('lm-deadline-ms', 1), call.size('lm-max-chunk')];
  const [kvHeads, headDim, order] = [call.integer('lm-kv-heads', 1), call.integer('lm-head-dim', 1), call.choice('lm-order', ['fused']) as 'fused' | undefined];
  if (port === undefined) {
    const given = Object.keys(LM_OPTIONS).find((option) => call.text(option) !== undefined);
    if (given !== undefined) throw new UsageError(`expected --lm-port N with --${given}: without it lm:// is not served`);
    return undefined;
  }
  if (port > 65535) throw new UsageError(`expected --lm-port to be at most 65535, got ${port}`);
  if ((kvHeads === undefined) !== (headDim === undefined)) throw new UsageError('expected --lm-kv-heads and --lm-head-dim together: they make the rows of a chunk');
  if (order !== undefined && kvHeads === undefined) throw new UsageError('expected --lm-kv-heads and --lm-head-dim with --lm-order');
  return {
    port,
    host: host ?? LM_DEFAULTS.host,
    ...(kvHeads !== undefined && headDim !== undefined && { geometry: { kvHeads, headDim, ...(order !== undefined && { order }) } }),
    ...(quality !== undefined && { quality }),
    ...(deadlineMs !== undefined && { deadlineMs }),
    ...(maxBytes !== undefined && { maxBytes }),
  };
}
