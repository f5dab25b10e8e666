// LMCache's multiprocess connector in the real vLLM, the real `lmcache server`, and our L2 adapter over the real daemon.
import { CHUNK_TOKENS, fullChunks, LONG, SHORT } from './prompts.js';
import { restarts } from './restarts.js';
import { filesystemStore, redisStore, s3Store } from './stores.js';
import { byLmcache, SMOLLM2 } from './wirings.js';

const CHUNKS = [LONG, ...SHORT].reduce((sum, prompt) => sum + fullChunks(prompt) / CHUNK_TOKENS, 0);

// LMCache lets go of a request's blocks some time after it, and until then they could not be forgotten.
const MORE = { enable_prefix_caching: false };

restarts({
  name: 'LMCache',
  model: 'smollm2',
  stores: [filesystemStore, redisStore, s3Store],
  wire: async (socket) => ({ ...(await byLmcache(socket, CHUNKS, SMOLLM2)), more: MORE }),
});
// On a CPU LMCache 0.5.6 takes models with several cache groups as one group only. Its tensors are kept as bytes: nothing is stated of them.
restarts({
  name: 'LMCache, one cache group',
  model: 'gemma3',
  stores: [filesystemStore],
  wire: async (socket) => ({ ...(await byLmcache(socket, CHUNKS, undefined)), more: { ...MORE, disable_hybrid_kv_cache_manager: true } }),
});
