// The ways from an engine to a daemon.
import { ourConnector } from './engine.js';
import { lmcacheConnector, startLmcacheServer, type Tensors } from './lmcache-server.js';
import type { Wiring } from './restarts.js';
import { isAllStored } from './stored.js';

/** A busy machine may be slow to look into a store for the first time; what happens at the deadline is tested apart. */
const PATIENT_MS = 40_000;

/** Our connector. */
export async function byOurConnector(socket: string, deadlineMs = PATIENT_MS): Promise<Wiring> {
  return {
    kvTransfer: ourConnector(socket, { deadline_ms: deadlineMs }),
    isStored: isAllStored,
    stop: async () => undefined,
  };
}

/** What LMCache's adapter is told of SmolLM2. */
export const SMOLLM2: Tensors = { order: 'vllm_cpu_rows', kv_heads: 3, head_dim: 64, block_tokens: 32 };

/** LMCache with our L2 adapter. All is stored as soon as there are so many chunks more than the last time that all was. */
export async function byLmcache(socket: string, chunks: number, tensors: Tensors | undefined): Promise<Wiring> {
  const server = await startLmcacheServer(socket, tensors);
  let before = 0;
  return {
    kvTransfer: lmcacheConnector(server),
    async isStored() {
      const stored = await server.storedChunks();
      if (stored - before < chunks) return false;
      before = stored;
      return true;
    },
    stop: () => server.stop(),
  };
}
