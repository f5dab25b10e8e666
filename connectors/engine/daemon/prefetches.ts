import { chunkKey } from '../../../lib/store/namespace.js';
import { timeLimit } from '../../../lib/store/time-limit.js';
import type { DaemonEvents } from './events.js';
import type { HotTier } from './hot-tier.js';
import type { PresenceTable } from './presence.js';
import { describeFailure } from './wire-error.js';

const MAX_RUNNING = 4;
/** Chunks that may wait to be read; more are not accepted. */
const MAX_WAITING = 4096;
const READ_LIMIT_MS = 60_000;

/** Reads of objects into memory that nobody waits for. */
export interface Prefetches {
  /** How many of the hashes are on their way now, or in memory already. */
  start(space: string, hashes: readonly string[]): number;
  /** Gives up what waits and aborts what runs. */
  close(reason: Error): Promise<void>;
}

export interface PrefetchesOptions {
  /** Without it nothing is accepted. */
  readonly hot: HotTier | undefined;
  readonly presence: PresenceTable;
  readonly events: DaemonEvents;
}

export function makePrefetches({ hot, presence, events }: PrefetchesOptions): Prefetches {
  const waiting = new Map<string, { readonly space: string; readonly hash: string }>();
  const running = new Map<string, Promise<void>>();
  const closing = new AbortController();

  function startSome(memory: HotTier): void {
    for (const [key, { space, hash }] of waiting) {
      if (running.size >= MAX_RUNNING) return;
      waiting.delete(key);
      const read = carryOut(memory, { key, space, hash }).finally(() => {
        running.delete(key);
        startSome(memory);
      });
      running.set(key, read);
    }
  }

  async function carryOut(memory: HotTier, { key, space, hash }: { readonly key: string; readonly space: string; readonly hash: string }): Promise<void> {
    const begin = performance.now();
    const limit = timeLimit(closing, READ_LIMIT_MS, 'a prefetch');
    try {
      const isThere = await memory.load(key, limit.signal && { signal: limit.signal });
      if (isThere) presence.note(space, hash, true);
    } catch (error) {
      if (!closing.signal.aborted) events.failed({ space, verb: 'prefetch', ...describeFailure(error), ms: performance.now() - begin });
    } finally {
      limit.release();
    }
  }

  return {
    start(space, hashes) {
      if (hot === undefined || closing.signal.aborted) return 0;
      let accepted = 0;
      for (const hash of hashes) {
        const key = chunkKey(space, hash);
        if (hot.held(key) === undefined && !waiting.has(key) && !running.has(key)) {
          if (waiting.size >= MAX_WAITING) continue;
          waiting.set(key, { space, hash });
        }
        accepted++;
      }
      startSome(hot);
      return accepted;
    },
    async close(reason) {
      waiting.clear();
      closing.abort(reason);
      await Promise.all(running.values());
    },
  };
}
