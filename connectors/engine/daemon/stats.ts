// Counts for people: what GET /v1/stats gives and the live page shows. Prometheus has its own (metrics.ts).
import { rungOf } from '../../../lib/codec/rungs.js';
import type { Namespace } from '../../../lib/store/namespace.js';
import type { LmEvent } from '../lm/events.js';
import type { DaemonEvents, MissCause } from './events.js';
import { recentSeconds, type SecondCounts } from './recent-seconds.js';
import { recentTimes, type Times } from './recent-times.js';
import type { StoreHealth } from './store-health.js';

/** Chunks and bytes that went one way. */
export interface Moved {
  chunks: number;
  /** Of the tensors. */
  raw_bytes: number;
  /** Of their objects. */
  stored_bytes: number;
}

/** The answer to GET /v1/stats. */
export interface Stats {
  readonly version: string;
  readonly store_name: string;
  readonly uptime_s: number;
  readonly hits: number;
  readonly misses: Readonly<Record<MissCause, number>>;
  /** Chunks that could be neither fetched nor stored, by code. */
  readonly failures: Readonly<Record<string, number>>;
  readonly lookups: { readonly calls: number; readonly asked: number; readonly hits: number; readonly unknown: number };
  readonly fetched: Moved;
  /** What was coded and stored. */
  readonly stored: Moved;
  /** Of stores: what was there already. */
  readonly present: number;
  readonly rungs: Readonly<Record<string, { readonly fetched: Moved; readonly stored: Moved }>>;
  /** The spaces used last, the last one first. */
  readonly spaces: readonly SpaceStats[];
  readonly times: { readonly fetch?: Times; readonly store?: Times; readonly lookup?: Times };
  /** Tensor bytes a second over the last ten. */
  readonly goodput_bytes_per_s: number;
  /** Counts of each of the last 60 seconds, the oldest first. */
  readonly seconds: readonly SecondCounts[];
  readonly store: StoreHealth;
  readonly lm?: LmStats;
}

/** One space. */
export interface SpaceStats {
  readonly space: string;
  readonly model: string;
  readonly rung: string;
  readonly hits: number;
  readonly misses: number;
  readonly stored: number;
}

/** What the lm:// server did. */
export interface LmStats {
  /** By command, then by outcome. */
  readonly requests: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly put_bytes: number;
  readonly got_bytes: number;
  readonly clients_lost: number;
}

/** Counts, and what they are. */
export interface StatsRecorder {
  readonly observer: Partial<DaemonEvents>;
  onLmRequest(event: LmEvent): void;
  onLmClientLost(): void;
  read(health: StoreHealth): Stats;
}

/** What a recorder has to know. */
export interface StatsOptions {
  readonly version: string;
  readonly storeName: string;
  /** What a space is, if that is known. */
  readonly describe: (space: string) => Namespace | undefined;
  /** A clock in milliseconds that only goes forward. Default: the process's. */
  readonly nowMs?: () => number;
}

const SECONDS = 60;
const GOODPUT_SECONDS = 10;
const TIMES = 2048;
const MOST_SPACES = 20;

type SpaceCounts = { -readonly [K in keyof SpaceStats]: SpaceStats[K] };
type LmCounts = { -readonly [K in Exclude<keyof LmStats, 'requests'>]: LmStats[K] } & { readonly requests: Record<string, Record<string, number>> };

