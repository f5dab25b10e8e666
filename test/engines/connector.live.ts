// Our vLLM connector in the real vLLM, over the real daemon: what one engine stored, the next one hits after everything was restarted.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { newSocket, startDaemon } from './daemon.js';
import { ourConnector, startEngine, type Completion, type Engine } from './engine.js';
import { fullChunks, LONG, NEW_TOKENS, SHORT } from './prompts.js';
import { printReport, report } from './report.js';
import { filesystemStore, redisStore, s3Store, type Store } from './stores.js';

const socket = newSocket();
const stores: Store[] = [];
const before = new Map<Store, Completion[]>();
let engine: Engine;

/** Waits until the daemon has all that the engine has to store. */
async function stored(): Promise<void> {
  for (;;) {
    const { queued_bytes, dropped, client } = await engine.counts();
    expect({ dropped, failures: client.failures }).toEqual({ dropped: 0, failures: {} });
    if (queued_bytes === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function completeAll(): Promise<Completion[]> {
  await engine.forget();
  const [long] = await engine.complete([LONG], NEW_TOKENS);
  // The others as one batch, as they come in real life.
  const short = await engine.complete(SHORT, NEW_TOKENS);
  return long ? [long, ...short] : short;
}

beforeAll(async () => {
  stores.push(filesystemStore(), ...(await Promise.all([redisStore(), s3Store()])));
  engine = await startEngine({ model: 'smollm2', kvTransfer: ourConnector(socket) });
  await engine.complete([{ ...LONG, tokens: 40 }], 2); // warms up
  for (const store of stores) {
    const daemon = await startDaemon(socket, store);
    before.set(store, await completeAll());
    await stored();
    await daemon.stop();
  }
  await engine.stop();
  engine = await startEngine({ model: 'smollm2', kvTransfer: ourConnector(socket) });
  await engine.complete([{ ...LONG, tokens: 40 }], 2);
});

afterAll(async () => {
  printReport();
  await engine?.stop();
  for (const store of stores) await store.stop();
});

describe('our vLLM connector', () => {
  it.each(['filesystem', 'Redis', 'SeaweedFS (S3)'])('hits after a restart, over %s: same tokens, a fifth of the time', async (name) => {
    const store = stores.find((one) => one.name === name) ?? expect.fail();
    const daemon = await startDaemon(socket, store);
    try {
      const first = before.get(store) ?? expect.fail();
      const again = await completeAll();
      const full = [LONG, ...SHORT].map(fullChunks);
      report(`our connector, ${name}`, first, again, full.reduce((sum, tokens) => sum + tokens, 0));
      expect(first.map(({ cached }) => cached)).toEqual([0, 0, 0]);
      expect(again.map(({ cached }) => cached)).toEqual(full);
      expect(again.map(({ tokens }) => tokens)).toEqual(first.map(({ tokens }) => tokens));
      expect((first[0]?.ttft_s ?? 0) / (again[0]?.ttft_s ?? Infinity)).toBeGreaterThan(5);
    } finally {
      await daemon.stop();
    }
  });
});
