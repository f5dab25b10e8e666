import { CODER_NAMES } from '../../../lib/codec/coders/registry.js';
import { QUALITY_NAMES } from '../../../lib/codec/rungs.js';
import type { StorageConnector } from '../../../lib/store/connector.js';
import { bounded } from '../../storage/bounded.js';
import { LOG_LEVELS, makeLogger, type Logger, type LogLevel } from '../daemon/logging.js';
import { makeOperations, type Operations } from '../daemon/operations.js';
import { DAEMON_DEFAULTS, TOKEN, TOKEN_FORM } from '../daemon/options.js';
import { startDaemon, type Daemon, type DaemonOptions } from '../daemon.js';
import { startLmServer } from '../lm/server.js';
import { redactedUrl } from '../store-url.js';
import { UsageError, type Call, type Command } from './command.js';
import { readWholeFile } from './input-file.js';
import { openStore } from './open-store.js';
import { DURATION_FORM, SIZE_FORM } from './quantity.js';
import { withAllSettings } from './serve-config.js';
import { isThisMachine, LM_OPTIONS, lmOptions } from './serve-lm.js';
import { STORE_OPTIONS } from './shared-options.js';
import { version } from './version.js';

const DEFAULT_PORT = 9460;

const { store, tenant, 'encryption-keys': encryptionKeys } = STORE_OPTIONS;

export const serveCommand: Command = {
  name: 'serve',
  operands: [],
  summary: 'Serves a store to engines on this machine: the daemon. Each option can also be KVREEL_ and its name in capitals, or a field of --config.',
  options: {
    config: { value: 'FILE', help: 'a JSON object of these options, dashes as underscores' },
    store: own(store),
    tenant: own(tenant),
    'encryption-keys': own(encryptionKeys),
    socket: { value: 'PATH', help: 'the Unix socket to listen on; only this user may connect' },
    host: { value: 'NAME', help: 'listen on TCP too; needs a token' },
    port: { value: 'N', help: `port for --host (default ${DEFAULT_PORT}; 0 takes a free one)` },
    'token-file': { value: 'FILE', help: 'holds the token that calls over TCP have to bring (or the token itself in KVREEL_TOKEN)' },
    quality: { value: 'QUALITY', help: `of spaces that name none: ${QUALITY_NAMES.join(', ')} (default ${DAEMON_DEFAULTS.quality})` },
    codec: { value: 'CODEC', help: `auto, ${CODER_NAMES.join(', ')} (default auto)` },
    threads: { value: 'N', help: 'threads that may work on one chunk (default: all)' },
    'memory-bytes': { value: 'SIZE', help: `keep so much of what is used in memory, as it is stored: ${SIZE_FORM} (default: nothing)` },
    'max-bytes': { value: 'SIZE', help: 'delete what was not used longest, so that the store holds at most this much (default: no bound)' },
    ttl: { value: 'TIME', help: `delete chunks after this time: ${DURATION_FORM} (default: never)` },
    'deadline-ms': { value: 'MS', help: `time of a call that brings none (default ${DAEMON_DEFAULTS.deadlineMs})` },
    'grace-ms': { value: 'MS', help: `time that running calls have when the daemon stops (default ${DAEMON_DEFAULTS.graceMs})` },
    'lease-ms': { value: 'MS', help: `how long shared memory of a client lives that it does not name (default ${DAEMON_DEFAULTS.leaseMs})` },
    'segment-bytes': { value: 'SIZE', help: `most shared memory that the daemon makes for clients (default ${DAEMON_DEFAULTS.segmentBytes})` },
    'log-level': { value: 'LEVEL', help: `what the log on stderr tells: ${LOG_LEVELS.join(', ')} (default info)` },
    ...LM_OPTIONS,
  },
  async run(given) {
    const call = await withAllSettings(serveCommand, given);
    const options = await daemonOptions(call);
    const lm = lmOptions(call);
    const url = call.requiredText('store');
    const logger = loggerOf(url, options, call);
    const operations = makeOperations({ logger, version: version(), storeName: redactedUrl(url).replaceAll('"', '') });
    const connector = await storeOf(url, operations, call);
    const { observers, routes, around, lmEvents } = operations;
    const daemon = await startDaemon({ ...options, connector, observers, routes, around });
    const lmServer = lm && (await startLmServer({ ...lm, connector: daemon.core.connector, events: lmEvents }).catch(async (error: unknown) => stopping(daemon, error)));
    const places = [options.socket, options.tcp && `http://${options.tcp.host}:${daemon.port}`, lmServer && `lm://${lm?.host}:${lmServer.port}`].filter((place) => place !== undefined);
    const served = { store: redactedUrl(url), socket: options.socket, port: daemon.port, ...(lmServer && { lm_port: lmServer.port }) };
    logger.info(served, 'serving');
    if (lm && !isThisMachine(lm.host)) logger.warn(`lm:// knows no password and listens on ${lm.host}: whoever reaches port ${lmServer?.port} reads and writes every chunk`);
    call.screen.result(served, `serving ${redactedUrl(url)} on ${places.join(' and ')}`);
    await aborted(call.signal);
    logger.info('stopping');
    await lmServer?.close();
    await daemon.stop();
    logger.info('stopped');
  },
};