/** Makes a recorder that begins to count now. */
export function statsRecorder({ version, storeName, describe, nowMs = () => performance.now() }: StatsOptions): StatsRecorder {
  const beganMs = nowMs();
  const seconds = recentSeconds(SECONDS, nowMs);
  const times = { fetch: recentTimes(TIMES), store: recentTimes(TIMES), lookup: recentTimes(TIMES) };
  const misses: Record<MissCause, number> = { absent: 0, other_length: 0, damaged: 0 };
  const lookups = { calls: 0, asked: 0, hits: 0, unknown: 0 };
  const failures: Record<string, number> = {};
  const [fetched, stored] = [moved(), moved()];
  const rungs: Record<string, { fetched: Moved; stored: Moved }> = {};
  const spaces = new Map<string, SpaceCounts>(); // the one used last at the end
  let present = 0;
  let lm: LmCounts | undefined;

  const spaceOf = (space: string, named = nameOf(describe(space))): SpaceCounts => {
    const counts = spaces.get(space) ?? { space, ...named, hits: 0, misses: 0, stored: 0 };
    spaces.delete(space);
    spaces.set(space, counts);
    if (spaces.size > MOST_SPACES) spaces.delete(spaces.keys().next().value ?? '');
    return counts;
  };
  const hit = (counts: SpaceCounts, rawBytes: number, storedBytes: number, ms: number): void => {
    counts.hits++;
    for (const total of [fetched, totalsOf(counts.rung).fetched]) add(total, rawBytes, storedBytes);
    const second = seconds.now();
    second.hits++;
    second.rawBytes += rawBytes;
    second.storedBytes += storedBytes;
    times.fetch.add(ms);
  };
  const miss = (counts: SpaceCounts, cause: MissCause, ms: number): void => {
    counts.misses++;
    misses[cause]++;
    seconds.now().misses++;
    times.fetch.add(ms);
  };
  const put = (counts: SpaceCounts, rawBytes: number, storedBytes: number, ms: number): void => {
    counts.stored++;
    seconds.now().stored++;
    times.store.add(ms);
    for (const total of [stored, totalsOf(counts.rung).stored]) add(total, rawBytes, storedBytes);
  };
  const failed = (code: string): void => {
    failures[code] = (failures[code] ?? 0) + 1;
    seconds.now().failed++;
  };
  const totalsOf = (rung: string): { fetched: Moved; stored: Moved } => (rungs[rung] ??= { fetched: moved(), stored: moved() });
  const lmCounts = (): LmCounts => (lm ??= { requests: {}, put_bytes: 0, got_bytes: 0, clients_lost: 0 });

  return {
    observer: {
      lookup({ asked, hits, unknown, ms }) {
        lookups.calls++;
        lookups.asked += asked;
        lookups.hits += hits;
        lookups.unknown += unknown;
        times.lookup.add(ms);
      },
      hit: ({ space, rawBytes, storedBytes, ms }) => hit(spaceOf(space), rawBytes, storedBytes, ms),
      miss: ({ space, cause, ms }) => miss(spaceOf(space), cause, ms),
      stored({ space, rawBytes, storedBytes, wasPresent, ms }) {
        if (!wasPresent) return put(spaceOf(space), rawBytes, storedBytes, ms);
        spaceOf(space).stored++;
        present++;
        seconds.now().stored++;
        times.store.add(ms);
      },
      failed: ({ code }) => failed(code),
    },

    onLmRequest({ command, outcome, rawBytes, storedBytes, ms, model, rung, code = outcome }) {
      const counts = lmCounts();
      const outcomes = (counts.requests[command] ??= {});
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
      if (command === 'exist' || outcome === 'refused' || model === undefined) return;
      // Of a miss nobody knows the rung: it is told with the model's.
      const space = spaceOf(`lm ${model}`, { model: `${model} (lm)`, rung: rung ?? '' });
      if (rung !== undefined) space.rung = rung;
      if (outcome === 'hit') {
        counts.got_bytes += rawBytes;
        hit(space, rawBytes, storedBytes, ms);
      } else if (outcome === 'stored') {
        counts.put_bytes += rawBytes;
        put(space, rawBytes, storedBytes, ms);
      } else if (outcome === 'miss') miss(space, 'absent', ms);
      else failed(code);
    },
    onLmClientLost: () => void lmCounts().clients_lost++,

    read(health) {
      const last = seconds.last();
      const [fetch, store, lookup] = [times.fetch.read(), times.store.read(), times.lookup.read()];
      return {
        version,
        store_name: storeName,
        uptime_s: Math.round((nowMs() - beganMs) / 1000),
        hits: fetched.chunks,
        misses,
        failures,
        lookups,
        fetched,
        stored,
        present,
        rungs,
        spaces: [...spaces.values()].reverse(),
        times: { ...(fetch && { fetch }), ...(store && { store }), ...(lookup && { lookup }) },
        goodput_bytes_per_s: last.slice(-GOODPUT_SECONDS).reduce((sum, { rawBytes }) => sum + rawBytes, 0) / GOODPUT_SECONDS,
        seconds: last,
        store: health,
        ...(lm && { lm }),
      };
    },
  };
}

function moved(): Moved {
  return { chunks: 0, raw_bytes: 0, stored_bytes: 0 };
}

function add(to: Moved, rawBytes: number, storedBytes: number): void {
  to.chunks++;
  to.raw_bytes += rawBytes;
  to.stored_bytes += storedBytes;
}

function nameOf(namespace: Namespace | undefined): { model: string; rung: string } {
  return { model: namespace?.model ?? 'not known', rung: rungName(namespace) };
}

/** Name of the rung of a namespace. */
export function rungName(namespace: Namespace | undefined): string {
  return namespace ? rungOf(namespace.quality ?? 'exact').name : 'not known';
}
