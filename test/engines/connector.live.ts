// Our vLLM connector in the real vLLM, over the real daemon.
import { ourConnector, type Engine } from './engine.js';
import { restarts, type Wiring } from './restarts.js';
import { filesystemStore, redisStore, s3Store } from './stores.js';

async function wire(socket: string): Promise<Wiring> {
  return {
    // A busy machine may be slow to look into a store for the first time; what happens at the deadline is tested apart.
    kvTransfer: ourConnector(socket, { deadline_ms: 40_000 }),
    isStored: async (engine: Engine) => (await engine.counts()).queued_bytes === 0,
    stop: async () => undefined,
  };
}

restarts({ name: 'our connector', model: 'smollm2', stores: [filesystemStore, redisStore, s3Store], wire });
// Windows on 15 layers and none on 3: several cache groups, loaded between steps.
restarts({ name: 'our connector', model: 'gemma3', stores: [filesystemStore], wire });
