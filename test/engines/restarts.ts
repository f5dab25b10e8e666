// What every way from an engine to a store has to show: what one engine stored, the next one hits after everything was restarted.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { newSocket, startDaemon } from './daemon.js';
import { startEngine, type Completion, type Engine } from './engine.js';
import type { ModelName } from './environment.js';
import { fullChunks, LONG, NEW_TOKENS, SHORT } from './prompts.js';
import { printReport, report } from './report.js';
import type { Store } from './stores.js';
import { until } from './until.js';

/** How an engine is joined to a daemon. */
export interface Wiring {
  readonly kvTransfer: Readonly<Record<string, unknown>>;
  /** Further arguments of vllm.LLM. */
  readonly more?: Readonly<Record<string, unknown>>;
  /** Whether the daemon has all chunks of the prompts just completed. */
  isStored(engine: Engine): Promise<boolean>;
  stop(): Promise<void>;
}

/** What is tested. */
export interface Restarts {
  readonly name: string;
  readonly model: ModelName;
  readonly stores: readonly (() => Promise<Store> | Store)[];
  wire(socket: string): Promise<Wiring>;
}

const PROMPTS = [LONG, ...SHORT];

/** A hit takes parts of a second, of which a machine that does something else too spoils many: the best of so many is timed. */
const HITS = 3;

/** Two engines one after the other; beneath each, the daemon is started over each store in turn, at the same socket. */
export function restarts({ name, model, stores: makers, wire }: Restarts): void {
  const socket = newSocket();
  const stores: Store[] = [];
  const before = new Map<Store, Completion[]>();
  let wiring: Wiring | undefined;
  let engine: Engine | undefined;

  async function start(): Promise<Engine> {
    await engine?.stop();
    await wiring?.stop();
    const [first] = stores;
    // As anybody would: an L2 adapter that finds no daemon when LMCache starts is left alone for a while.
    const daemon = first && (await startDaemon(socket, first));
    wiring = await wire(socket);
    engine = await startEngine({ model, kvTransfer: wiring.kvTransfer, ...(wiring.more && { more: wiring.more }) });
    await engine.complete([{ ...LONG, tokens: 40 }], 2); // what is slow but once
    await daemon?.stop();
    return engine;
  }

  async function completeOver(store: Store, running: Engine, isNew: boolean): Promise<Completion[]> {
    const daemon = await startDaemon(socket, store);
    try {
      await running.forget();
      const long = await running.complete([LONG], NEW_TOKENS);
      // The others as one batch, as they come in real life.
      const short = await running.complete(SHORT, NEW_TOKENS);
      if (isNew) await until(async () => (await wiring?.isStored(running)) ?? false);
      for (let i = 1; !isNew && i < HITS; i++) {
        await running.forget();
        const [again] = await running.complete([LONG], NEW_TOKENS);
        if (again && again.ttft_s < (long[0]?.ttft_s ?? 0)) long[0] = again;
      }
      return [...long, ...short];
    } finally {
      await daemon.stop();
    }
  }

  describe(name, () => {
    beforeAll(async () => {
      for (const make of makers) stores.push(await make());
      const writing = await start();
      for (const store of stores) before.set(store, await completeOver(store, writing, true));
      await start();
    });

    afterAll(async () => {
      printReport();
      await engine?.stop();
      await wiring?.stop();
      for (const store of stores) await store.stop();
    });

    it.each(makers.map((_, index) => index))('hits after a restart, over store %i: same tokens, in less than half the time', async (index) => {
      const store = stores[index] ?? expect.fail();
      const first = before.get(store) ?? expect.fail();
      const again = await completeOver(store, engine ?? expect.fail(), false);
      const full = PROMPTS.map(fullChunks);
      report(`${name}, ${model}, ${store.name}`, first, again, full.reduce((sum, tokens) => sum + tokens, 0));
      expect(first.map(({ cached }) => cached)).toEqual(PROMPTS.map(() => 0));
      for (const [i, { cached }] of again.entries()) expect(cached).toBeGreaterThanOrEqual(0.9 * (full[i] ?? Infinity));
      expect(again.map(({ tokens }) => tokens)).toEqual(first.map(({ tokens }) => tokens));
      // How much less is for the table: it hangs on what else the machine does.
      expect((first[0]?.ttft_s ?? 0) / (again[0]?.ttft_s ?? Infinity)).toBeGreaterThan(2);
    });

    it('completes with the same tokens without a daemon', async () => {
      const running = engine ?? expect.fail();
      await running.forget();
      const alone = await running.complete(SHORT, NEW_TOKENS);
      expect(alone.map(({ tokens }) => tokens)).toEqual([...before.values()][0]?.slice(1).map(({ tokens }) => tokens));
    });
  });
}
