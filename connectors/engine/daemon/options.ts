import { QUALITY_NAMES } from '../../../lib/codec/rungs.js';
import { refuseUnknown } from '../../../lib/options.js';
import type { StorageConnector } from '../../../lib/store/connector.js';
import type { KvStoreOptions } from '../../../lib/store/store-options.js';
import type { DaemonCore } from './core.js';
import type { DaemonEvents } from './events.js';
import type { Route } from './routes.js';

/** Options of `startDaemon`. It listens on a socket, on TCP, or on both. */
export interface DaemonOptions {
  /** Where objects are kept. Closed with the daemon. */
  readonly connector: StorageConnector;
  /** Path of the Unix socket. Default: none. */
  readonly socket?: string;
  /** TCP, where every call but `GET /health` has to bring the token. Port 0: any that is free. Default: none. */
  readonly tcp?: { readonly host: string; readonly port: number; readonly token: string };
  /** Quality of spaces that say none. Default `exact`. */
  readonly quality?: string;
  /** How objects are made. Default: as `KvStore`. */
  readonly coding?: Pick<KvStoreOptions, 'coder' | 'groupTokens' | 'threads'>;
  /** Time of a call that brings no `deadline_ms`, in milliseconds. Default 30,000. */
  readonly deadlineMs?: number;
  /** Time that running calls have when the daemon stops, in milliseconds. Default 10,000. */
  readonly graceMs?: number;
  /** Told of the daemon's work. */
  readonly observers?: readonly Partial<DaemonEvents>[];
  /** More routes, which may work with the core: metrics, a page. */
  readonly routes?: readonly Route[] | ((core: DaemonCore) => readonly Route[]);
}

export const DAEMON_DEFAULTS = { quality: 'exact', deadlineMs: 30_000, graceMs: 10_000 } as const;

const FIELDS = new Set(['connector', 'socket', 'tcp', 'quality', 'coding', 'deadlineMs', 'graceMs', 'observers', 'routes']);
const MIN_TOKEN_CHARACTERS = 16;

/** Throws a TypeError or RangeError for the first option that cannot be. */
export function checkDaemonOptions(options: DaemonOptions): void {
  refuseUnknown(options, FIELDS);
  const { connector, socket, tcp, quality } = options;
  if (typeof connector?.get !== 'function') throw new TypeError('expected `connector` to be a storage connector');
  if (socket === undefined && tcp === undefined) throw new TypeError('expected `socket` or `tcp`: a place to listen');
  if (socket === '') throw new TypeError('expected `socket` to be a path, got an empty one');
  if (quality !== undefined && !QUALITY_NAMES.includes(quality)) throw new TypeError(`expected \`quality\` to be one of ${QUALITY_NAMES.join(', ')}, got ${quality}`);
  checkMs('deadlineMs', options.deadlineMs);
  checkMs('graceMs', options.graceMs);
  if (tcp === undefined) return;
  if (!Number.isInteger(tcp.port) || tcp.port < 0 || tcp.port > 65535) throw new RangeError(`expected \`tcp.port\` to be from 0 to 65535, got ${tcp.port}`);
  // A token is ASCII without spaces: anything else could not stand in a header.
  if (!/^[\x21-\x7e]*$/.test(tcp.token) || tcp.token.length < MIN_TOKEN_CHARACTERS) {
    throw new RangeError(`expected \`tcp.token\` to be at least ${MIN_TOKEN_CHARACTERS} characters without spaces, as \`openssl rand -hex 32\` gives them`);
  }
}

function checkMs(name: string, ms: number | undefined): void {
  if (ms !== undefined && !(ms > 0 && ms < 2 ** 31)) throw new RangeError(`expected \`${name}\` to be above 0 and below 2^31, got ${ms}`);
}
