// Moving values of one size into memory that is used again, by several clients in turns in the same run. CPU time is that of this process
// alone: what a server on the same cores takes moves the MB/s, not that.
import { table } from '../../connectors/engine/cli/table.js';
import { spread, spreadText, type Spread } from './bench.js';

/** One client of a store. The first one of a comparison is the plain one that the others are compared with. */
export interface Client {
  readonly name: string;
  /** Reads value number `index` into `into`. */
  readonly get?: (index: number, into: Uint8Array) => Promise<unknown>;
  readonly put?: (index: number, value: Uint8Array) => Promise<unknown>;
  close?(): Promise<unknown> | void;
}

/** One client with one verb and size; figures are over the rounds. */
export interface TransferRow {
  readonly store: string;
  readonly verb: 'get' | 'put';
  readonly valueBytes: number;
  readonly client: string;
  /** Value megabytes (10^6 bytes) per second. */
  readonly MBps: Spread;
  readonly cpuSecondsPerGiB: Spread;
  /** CPU of the plain client over this one's, medians: how many times less this takes. */
  readonly timesLessCpu: number;
}

export interface Comparison {
  readonly store: string;
  /** What every get must give. Puts put it. */
  readonly value: Uint8Array;
  readonly clients: readonly Client[];
  readonly rounds: number;
}

export const MIB = 2 ** 20;
/** Calls in flight, as a fetch of a run has them. */
export const IN_FLIGHT = 4;
/** A round of the fastest gets takes some 15 ms: less is not measured but guessed. */
const ROUND_BYTES = { put: 64 * MIB, get: 256 * MIB };
/** Gets before the first that counts: a client that serves has its code compiled, which takes some thousand calls. */
const WARM_UP_GETS = 2048;
/** Bytes that the keys of a comparison hold together: few enough to stay in a processor's cache, so that the client is measured and not the memory. */
export const HOT_BYTES = 8 * MIB;

/** Bytes that compress badly and differ from place to place. */
export function patternOf(bytes: number): Uint8Array {
  return new Uint8Array(bytes).map((_, i) => (i * 31) ^ (i >> 8));
}

/** Lets the clients take turns: puts first, then gets. Closes them. */
export async function compareTransfers({ store, value, clients, rounds }: Comparison): Promise<TransferRow[]> {
  const memory = Array.from({ length: IN_FLIGHT }, () => new Uint8Array(value.byteLength));
  const rows: TransferRow[] = [];
  try {
    for (const verb of ['put', 'get'] as const) {
      const calls = Math.ceil(ROUND_BYTES[verb] / value.byteLength);
      const taking = clients.filter((client) => client[verb] !== undefined);
      const samples = new Map(taking.map(({ name }) => [name, [] as Sample[]]));
      const workOf = (client: Client) => (index: number, lane: Uint8Array): Promise<unknown> => (verb === 'get' ? client.get?.(index, lane) : client.put?.(index, value)) ?? Promise.resolve();
      if (verb === 'get') for (const client of taking) await inFlight(workOf(client), WARM_UP_GETS, memory);
      for (let round = 0; round <= rounds; round++) {
        const turn = round % Math.max(1, taking.length);
        for (const client of [...taking.slice(turn), ...taking.slice(0, turn)]) {
          const work = workOf(client);
          await inFlight(work, calls / 2, memory); // so that nobody pays for the garbage of the one before
          const sample = await measure(() => inFlight(work, calls, memory));
          if (round > 0) samples.get(client.name)?.push(sample); // the first round warms up
        }
      }
      rows.push(...summary({ store, verb, valueBytes: value.byteLength }, calls * value.byteLength, samples));
    }
    for (const client of clients) await checkBytes(client, value);
  } finally {
    for (const client of clients) await client.close?.();
  }
  return rows;
}

/** The rows for people. */
export function transferTable(rows: readonly TransferRow[]): string {
  const cells = rows.map((row) => [
    row.store,
    `${row.verb} ${sizeText(row.valueBytes)}`,
    row.client,
    spreadText(row.MBps),
    spreadText(row.cpuSecondsPerGiB, 3),
    row.timesLessCpu.toFixed(1),
  ]);
  return table(['STORE', 'WHAT', 'BY', 'MB/S', 'CPU S/GIB', 'TIMES LESS CPU'], cells);
}

/** A size in MiB. */
export function sizeText(bytes: number): string {
  const whole = Math.ceil(bytes / MIB);
  return whole * MIB === bytes ? `${whole} MiB` : `${whole} MiB - ${whole * MIB - bytes}`;
}

interface Sample {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

async function inFlight(work: (index: number, lane: Uint8Array) => Promise<unknown>, calls: number, memory: readonly Uint8Array[]): Promise<void> {
  let next = 0;
  await Promise.all(
    memory.map(async (lane) => {
      while (next < calls) await work(next++, lane);
    }),
  );
}

async function measure(work: () => Promise<void>): Promise<Sample> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  await work();
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { seconds, cpuSeconds: (user + system) / 1e6 };
}

async function checkBytes({ name, get }: Client, value: Uint8Array): Promise<void> {
  const into = new Uint8Array(value.byteLength);
  await get?.(3, into);
  if (get && Buffer.compare(into, value) !== 0) throw new Error(`${name} gave other bytes`);
}

function summary(what: Pick<TransferRow, 'store' | 'verb' | 'valueBytes'>, bytes: number, samples: ReadonlyMap<string, readonly Sample[]>): TransferRow[] {
  const rows = [...samples].map(([client, taken]) => ({
    ...what,
    client,
    MBps: spread(taken.map(({ seconds }) => bytes / 1e6 / seconds)),
    cpuSecondsPerGiB: spread(taken.map(({ cpuSeconds }) => (cpuSeconds * 2 ** 30) / bytes)),
  }));
  return rows.map((row) => ({ ...row, timesLessCpu: (rows[0]?.cpuSecondsPerGiB.median ?? NaN) / row.cpuSecondsPerGiB.median }));
}
