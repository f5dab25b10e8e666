// A daemon over memory with all that an operator sees of it, and calls to it.
import { startDaemon, type Daemon } from '../../connectors/engine/daemon.js';
import { makeLogger, type LogLevel } from '../../connectors/engine/daemon/logging.js';
import { makeOperations, type Operations } from '../../connectors/engine/daemon/operations.js';
import { memory } from '../../connectors/storage/memory.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import { cacheLike } from '../lib/tensors.js';

export const TOKEN = 'a-token-that-nobody-may-read';
/** Every name a client chooses is text of somebody else. */
export const MODEL = 'org/model<img src=x onerror=alert(1)>';
export const SPACE = { model: MODEL, geometry: { order: 'lmcache_2ltd', dtype: 'bf16', layers: 4, kv_heads: 2, head_dim: 16 } };
const LAYOUT = { order: 'lmcache_2ltd', dtype: 'bf16', layers: 4, tokens: 64, kvHeads: 2, headDim: 16 } as const;

export interface OperatedDaemon {
  readonly daemon: Daemon;
  readonly operations: Operations;
  readonly url: string;
  /** Lines of the log. */
  readonly log: readonly Record<string, unknown>[];
  get(path: string, token?: string): Promise<Response>;
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Response>;
  register(space?: object): Promise<string>;
  /** Stores chunks that look like a cache under these hashes. */
  store(space: string, hashes: readonly string[]): Promise<void>;
  fetch(space: string, hashes: readonly string[], bytes?: number): Promise<void>;
  stop(): Promise<void>;
}

export const CHUNK_BYTES = 2 * 4 * 64 * 2 * 16 * 2;

export async function operatedDaemon({ connector = memory() as StorageConnector, level = 'debug' as LogLevel } = {}): Promise<OperatedDaemon> {
  const log: Record<string, unknown>[] = [];
  const logger = makeLogger({ level, secrets: [TOKEN], destination: { write: (line) => void log.push(JSON.parse(line) as Record<string, unknown>) } });
  const operations = makeOperations({ logger, version: '1.2.3', storeName: 'memory' });
  const daemon = await startDaemon({ connector: operations.observed(connector), tcp: { host: '127.0.0.1', port: 0, token: TOKEN }, observers: operations.observers, routes: operations.routes, around: operations.around });
  const url = `http://127.0.0.1:${daemon.port}`;
  const headers = (token = TOKEN): Record<string, string> => (token === '' ? {} : { authorization: `Bearer ${token}` });
  const post: OperatedDaemon['post'] = async (path, body, more = {}) => {
    const isFrames = body instanceof Uint8Array;
    return fetch(url + path, { method: 'POST', headers: { ...headers(), ...more, 'content-type': isFrames ? 'application/x-kvreel-frames' : 'application/json' }, body: isFrames ? new Uint8Array(body) : JSON.stringify(body) });
  };
  return {
    daemon,
    operations,
    url,
    log,
    post,
    get: (path, token) => fetch(url + path, { headers: headers(token) }),
    register: async (space = SPACE) => ((await (await post('/v1/spaces', space)).json()) as { space: string }).space,
    async store(space, hashes) {
      const { data } = cacheLike(LAYOUT, 1);
      const head = Buffer.from(JSON.stringify({ space, entries: hashes.map((hash) => ({ hash, bytes: data.length })) }));
      const frames = hashes.flatMap((_, i) => [frameHeader(i, data.length), data]);
      const answer = await post('/v1/store', Buffer.concat([frameHeader(0xffffffff, head.length), head, ...frames]));
      await answer.arrayBuffer();
    },
    async fetch(space, hashes, bytes = CHUNK_BYTES) {
      await (await post('/v1/fetch', { space, entries: hashes.map((hash) => ({ hash, bytes })) })).arrayBuffer();
    },
    stop: () => daemon.stop(),
  };
}

function frameHeader(index: number, payload: number): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(index, 0);
  header.writeBigUInt64LE(BigInt(payload), 8);
  return header;
}
