import { CODER_NAMES } from '../../../lib/codec/coders/registry.js';
import { QUALITY_NAMES } from '../../../lib/codec/rungs.js';
import type { StorageConnector } from '../../../lib/store/connector.js';
import { bounded } from '../../storage/bounded.js';
import { DAEMON_DEFAULTS } from '../daemon/options.js';
import { startDaemon, type DaemonOptions } from '../daemon.js';
import { redactedUrl } from '../store-url.js';
import { UsageError, type Call, type Command } from './command.js';
import { readWholeFile } from './input-file.js';
import { openStore } from './open-store.js';
import { DURATION_FORM, SIZE_FORM } from './quantity.js';
import { withAllSettings } from './serve-config.js';
import { STORE_OPTIONS } from './shared-options.js';

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
  },
  async run(given) {
    const call = await withAllSettings(serveCommand, given);
    const options = await daemonOptions(call);
    const url = call.requiredText('store');
    const connector = await storeOf(url, call);
    const daemon = await startDaemon({ ...options, connector });
    const places = [options.socket, options.tcp && `http://${options.tcp.host}:${daemon.port}`].filter((place) => place !== undefined);
    call.screen.result({ store: redactedUrl(url), socket: options.socket, port: daemon.port }, `serving ${redactedUrl(url)} on ${places.join(' and ')}`);
    await aborted(call.signal);
    await daemon.stop();
  },
};

function own({ value, help }: { readonly value: string; readonly help: string }): { readonly value: string; readonly help: string } {
  return { value, help };
}

async function daemonOptions(call: Call): Promise<Omit<DaemonOptions, 'connector'>> {
  const [socket, host, port] = [call.text('socket'), call.text('host'), call.integer('port', 0)];
  const [coder, threads] = [call.choice('codec', ['auto', ...CODER_NAMES]), call.integer('threads', 0)];
  const [quality, deadlineMs, graceMs] = [call.choice('quality', QUALITY_NAMES), call.integer('deadline-ms', 1), call.integer('grace-ms', 1)];
  if (socket === undefined && host === undefined) throw new UsageError('expected --socket PATH, or --host NAME for TCP: a place to listen');
  if (host === undefined && port !== undefined) throw new UsageError('expected --host NAME with --port, as in --host 127.0.0.1');
  if (port !== undefined && port > 65535) throw new UsageError(`expected --port to be at most 65535, got ${port}`);
  const tcp = host === undefined ? undefined : { host, port: port ?? DEFAULT_PORT, token: await tokenOf(call) };
  const [memoryBytes, maxBytes, ttlMs] = [call.size('memory-bytes'), call.size('max-bytes'), call.duration('ttl')];
  return {
    ...(memoryBytes !== undefined && memoryBytes > 0 && { memory: { maxBytes: memoryBytes, ...(ttlMs !== undefined && { maxAgeMs: ttlMs }) } }),
    ...(maxBytes !== undefined && { maxBytes }),
    coding: { ...(coder !== undefined && { coder }), ...(threads !== undefined && { threads }) },
    ...(socket !== undefined && { socket }),
    ...(tcp && { tcp }),
    ...(quality !== undefined && { quality }),
    ...(deadlineMs !== undefined && { deadlineMs }),
    ...(graceMs !== undefined && { graceMs }),
  };
}

async function tokenOf(call: Call): Promise<string> {
  const path = call.text('token-file');
  const token = path === undefined ? call.variable('KVREEL_TOKEN') : new TextDecoder().decode(await readWholeFile(path, call)).trim();
  if (token === undefined) throw new UsageError('expected --token-file FILE, or KVREEL_TOKEN: TCP is open to everybody who reaches the port. `openssl rand -hex 32` makes a token');
  return token;
}

/** The store with the bounds that it is to have. */
async function storeOf(url: string, call: Call): Promise<StorageConnector> {
  const [maxBytes, ttlMs] = [call.size('max-bytes'), call.duration('ttl')];
  if (maxBytes === 0) throw new UsageError('expected --max-bytes to be above 0');
  const connector = await openStore(url, call);
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
