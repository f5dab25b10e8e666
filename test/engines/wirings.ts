// The ways from an engine to a daemon.
import { ourConnector } from './engine.js';
import { lmcacheConnector, startLmcacheServer } from './lmcache-server.js';
import type { Wiring } from './restarts.js';

/** A busy machine may be slow to look into a store for the first time; what happens at the deadline is tested apart. */
const PATIENT_MS = 40_000;

/** Our connector. */
export async function byOurConnector(socket: string, deadlineMs = PATIENT_MS): Promise<Wiring> {
  return {
    kvTransfer: ourConnector(socket, { deadline_ms: deadlineMs }),
    isStored: async (engine) => (await engine.counts()).queued_bytes === 0,
    stop: async () => undefined,
  };
}

/** LMCache with our L2 adapter, for SmolLM2; all is stored as soon as so many chunks are. */
export async function byLmcache(socket: string, chunks: number): Promise<Wiring> {
  const server = await startLmcacheServer(socket, { order: 'vllm_cpu_rows', kv_heads: 3, head_dim: 64, block_tokens: 32 });
  return {
    kvTransfer: lmcacheConnector(server),
    isStored: async () => (await server.storedChunks()) >= chunks,
    stop: () => server.stop(),
  };
}
