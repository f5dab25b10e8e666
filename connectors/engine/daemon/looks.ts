// Whether chunks are there: from memory at once, and from the store in the background or on request.
import type { StorageConnector } from '../../../lib/store/connector.js';
import { chunkKey } from '../../../lib/store/namespace.js';
import { timeLimit } from '../../../lib/store/time-limit.js';
import type { DaemonEvents } from './events.js';
import type { PresenceTable } from './presence.js';
import { readHash } from './requests.js';
import { describeFailure } from './wire-error.js';

/** Looks at the store that run at once. */
const MAX_RUNNING = 32;
/** Looks that may wait; what is beyond stays unknown until it is asked for again. */
const MAX_WAITING = 65_536;
const LOOK_LIMIT_MS = 10_000;

export interface Looks {
  /**
   * One of `1`, `0`, `?` a hash, from memory. Begins to look for what is not known, and waits for that at most `waitMs`. Rejects with
   * KV_INVALID_INPUT if one is no hash, and looks for none.
   */
  lookup(space: string, hashes: readonly unknown[], waitMs: number, signal: AbortSignal): Promise<string>;
  /** One of `1`, `0` a hash, asked of the store. What it does not tell before the signal's end is `0`. */
  exists(space: string, hashes: readonly string[], signal: AbortSignal): Promise<string>;
  /** Gives up what waits and aborts what runs. */
  close(reason: Error): Promise<void>;
}

interface Look {
  readonly space: string;
  readonly hash: string;
  readonly done: Promise<void>;
  settle(): void;
}

export function makeLooks(connector: StorageConnector, presence: PresenceTable, events: DaemonEvents): Looks {
  const waiting = new Map<string, Look>();
  const running = new Map<string, Look>();
  const closing = new AbortController();

  function ask(space: string, hash: string): Promise<void> | undefined {
    const key = chunkKey(space, hash);
    const known = waiting.get(key) ?? running.get(key);
    if (known !== undefined) return known.done;
    if (waiting.size >= MAX_WAITING || closing.signal.aborted) return undefined;
    let settle = (): void => undefined;
    const done = new Promise<void>((resolve) => (settle = resolve));
    waiting.set(key, { space, hash, done, settle });
    startSome();
    return done;
  }

  function startSome(): void {
    for (const [key, look] of waiting) {
      if (running.size >= MAX_RUNNING) return;
      waiting.delete(key);
      running.set(key, look);
      void carryOut(key, look);
    }
  }

  async function carryOut(key: string, look: Look): Promise<void> {
    const begin = performance.now();
    const limit = timeLimit(closing, LOOK_LIMIT_MS, 'a look at the store');
    try {
      presence.note(look.space, look.hash, await connector.has(key, limit.signal && { signal: limit.signal }));
    } catch (error) {
      // Absent for a while: an engine must not ask again and again while the store is down.
      presence.note(look.space, look.hash, false);
      if (!closing.signal.aborted) events.failed({ space: look.space, verb: 'lookup', ...describeFailure(error), ms: performance.now() - begin });
    } finally {
      limit.release();
      running.delete(key);
      look.settle();
      startSome();
    }
  }

  return {
    async lookup(space, hashes, waitMs, signal) {
      const first = presence.of(space, hashes);
      if (!first.includes('?')) return first;
      const unknown = hashes.filter((_, i) => first[i] === '?').map(readHash);
      const looks = unknown.map((hash) => ask(space, hash));
      if (waitMs === 0) return first;
      await withinTime(Promise.all(looks), waitMs, signal);
      return presence.of(space, hashes);
    },

    async exists(space, hashes, signal) {
      const hits: string[] = hashes.map(() => '0');
      const entries = hashes.entries();
      const lane = async (): Promise<void> => {
        for (const [i, hash] of entries) {
          if (signal.aborted) return;
          const begin = performance.now();
          try {
            const isPresent = await connector.has(chunkKey(space, hash), { signal });
            presence.note(space, hash, isPresent);
            if (isPresent) hits[i] = '1';
          } catch (error) {
            if (!signal.aborted) events.failed({ space, verb: 'exists', ...describeFailure(error), ms: performance.now() - begin });
          }
        }
      };
      await Promise.all(Array.from({ length: MAX_RUNNING }, lane));
      return hits.join('');
    },

    async close(reason) {
      closing.abort(reason);
      for (const look of waiting.values()) look.settle();
      waiting.clear();
      await Promise.all([...running.values()].map(({ done }) => done));
    },
  };
}

async function withinTime(work: Promise<unknown>, ms: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => resolve(), { once: true });
    void work.then(() => resolve()).finally(() => clearTimeout(timer));
  });
}
