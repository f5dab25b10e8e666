// A real `lmcache server` with our L2 adapter, in a process of its own.
import { randomUUID } from 'node:crypto';
import { ask, freePort, startServer, type TestServer } from '../servers/server.js';
import { documentedJson, documentedWords } from './documented.js';
import { provideEnvironment } from './environment.js';

/** A running LMCache server. */
export interface LmcacheServer extends TestServer {
  /** Chunks that our adapter has stored so far. */
  storedChunks(): Promise<number>;
}

/** What the adapter is told of the tensors that vLLM on a CPU hands over. */
export interface Tensors {
  readonly order: string;
  readonly kv_heads: number;
  readonly head_dim: number;
  readonly block_tokens: number;
}

/** The KV transfer settings of docs/vllm-lmcache.md, for this server. */
export function lmcacheConnector(server: LmcacheServer): Readonly<Record<string, unknown>> {
  const place = { 'lmcache.mp.host': 'tcp://127.0.0.1', 'lmcache.mp.port': server.port };
  return { ...documentedJson('vllm-lmcache.md', '--kv-transfer-config'), kv_connector_extra_config: place };
}

/** Starts one: ten seconds. It keeps nothing in its own memory, so that each hit comes through the adapter. */
export async function startLmcacheServer(socket: string, tensors?: Tensors): Promise<LmcacheServer> {
  const { python, env } = provideEnvironment();
  const httpPort = await freePort();
  const adapter = {
    ...documentedJson('vllm-lmcache.md', '--l2-adapter'),
    adapter_params: { address: socket, lookup_deadline_ms: 20_000, load_deadline_ms: 20_000, ...tensors },
  };
  const get = (path: string): Promise<string> => ask(httpPort, `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
  const server = await startServer({
    command: python,
    args: ({ port }) => [
      ...['-m', 'lmcache.cli.main', 'server', '--host', '127.0.0.1', '--port', String(port), '--http-host', '127.0.0.1', '--http-port', String(httpPort)],
      // The last word counts: less memory than the page takes, of this server alone, and nothing kept in it.
      ...documentedWords('vllm-lmcache.md', 'lmcache server', '--l2-adapter'),
      ...['--shm-name', randomUUID(), '--l1-size-gb', '0.5', '--l2-store-policy', 'skip_l1', '--l2-adapter', JSON.stringify(adapter)],
    ],
    isReady: async () => (await get('/healthcheck')).startsWith('HTTP/1.1 200'),
    startLimitMs: 120_000,
    env: { ...env, LMCACHE_TRACK_USAGE: 'false' },
  });
  return {
    ...server,
    async storedChunks() {
      const response = await fetch(`http://127.0.0.1:${httpPort}/status`);
      const text = await response.text();
      return Number(/"stored": ?(\d+)/.exec(text)?.[1] ?? Number.NaN);
    },
  };
}
