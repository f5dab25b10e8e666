// Gets and puts under random faults, with every byte that comes back compared. The seed decides each worker's calls and the order of
// the faults; how they meet in time is the machine's.
import { once } from 'node:events';
import { randomSource } from '../lib/tensors.js';
import type { Disturber } from './chaos-disturbers.js';
import { WrongBytes, type ChaosCall, type Subject } from './chaos-subjects.js';

export interface ChaosOptions {
  readonly seed: number;
  /** How many gets to make. */
  readonly gets: number;
  /** Milliseconds that each call may take. Default 150. */
  readonly deadlineMs?: number;
  /** Calls at once. Default 64. */
  readonly concurrency?: number;
  /** Keys that they share. Default 100. */
  readonly keys?: number;
}

export interface ChaosReport {
  readonly seed: number;
  readonly seconds: number;
  readonly gets: number;
  readonly hits: number;
  readonly misses: number;
  readonly puts: number;
  readonly putsDone: number;
  /** How often calls of any verb rejected, by code. */
  readonly rejections: Readonly<Record<string, number>>;
  readonly faults: Readonly<Record<string, number>>;
  /** What must never be: wrong bytes, and rejections with something else than a code or the call's own end. */
  readonly failures: readonly string[];
  /** How many gets their deadline ended. */
  readonly ended: number;
  /** How many of them had not settled when a timer of 50 ms, set at the deadline, went off. On a busy machine both come late. */
  readonly overdue: number;
  /** Milliseconds of all gets beyond their deadline, with what a busy machine adds. */
  readonly lateMs: Lateness;
  /** Keys that could not be put and got again within five seconds after the last fault. */
  readonly notRecovered: number;
  readonly closeMs: number;
}

export interface Lateness {
  readonly p999: number;
  readonly max: number;
}

/** Runs it. Rejects only where the harness itself fails. */
export async function runChaos(subject: Subject, disturber: Disturber, options: ChaosOptions): Promise<ChaosReport> {
  const { seed, gets: goal, deadlineMs = 150, concurrency = 64, keys = 100 } = options;
  const start = performance.now();
  const newest = new Array<number>(keys).fill(0);
  const tally = new Tally();
  let isOver = false;

  async function work(random: () => number): Promise<void> {
    while (tally.gets < goal && tally.failures.length === 0) {
      const key = Math.floor(keys * random());
      const choice = random();
      const call = { key, newest: () => newest[key] ?? 0, random, signal: AbortSignal.timeout(deadlineMs) };
      if (choice < 0.12 || newest[key] === 0) {
        newest[key] = call.newest() + 1;
        await tally.put(() => subject.put(call));
      } else if (choice < 0.16) {
        await tally.other(() => subject.other(call));
      } else {
        await tally.get(deadlineMs, call, () => subject.get(call));
      }
      // A call that settles without leaving the microtask queue would otherwise starve the others.
      await new Promise(setImmediate);
    }
  }

  async function disturb(random: () => number): Promise<void> {
    while (!isOver) {
      tally.fault(await disturber.next(random));
      await once(AbortSignal.timeout(1 + Math.floor(disturber.everyMs * random())), 'abort');
    }
    await disturber.calm();
  }

  const disturbing = disturb(randomSource(seed)).catch((cause: unknown) => tally.fail(cause));
  await Promise.all(Array.from({ length: concurrency }, (_, worker) => work(randomSource(seed * 1000 + worker + 1))));
  isOver = true;
  await disturbing;
  const notRecovered = await recover(subject, newest);
  const closing = performance.now();
  await subject.close();
  return { seed, notRecovered, closeMs: performance.now() - closing, seconds: (performance.now() - start) / 1000, ...tally.report() };
}

