import { QUALITY_NAMES } from '../../../lib/codec/rungs.js';
import { refuseUnknown } from '../../../lib/options.js';
import type { StorageConnector } from '../../../lib/store/connector.js';
import type { KvStoreOptions } from '../../../lib/store/store-options.js';
import type { DaemonCore } from './core.js';
import type { DaemonEvents } from './events.js';
import type { HotTierOptions } from './hot-tier.js';
import type { Route } from './routes.js';

/** Options of `startDaemon`. It listens on a socket, on TCP, or on both. */
export interface DaemonOptions {
  /** Where objects are kept. Closed with the daemon. */
  readonly connector: StorageConnector;
  /** What the connector is bounded to, to be told to clients. Default: it is not. */
  readonly maxBytes?: number;
  /** Path of the Unix socket. Default: none. */
  readonly socket?: string;
  /** TCP, where every call but `GET /health` has to bring the token. Port 0: any that is free. Default: none. */
  readonly tcp?: { readonly host: string; readonly port: number; readonly token: string };
  /** Quality of spaces that say none. Default `exact`. */
  readonly quality?: string;
  /** Memory for objects, as they are stored, in front of the store: the most used ones. Default: none. */
  readonly memory?: HotTierOptions;
  /** How objects are made. Default: as `KvStore`. */
  readonly coding?: Pick<KvStoreOptions, 'coder' | 'groupTokens' | 'threads'>;
  /** Time of a call that brings no `deadline_ms`, in milliseconds. Default 30,000. */
  readonly deadlineMs?: number;
  /** Time that running calls have when the daemon stops, in milliseconds. Default 10,000. */
  readonly graceMs?: number;
  /** How long a segment lives that no call names, in milliseconds. Default 60,000. */
  readonly leaseMs?: number;
  /** Most bytes of shared memory that the daemon makes for its clients. Default 4 GiB. */
  readonly segmentBytes?: number;
  /** Told of the daemon's work. */
  readonly observers?: readonly Partial<DaemonEvents>[];
  /** More routes, which may work with the core: metrics, a page. */
  readonly routes?: readonly Route[] | ((core: DaemonCore) => readonly Route[]);
  /** What to do around each request, for traces: gives the route to serve instead. Default: nothing. */
  readonly around?: (route: Route) => Route;
}

export const DAEMON_DEFAULTS = { quality: 'exact', deadlineMs: 30_000, graceMs: 10_000, leaseMs: 60_000, segmentBytes: 4 * 2 ** 30 } as const;

const FIELDS = new Set(['connector', 'maxBytes', 'socket', 'tcp', 'quality', 'memory', 'coding', 'deadlineMs', 'graceMs', 'leaseMs', 'segmentBytes', 'observers', 'routes', 'around']);

/** What can be a token: what can stand in a header, and is not guessed. */
export const TOKEN = /^[\x21-\x7e]{16,4096}$/;
/** How a token is to be, for help and errors. */
export const TOKEN_FORM = 'at least 16 characters of ASCII without spaces, as `openssl rand -hex 32` gives them';

/** Throws a TypeError or RangeError for the first option that cannot be. */
export function checkDaemonOptions(options: DaemonOptions): void {
  refuseUnknown(options, FIELDS);
  const { connector, socket, tcp, quality, memory, segmentBytes } = options;
  if (typeof connector?.get !== 'function') throw new TypeError('expected `connector` to be a storage connector');
  if (socket === undefined && tcp === undefined) throw new TypeError('expected `socket` or `tcp`: a place to listen');
  if (socket === '') throw new TypeError('expected `socket` to be a path, got an empty one');
  if (quality !== undefined && !QUALITY_NAMES.includes(quality)) throw new TypeError(`expected \`quality\` to be one of ${QUALITY_NAMES.join(', ')}, got ${quality}`);
  if (memory !== undefined && !(memory.maxBytes > 0)) throw new RangeError(`expected \`memory.maxBytes\` to be above 0, got ${memory.maxBytes}`);
  checkMs('deadlineMs', options.deadlineMs);
  checkMs('graceMs', options.graceMs);
  checkMs('leaseMs', options.leaseMs);
  if (segmentBytes !== undefined && !(segmentBytes >= 0)) throw new RangeError(`expected \`segmentBytes\` to be from 0, got ${segmentBytes}`);
  if (tcp === undefined) return;
  if (!Number.isInteger(tcp.port) || tcp.port < 0 || tcp.port > 65535) throw new RangeError(`expected \`tcp.port\` to be from 0 to 65535, got ${tcp.port}`);
  if (!TOKEN.test(tcp.token)) throw new RangeError(`expected \`tcp.token\` to be ${TOKEN_FORM}`);
}

function checkMs(name: string, ms: number | undefined): void {
  if (ms !== undefined && !(ms > 0 && ms < 2 ** 31)) throw new RangeError(`expected \`${name}\` to be above 0 and below 2^31, got ${ms}`);
}
