// Times of single calls, where the slow ones matter as much as the usual ones.
import { table } from '../../connectors/engine/cli/table.js';
import { spread } from './bench.js';

export interface Latency {
  readonly what: string;
  /** Milliseconds that half of the calls stay below. */
  readonly p50: number;
  /** Milliseconds that 99 of 100 calls stay below. */
  readonly p99: number;
}

export async function msOf(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
}

/** Of the times in milliseconds of some calls. */
export function latencyOf(what: string, times: readonly number[]): Latency {
  const sorted = [...times].sort((a, b) => a - b);
  return { what, p50: sorted[Math.floor(sorted.length / 2)] ?? NaN, p99: sorted[Math.floor(sorted.length * 0.99)] ?? NaN };
}

/** Medians over rounds, so that one disturbed round does not make the 99th percentile. */
export function latencyOfRounds(what: string, rounds: readonly (readonly number[])[]): Latency {
  const each = rounds.map((times) => latencyOf(what, times));
  return { what, p50: spread(each.map(({ p50 }) => p50)).median, p99: spread(each.map(({ p99 }) => p99)).median };
}

/** The latencies for people. */
export function latencyTable(latencies: readonly Latency[]): string {
  return table(['WHAT', 'P50 MS', 'P99 MS'], latencies.map(({ what, p50, p99 }) => [what, p50.toFixed(3), p99.toFixed(3)]));
}