/** Puts and gets each key in a world without faults; gives how many did not come back. */
async function recover(subject: Subject, newest: number[]): Promise<number> {
  const until = performance.now() + 5000;
  let missing = [...newest.keys()];
  while (missing.length > 0 && performance.now() < until) {
    const outcomes = await Promise.allSettled(
      missing.map(async (key) => {
        newest[key] = (newest[key] ?? 0) + 1;
        const call = { key, newest: () => newest[key] ?? 0, random: () => 0.5, signal: AbortSignal.timeout(5000) };
        await subject.put(call);
        if (!(await subject.get(call))) throw new Error(`key ${key} was put and is a miss`);
      }),
    );
    missing = missing.filter((_, i) => outcomes[i]?.status === 'rejected');
  }
  return missing.length;
}

const MOST_FAILURES = 20;

/** Every call settles at the latest so long after its deadline. */
const PROMISED_MS = 50;

/** After this time, nobody believes any more that a call will settle. */
const NEVER_MS = 20_000;

/** What became of all calls. */
class Tally {
  gets = 0;
  #hits = 0;
  #misses = 0;
  #puts = 0;
  #putsDone = 0;
  #overdue = 0;
  readonly #lateMs: number[] = [];
  readonly #rejections: Record<string, number> = {};
  readonly #faults: Record<string, number> = {};
  readonly failures: string[] = [];

  async get(deadlineMs: number, { signal }: ChaosCall, call: () => Promise<boolean>): Promise<void> {
    this.gets++;
    const start = performance.now();
    let isSettled = false;
    const look = (): void => void setImmediate(() => (this.#overdue += isSettled ? 0 : 1));
    signal.addEventListener('abort', () => isSettled || setTimeout(look, PROMISED_MS), { once: true });
    const isHit = await this.#settle(call);
    isSettled = true;
    this.#lateMs.push(performance.now() - start - deadlineMs);
    if (isHit === true) this.#hits++;
    if (isHit === false) this.#misses++;
  }

  async put(call: () => Promise<void>): Promise<void> {
    this.#puts++;
    if ((await this.#settle(() => call().then(() => true))) === true) this.#putsDone++;
  }

  async other(call: () => Promise<unknown>): Promise<void> {
    await this.#settle(call);
  }

  fault(name: string): void {
    this.#faults[name] = (this.#faults[name] ?? 0) + 1;
  }

  report(): Omit<ChaosReport, 'seed' | 'seconds' | 'notRecovered' | 'closeMs'> {
    return {
      gets: this.gets,
      hits: this.#hits,
      misses: this.#misses,
      puts: this.#puts,
      putsDone: this.#putsDone,
      rejections: this.#rejections,
      faults: this.#faults,
      failures: this.failures,
      ended: this.#lateMs.filter((ms) => ms >= 0).length,
      overdue: this.#overdue,
      lateMs: lateness(this.#lateMs),
    };
  }

  async #settle<T>(call: () => Promise<T>): Promise<T | undefined> {
    const neverSettles = setTimeout(() => this.fail(new Error('a call did not settle')), NEVER_MS);
    try {
      return await call();
    } catch (cause) {
      const code = codeOf(cause);
      if (code !== undefined) this.#rejections[code] = (this.#rejections[code] ?? 0) + 1;
      else this.fail(cause);
      return undefined;
    } finally {
      clearTimeout(neverSettles);
    }
  }

  fail(cause: unknown): void {
    if (this.failures.length < MOST_FAILURES) this.failures.push(cause instanceof Error ? (cause.stack ?? cause.message) : String(cause));
  }
}

/** The code of a rejection that may be, undefined for all others. */
function codeOf(cause: unknown): string | undefined {
  if (cause instanceof WrongBytes || !(cause instanceof Error)) return undefined;
  if (cause.name === 'TimeoutError') return 'deadline';
  return 'code' in cause && typeof cause.code === 'string' && cause.code.startsWith('KV_') ? cause.code : undefined;
}

function lateness(ms: readonly number[]): Lateness {
  const sorted = [...ms].sort((a, b) => a - b);
  return { p999: sorted[Math.floor(sorted.length * 0.999)] ?? 0, max: sorted.at(-1) ?? 0 };
}
