// Defaults and checks of the lm:// server's options. After the check, code inside trusts its input.
import { QUALITY_NAMES } from '../../../lib/codec/rungs.js';
import { refuseUnknown } from '../../../lib/options.js';
import type { StorageConnector } from '../../../lib/store/connector.js';
import type { LmGeometry } from './chunks.js';
import type { LmEvents } from './events.js';

/** Options of the lm:// server. */
export interface LmServerOptions {
  /** Where chunks are kept. Not closed with the server. */
  readonly connector: StorageConnector;
  /** Address to listen on. Default 127.0.0.1, this machine alone; anything else lets others read and write without a password. */
  readonly host?: string;
  /** Default 65432, as LMCache's documents have it; 0 for any that is free. */
  readonly port?: number;
  /** Heads of the model, which LMCache does not say. Default: a row is taken for one head, which costs some size. */
  readonly geometry?: LmGeometry;
  /** Quality of tensors whose layout is understood. Default `exact`. */
  readonly quality?: string;
  /** Milliseconds that a get or exist may take; then it is a miss. Default 5000; LMCache itself gives up after 10 s. */
  readonly deadlineMs?: number;
  /** Largest tensor that is stored, in bytes. Default 256 MiB. */
  readonly maxBytes?: number;
  /** Clients at once, one for each process of an engine. Default 64. */
  readonly maxClients?: number;
  /** Told what happens. Default: nobody. */
  readonly events?: Partial<LmEvents>;
}

export const LM_DEFAULTS = { host: '127.0.0.1', port: 65432, quality: 'exact', deadlineMs: 5000, maxBytes: 256 * 2 ** 20, maxClients: 64 } as const;

const FIELDS = new Set(['connector', 'host', 'port', 'geometry', 'quality', 'deadlineMs', 'maxBytes', 'maxClients', 'events']);
const GEOMETRY_FIELDS = new Set(['kvHeads', 'headDim', 'order']);
const MOST_CHANNELS = 65536;

/** Throws a TypeError or RangeError for the first option that cannot be. */
export function checkLmOptions(options: LmServerOptions): void {
  refuseUnknown(options, FIELDS);
  const { connector, host, quality, geometry } = options;
  if (typeof connector?.get !== 'function') throw new TypeError('expected `connector` to be a storage connector');
  if (host !== undefined && (typeof host !== 'string' || host === '')) throw new TypeError('expected `host` to be the name of an address to listen on');
  if (quality !== undefined && !QUALITY_NAMES.includes(quality)) throw new TypeError(`expected \`quality\` to be one of ${QUALITY_NAMES.join(', ')}, got ${quality}`);
  checkInteger('port', options.port, 0, 65535);
  checkInteger('deadlineMs', options.deadlineMs, 1, 2 ** 31 - 1);
  // LMCache counts bytes in 31 bits.
  checkInteger('maxBytes', options.maxBytes, 1, 2 ** 31 - 1);
  checkInteger('maxClients', options.maxClients, 1, 65535);
  if (geometry === undefined) return;
  refuseUnknown(geometry, GEOMETRY_FIELDS);
  const { kvHeads, headDim, order } = geometry;
  checkInteger('geometry.kvHeads', kvHeads, 1, MOST_CHANNELS);
  checkInteger('geometry.headDim', headDim, 1, MOST_CHANNELS);
  if (kvHeads * headDim > MOST_CHANNELS) throw new RangeError(`expected kvHeads * headDim to be at most ${MOST_CHANNELS}, got ${kvHeads * headDim}`);
  if (order !== undefined && order !== 'fused') throw new TypeError(`expected \`geometry.order\` to be fused, got ${String(order)}`);
}

function checkInteger(name: string, value: number | undefined, least: number, most: number): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= least && value <= most)) return;
  throw new RangeError(`expected \`${name}\` to be an integer from ${least} to ${most}, got ${value}`);
}
