import { KvError } from '../../../lib/errors.js';
import { checkLimit } from '../../../lib/store/time-limit.js';
import { checkFields } from '../arguments.js';
import type { RedisOptions, RedisTlsOptions } from './options.js';
import { optionsOfUrl } from './url.js';

/** Where a server listens. */
export type Address = { readonly host: string; readonly port: number } | { readonly socketPath: string };

/** What a new connection needs to know. */
export interface Access {
  readonly tls: RedisTlsOptions | undefined;
  readonly database: number;
  /** Asked for each connection. Undefined where the server wants no password. */
  credentials(): Promise<Credentials | undefined>;
}

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

/** Checked options. */
export interface Settings {
  readonly address: Address;
  readonly access: Access;
  readonly cluster: boolean;
  readonly prefix: string;
  readonly timeoutMs: number;
  readonly connections: number;
  readonly maxValueBytes: number;
}

const FIELDS = ['url', 'host', 'port', 'socketPath', 'tls', 'username', 'password', 'database', 'cluster', 'prefix', 'timeoutMs', 'connections', 'maxValueBytes'];

/** Checks the options. Throws a TypeError or RangeError. */
export function settingsOf(given: RedisOptions): Settings {
  checkFields(given, FIELDS);
  const options: RedisOptions = { ...(given.url === undefined ? {} : optionsOfUrl(given.url)), ...given };
  const { host = '127.0.0.1', port = 6379, socketPath, tls = false, username = 'default', password, database = 0 } = options;
  const { cluster = false, prefix = '', timeoutMs = 10_000, connections = 4, maxValueBytes = 512 * 1024 * 1024 } = options;
  checkText('host', host);
  checkWhole('port', port, 1, 65_535);
  if (socketPath !== undefined) checkText('socketPath', socketPath);
  checkText('username', username);
  if (password !== undefined && typeof password !== 'string' && typeof password !== 'function') {
    throw new TypeError(`expected \`password\` to be a string or a function, got ${typeof password}`);
  }
  checkWhole('database', database, 0, 2 ** 31 - 1);
  checkWhole('connections', connections, 1, 64);
  checkWhole('maxValueBytes', maxValueBytes, 1, Number.MAX_SAFE_INTEGER);
  checkLimit('timeoutMs', timeoutMs);
  if (typeof prefix !== 'string' || !/^[\x20-\x7e]{0,512}$/.test(prefix)) throw new TypeError('expected `prefix` to be printable ASCII of at most 512 bytes');
  if (typeof cluster !== 'boolean') throw new TypeError(`expected \`cluster\` to be true or false, got ${typeof cluster}`);
  if (cluster && database !== 0) throw new RangeError('expected no `database`: a cluster has number 0 alone');
  if (cluster && socketPath !== undefined) throw new TypeError('expected no `socketPath`: the members of a cluster are reached over TCP');
  return {
    address: socketPath === undefined ? { host, port } : { socketPath },
    access: { tls: tlsOf(tls), database, credentials: () => credentialsOf(username, password) },
    cluster,
    prefix,
    timeoutMs,
    connections,
    maxValueBytes,
  };
}

async function credentialsOf(username: string, password: RedisOptions['password']): Promise<Credentials | undefined> {
  if (password === undefined) return undefined;
  if (typeof password === 'string') return { username, password };
  try {
    return { username, password: String(await password()) };
  } catch {
    // What it threw is not passed on: nobody knows what stands in it.
    throw new KvError('KV_PERMISSION', 'redis got no password: the function given as `password` failed');
  }
}

function tlsOf(tls: boolean | RedisTlsOptions): RedisTlsOptions | undefined {
  if (typeof tls === 'boolean') return tls ? {} : undefined;
  checkFields(tls, ['ca', 'servername']);
  if (tls.ca !== undefined) checkText('tls.ca', tls.ca);
  if (tls.servername !== undefined) checkText('tls.servername', tls.servername);
  return tls;
}

function checkText(name: string, value: unknown): void {
  if (typeof value !== 'string' || value === '' || value.includes('\0')) throw new TypeError(`expected \`${name}\` to be a text that is not empty`);
}

function checkWhole(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new RangeError(`expected \`${name}\` to be a whole number from ${least} to ${most}, got ${value}`);
}
