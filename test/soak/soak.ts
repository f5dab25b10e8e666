// Gets and puts for a long time, with eviction running, while memory, descriptors and the bound are watched.
import { readdirSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { BoundedConnector } from '../../connectors/storage/bounded.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import { dataOf } from '../faults/chaos-values.js';
import { randomSource } from '../lib/tensors.js';

/** A store under load. */
export interface SoakStore {
  readonly name: string;
  /** What the load goes through. */
  readonly connector: BoundedConnector;
  /** The same storage without the bound, to see what it really holds. */
  readonly behind: StorageConnector;
}

export interface SoakOptions {
  readonly minutes: number;
  /** Bound of each store, in value bytes. */
  readonly maxBytes: number;
  /** Calls at once on each store. Default 64. */
  readonly concurrency?: number;
  readonly seed?: number;
  onSample?(sample: SoakSample): void;
}

/** What was seen while all calls had settled. */
export interface SoakSample {
  readonly minute: number;
  /** After a full garbage collection. */
  readonly rssBytes: number;
  readonly descriptors: number;
  readonly stores: readonly StoreSample[];
}

export interface StoreSample {
  readonly name: string;
  readonly storedBytes: number;
  readonly evictions: number;
  readonly gets: number;
  readonly hits: number;
  readonly puts: number;
}

export interface SoakReport {
  readonly samples: readonly SoakSample[];
  /** What must not be; empty if the soak passed. */
  readonly breaches: readonly string[];
  /** Growth of resident memory since the warm-up, as a share of it. */
  readonly rssGrowth: number;
  readonly warmUpMinutes: number;
}

/** Largest value; the keys below hold several times a bound of 32 MiB. */
export const LARGEST_VALUE_BYTES = 256 * 1024 - 64;
const KEYS = 1500;
const SAMPLES = 20;
const WARM_UP_MINUTES = 5;
const LONG_GROWTH = 0.05;
/** A run that is too short for the warm-up still grows a little, as heaps and pools find their size. */
const SHORT_GROWTH = 0.2;

/** Runs the load on all stores at once and samples them 20 times. */
export async function soak(stores: readonly SoakStore[], options: SoakOptions): Promise<SoakReport> {
  const { minutes, maxBytes, concurrency = 64, seed = 1 } = options;
  const loads = stores.map((store, i) => new Load(store, maxBytes, concurrency, seed + i));
  const samples: SoakSample[] = [];
  const breaches: string[] = [];
  const start = performance.now();
  for (let n = 1; n <= SAMPLES; n++) {
    const until = start + (n * minutes * 60_000) / SAMPLES;
    await Promise.all(loads.map((load) => load.runUntil(until)));
    const sample = { minute: (performance.now() - start) / 60_000, ...resources(), stores: await Promise.all(loads.map((load) => load.sample())) };
    samples.push(sample);
    options.onSample?.(sample);
    for (const { name, storedBytes } of sample.stores) {
      if (storedBytes > maxBytes + LARGEST_VALUE_BYTES) breaches.push(`${name} held ${storedBytes} bytes at minute ${sample.minute.toFixed(1)}, with a bound of ${maxBytes}`);
    }
  }
  for (const load of loads) breaches.push(...load.breaches);
  const isLong = minutes > 1.5 * WARM_UP_MINUTES;
  const warmUpMinutes = isLong ? WARM_UP_MINUTES : minutes / 2;
  const settled = samples.filter(({ minute }) => minute >= warmUpMinutes);
  const rssGrowth = growthOf(settled.map(({ rssBytes }) => rssBytes));
  const limit = isLong ? LONG_GROWTH : SHORT_GROWTH;
  if (rssGrowth > limit) breaches.push(`resident memory grew by ${(100 * rssGrowth).toFixed(1)} % after the warm-up`);
  const [first, last] = [settled[0]?.descriptors ?? 0, settled.at(-1)?.descriptors ?? 0];
  // A pool may still open a connection or two; a leak of one in a thousand calls would be hundreds.
  if (last > first + 2 * stores.length) breaches.push(`descriptors went from ${first} to ${last} after the warm-up`);
  for (const { name, evictions, hits } of samples.at(-1)?.stores ?? []) {
    if (evictions === 0 || hits === 0) breaches.push(`${name} saw ${evictions} evictions and ${hits} hits: that was no load`);
  }
  return { samples, breaches, rssGrowth, warmUpMinutes };
}

/** Mean of the last third over mean of the first, less one. */
function growthOf(values: readonly number[]): number {
  const third = Math.max(1, Math.floor(values.length / 3));
  const mean = (part: readonly number[]): number => part.reduce((sum, value) => sum + value, 0) / part.length;
  return mean(values.slice(-third)) / mean(values.slice(0, third)) - 1;
}

setFlagsFromString('--expose_gc');
const collectGarbage = runInNewContext('gc') as () => void;

function resources(): Pick<SoakSample, 'rssBytes' | 'descriptors'> {
  collectGarbage();
  return { rssBytes: process.memoryUsage.rss(), descriptors: readdirSync('/proc/self/fd').length };
}

/** The callers of one store. */
class Load {
  readonly breaches: string[] = [];
  readonly #store: SoakStore;
  readonly #maxBytes: number;
  readonly #randoms: readonly (() => number)[];
  readonly #newest = new Array<number>(KEYS).fill(0);
  #gets = 0;
  #hits = 0;
  #puts = 0;

  constructor(store: SoakStore, maxBytes: number, concurrency: number, seed: number) {
    this.#store = store;
    this.#maxBytes = maxBytes;
    this.#randoms = Array.from({ length: concurrency }, (_, i) => randomSource(1000 * seed + i));
  }

  /** Resolves when it is that late and all calls have settled. */
  async runUntil(untilMs: number): Promise<void> {
    await Promise.all(
      this.#randoms.map(async (random) => {
        while (performance.now() < untilMs) await this.#call(random).catch((cause: unknown) => this.#breach(String(cause)));
      }),
    );
  }

  async sample(): Promise<StoreSample> {
    let storedBytes = 0;
    for await (const { bytes } of this.#store.behind.list('')) storedBytes += bytes;
    const { evictions } = this.#store.connector.stats();
    return { name: this.#store.name, storedBytes, evictions, gets: this.#gets, hits: this.#hits, puts: this.#puts };
  }

  async #call(random: () => number): Promise<void> {
    const { connector } = this.#store;
    const { bytes } = connector.stats();
    if (bytes > this.#maxBytes + LARGEST_VALUE_BYTES) this.#breach(`its books said ${bytes} bytes, with a bound of ${this.#maxBytes}`);
    // Some keys are asked for far more often than others, as prefixes are.
    const key = Math.floor(KEYS * random() ** 2);
    const name = `soak/${key}`;
    const choice = random();
    if (choice < 0.48) {
      const version = (this.#newest[key] ?? 0) + 1;
      this.#newest[key] = version;
      await connector.put(name, valueOf(key, version));
      this.#puts++;
    } else if (choice < 0.5) {
      await connector.delete(name);
    } else {
      const value = await connector.get(name);
      this.#gets++;
      if (value === undefined) return;
      this.#hits++;
      if (!this.#isRight(key, value)) this.#breach(`${name} gave bytes that were never put`);
    }
  }

  #isRight(key: number, value: Uint8Array): boolean {
    for (let version = this.#newest[key] ?? 0; version > 0; version--) if (Buffer.compare(value, valueOf(key, version)) === 0) return true;
    return false;
  }

  #breach(text: string): void {
    if (this.breaches.length < 5) this.breaches.push(`${this.#store.name}: ${text}`);
  }
}

function valueOf(key: number, version: number): Uint8Array {
  const bytes = Math.floor((LARGEST_VALUE_BYTES * (1 + ((key * 31 + version * 17) % 64))) / 64);
  return dataOf(key, version, bytes);
}