function own({ value, help }: { readonly value: string; readonly help: string }): { readonly value: string; readonly help: string } {
  return { value, help };
}

async function daemonOptions(call: Call): Promise<Omit<DaemonOptions, 'connector'>> {
  const [socket, host, port] = [call.text('socket'), call.text('host'), call.integer('port', 0)];
  const [coder, threads] = [call.choice('codec', ['auto', ...CODER_NAMES]), call.integer('threads', 0)];
  const [quality, deadlineMs] = [call.choice('quality', QUALITY_NAMES), call.integer('deadline-ms', 1)];
  const [graceMs, leaseMs] = [call.integer('grace-ms', 1), call.integer('lease-ms', 1)];
  if (socket === undefined && host === undefined) throw new UsageError('expected --socket PATH, or --host NAME for TCP: a place to listen');
  if (host === undefined && port !== undefined) throw new UsageError('expected --host NAME with --port, as in --host 127.0.0.1');
  if (port !== undefined && port > 65535) throw new UsageError(`expected --port to be at most 65535, got ${port}`);
  const tcp = host === undefined ? undefined : { host, port: port ?? DEFAULT_PORT, token: await tokenOf(call) };
  const [memoryBytes, maxBytes, ttlMs] = [call.size('memory-bytes'), call.size('max-bytes'), call.duration('ttl')];
  const segmentBytes = call.size('segment-bytes');
  return {
    ...(memoryBytes !== undefined && memoryBytes > 0 && { memory: { maxBytes: memoryBytes, ...(ttlMs !== undefined && { maxAgeMs: ttlMs }) } }),
    ...(maxBytes !== undefined && { maxBytes }),
    coding: { ...(coder !== undefined && { coder }), ...(threads !== undefined && { threads }) },
    ...(socket !== undefined && { socket }),
    ...(tcp && { tcp }),
    ...(quality !== undefined && { quality }),
    ...(deadlineMs !== undefined && { deadlineMs }),
    ...(graceMs !== undefined && { graceMs }),
    ...(leaseMs !== undefined && { leaseMs }),
    ...(segmentBytes !== undefined && { segmentBytes }),
  };
}

/** Ends the daemon because of `error`, and throws it. */
async function stopping(daemon: Daemon, error: unknown): Promise<never> {
  await daemon.stop();
  throw error;
}

function loggerOf(url: string, { tcp }: Pick<DaemonOptions, 'tcp'>, call: Call): Logger {
  const level = call.choice('log-level', LOG_LEVELS) as LogLevel | undefined;
  const secrets = [tcp?.token, call.variable('KV_REDIS_PASSWORD'), call.variable('AWS_SECRET_ACCESS_KEY'), call.variable('AWS_SESSION_TOKEN'), ...passwordOf(url)];
  return makeLogger({ ...(level !== undefined && { level }), secrets: secrets.filter((secret) => secret !== undefined) });
}

// As it stands in the URL, and as it is.
function passwordOf(url: string): string[] {
  const { password = '' } = URL.canParse(url) ? new URL(url) : {};
  try {
    return [password, decodeURIComponent(password)];
  } catch {
    return [password]; // opening the store says what is wrong with it
  }
}

async function tokenOf(call: Call): Promise<string> {
  const path = call.text('token-file');
  const token = path === undefined ? call.variable('KVREEL_TOKEN') : new TextDecoder().decode(await readWholeFile(path, call)).trim();
  if (token === undefined) throw new UsageError('expected --token-file FILE, or KVREEL_TOKEN: TCP is open to everybody who reaches the port. `openssl rand -hex 32` makes a token');
  if (!TOKEN.test(token)) throw new UsageError(`expected the token to be ${TOKEN_FORM}`);
  return token;
}

/** The store with the bounds that it is to have. */
async function storeOf(url: string, operations: Operations, call: Call): Promise<StorageConnector> {
  const [maxBytes, ttlMs] = [call.size('max-bytes'), call.duration('ttl')];
  if (maxBytes === 0) throw new UsageError('expected --max-bytes to be above 0');
  const connector = operations.observed(await openStore(url, call));
  if (maxBytes !== undefined) return bounded(connector, { maxBytes, ...(ttlMs !== undefined && { ttlMs }) });
  if (ttlMs === undefined) return connector;
  if (connector.supports.ttl) return withTtl(connector, ttlMs);
  await connector.close();
  throw new UsageError(`expected --max-bytes with --ttl: ${connector.name} forgets nothing by itself (or let a lifecycle rule of the bucket do it)`);
}

function withTtl(inner: StorageConnector, ttlMs: number): StorageConnector {
  return { ...inner, put: (key, value, options) => inner.put(key, value, { ttlMs, ...options }) };
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
