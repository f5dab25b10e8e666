// An engine, a daemon, and a Redis behind a proxy that plays faults.
import { afterAll, beforeAll, expect } from 'vitest';
import { startProxy, type Proxy } from '../faults/proxy.js';
import type { TestServer } from '../servers/server.js';
import { newSocket, startDaemon } from './daemon.js';
import { startEngine, type Completion, type Engine, type Prompt } from './engine.js';
import type { ModelName } from './environment.js';
import { CHUNK_TOKENS, fullChunks, NEW_TOKENS, SHORT } from './prompts.js';
import type { Wiring } from './restarts.js';
import { redisStore, type Store } from './stores.js';
import { until } from './until.js';
import { byOurConnector } from './wirings.js';

const DEADLINE_MS = 6_000;

/** What the tests of one `describe` share. */
export interface FaultyWorld {
  /** What is completed unless something else is said; the store behind the proxy has all of it. */
  readonly prompt: Prompt;
  readonly engine: () => Engine;
  readonly daemon: () => TestServer;
  readonly proxy: () => Proxy;
  /** Completes with nothing in the engine's own cache. */
  complete(asked?: Prompt): Promise<Completion>;
  /** A fresh daemon, which remembers nothing of the store; the one behind the proxy unless another is given. */
  restartDaemon(store?: Pick<Store, 'url' | 'env'>): Promise<void>;
  /** Waits until so many more bytes have passed the proxy. */
  passing(direction: 'toClient' | 'toServer', bytes: number): () => Promise<void>;
  /** The same tokens as ever, in time. */
  expectSame(completion: Completion, before?: Completion): void;
}

/** How the engine is joined to the daemon, of whose store the prompt takes so many chunks. */
type Wire = (socket: string, chunks: number) => Promise<Wiring>;

/** Sets it up for the tests around the call. */
export function faultyWorld(model: ModelName, wire: Wire = (socket) => byOurConnector(socket, DEADLINE_MS)): FaultyWorld {
  const socket = newSocket();
  const [, prompt = { text: '', tokens: 0 }] = SHORT;
  let wiring: Wiring | undefined;
  let engine: Engine | undefined;
  let daemon: TestServer | undefined;
  let redis: Store | undefined;
  let proxy: Proxy | undefined;
  let miss: Completion | undefined;

  const behindProxy = (): Pick<Store, 'url' | 'env'> => ({ url: `redis://127.0.0.1:${there(proxy).port}`, env: {} });

  const world: FaultyWorld = {
    prompt,
    engine: () => there(engine),
    daemon: () => there(daemon),
    proxy: () => there(proxy),
    async complete(asked = prompt) {
      await there(engine).forget();
      const [completion] = await there(engine).complete([asked], NEW_TOKENS);
      return there(completion);
    },
    async restartDaemon(store = behindProxy()) {
      await daemon?.stop();
      daemon = await startDaemon(socket, store);
    },
    passing(direction, bytes) {
      const before = there(proxy).bytes[direction];
      return async () => {
        await until(() => there(proxy).bytes[direction] >= before + bytes, 5);
      };
    },
    expectSame(completion, before = there(miss)) {
      expect(completion.tokens).toEqual(before.tokens);
      // A machine that does other things too may take some times as long as it did before.
      expect(completion.seconds).toBeLessThan(DEADLINE_MS / 1000 + 4 * before.seconds);
    },
  };

  beforeAll(async () => {
    redis = await redisStore();
    proxy = await startProxy({ port: redis.port });
    await world.restartDaemon();
    wiring = await wire(socket, fullChunks(prompt) / CHUNK_TOKENS);
    engine = await startEngine({ model, kvTransfer: wiring.kvTransfer, ...(wiring.more && { more: wiring.more }) });
    await engine.complete([{ ...prompt, tokens: 40 }], 2);
    miss = await world.complete();
    await until(async () => there(wiring).isStored(there(engine)));
  });

  afterAll(async () => {
    await engine?.stop();
    await wiring?.stop();
    await daemon?.stop();
    await proxy?.close();
    await redis?.stop();
  });

  return world;
}

function there<T>(value: T | undefined): T {
  return value ?? expect.fail('the set-up has failed');
}
