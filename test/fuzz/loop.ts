import { inputOf } from './inputs.js';
import type { FuzzTarget } from './target.js';

/** An input that a target did not meet as it should. */
export interface FuzzFailure {
  readonly iteration: number;
  readonly input: Uint8Array;
  readonly error: unknown;
}

/** What a loop did. */
export interface FuzzReport {
  readonly iterations: number;
  /** How often each outcome came. */
  readonly outcomes: Readonly<Record<string, number>>;
  /** Of processor time. */
  readonly slowestMs: number;
  readonly failure?: FuzzFailure;
}

/** How a loop goes. */
export interface FuzzLoop {
  readonly corpus: readonly Uint8Array[];
  readonly seed: number;
  /** Asked before each iteration whether to go on with it. */
  goesOn(iteration: number): boolean;
}

/** What one input may take of the processor; far above what any takes, far below what would hold anybody up. Who waits is stopped by run.ts. */
const MAX_INPUT_MS = 5000;
/** What all of it may take in memory beyond what it began with. */
const MAX_GROWTH_BYTES = 1 << 30;

/** Meets inputs until the loop ends or one fails. */
export async function fuzz(target: FuzzTarget, { corpus, seed, goesOn }: FuzzLoop): Promise<FuzzReport> {
  const outcomes: Record<string, number> = {};
  const startBytes = process.memoryUsage.rss();
  let slowestMs = 0;
  let iteration = 0;
  for (; goesOn(iteration); iteration++) {
    const input = inputOf(target, corpus, seed, iteration);
    const begin = process.cpuUsage();
    try {
      const outcome = await target.meet(input);
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
      const { user, system } = process.cpuUsage(begin);
      const ms = (user + system) / 1000;
      slowestMs = Math.max(slowestMs, ms);
      if (ms > MAX_INPUT_MS) throw new Error(`one input took ${ms.toFixed(0)} ms`);
      if (iteration % 1024 === 1023 && process.memoryUsage.rss() - startBytes > MAX_GROWTH_BYTES) throw new Error('the process grew by more than 1 GiB');
      // Unhandled rejections and timers get their turn.
      if (iteration % 64 === 63) await new Promise(setImmediate);
    } catch (error) {
      return { iterations: iteration, outcomes, slowestMs, failure: { iteration, input, error } };
    }
  }
  return { iterations: iteration, outcomes, slowestMs };
}
