// LMCache's multiprocess connector in the real vLLM, the real `lmcache server`, and our L2 adapter over the real daemon.
import { lmcacheConnector, startLmcacheServer, type Tensors } from './lmcache-server.js';
import { CHUNK_TOKENS, fullChunks, LONG, SHORT } from './prompts.js';
import { restarts, type Wiring } from './restarts.js';
import { filesystemStore, redisStore, s3Store } from './stores.js';

const SMOLLM2: Tensors = { order: 'vllm_cpu_rows', kv_heads: 3, head_dim: 64, block_tokens: 32 };
const CHUNKS = [LONG, ...SHORT].reduce((sum, prompt) => sum + fullChunks(prompt) / CHUNK_TOKENS, 0);

async function wire(socket: string, tensors?: Tensors, engine: Readonly<Record<string, unknown>> = {}): Promise<Wiring> {
  const server = await startLmcacheServer(socket, tensors);
  let before = 0;
  return {
    kvTransfer: lmcacheConnector(server),
    // LMCache lets go of a request's blocks some time after it, and until then they could not be forgotten.
    more: { enable_prefix_caching: false, ...engine },
    async isStored() {
      const stored = await server.storedChunks();
      if (stored - before < CHUNKS) return false;
      before = stored;
      return true;
    },
    stop: () => server.stop(),
  };
}

restarts({ name: 'LMCache', model: 'smollm2', stores: [filesystemStore, redisStore, s3Store], wire: (socket) => wire(socket, SMOLLM2) });
// On a CPU LMCache 0.5.6 takes models with several cache groups as one group only. Its tensors are kept as bytes: nothing is stated of them.
const ONE_GROUP = { disable_hybrid_kv_cache_manager: true };
restarts({ name: 'LMCache, one cache group', model: 'gemma3', stores: [filesystemStore], wire: (socket) => wire(socket, undefined, ONE_GROUP) });
