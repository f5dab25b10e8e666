// Put and get of the filesystem connector, and of a KvStore on it with coder raw, beside plain write + rename and read of the same bytes
// with the same durability, in turns in the same run. All read into memory that is allocated once: fresh memory would hide what is compared.
import { constants } from 'node:fs';
import { mkdtemp, open, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { KvStore } from '../../lib/index.js';

/** One measured operation; figures are over all rounds. */
export interface FilesystemBenchRow {
  readonly name: string;
  /** Value megabytes (10^6 bytes) per second at the median. */
  readonly MBps: number;
  /** Median milliseconds of one operation. */
  readonly median: number;
  /** 99th percentile in milliseconds; with few rounds, the slowest. */
  readonly p99: number;
  /** CPU seconds of this process, its threads and the kernel on its behalf, per GiB. */
  readonly cpuSecondsPerGiB: number;
  /** Speed over that of the plain peer in the same run; 1 for the peer itself. */
  readonly ratio: number;
}

interface Sample {
  readonly ms: number;
  readonly cpuSeconds: number;
}

interface Contender {
  put(): Promise<void>;
  get(): Promise<void>;
}

const KIB = 1024;
const SIZES = [
  { label: '64 KiB', bytes: 64 * KIB, rounds: 200 },
  { label: '32 MiB', bytes: 32 * KIB * KIB, rounds: 15 },
];

/** Measures each size with and without durability; takes about ten seconds and 100 MB under the system's temp directory. */
export async function filesystemBench(): Promise<FilesystemBenchRow[]> {
  const rows: FilesystemBenchRow[] = [];
  for (const size of SIZES) {
    for (const durable of [false, true]) rows.push(...(await benchOne(size, durable)));
  }
  return rows;
}

async function benchOne(size: (typeof SIZES)[number], durable: boolean): Promise<FilesystemBenchRow[]> {
  const directory = await mkdtemp(join(tmpdir(), 'kvreel-bench-'));
  const connector = filesystem({ path: join(directory, 'store'), durable });
  const value = new Uint8Array(size.bytes).map((_, i) => (i * 31) ^ (i >> 8));
  const into = new Uint8Array(size.bytes);
  // The tensor that these bytes are, of a layout that takes part in nothing.
  const geometry = { order: 'mla', dtype: 'u8', layers: 1, kvHeads: 1, headDim: KIB } as const;
  const tensor = { layout: { ...geometry, tokens: size.bytes / KIB }, data: value };
  const store = new KvStore({ connector, namespace: { model: 'bench', geometry }, coder: 'raw' });
  const contenders: Record<string, Contender> = {
    plain: plainFile(directory, { value, into, durable }),
    filesystem: { put: () => connector.put('chunk', value), get: async () => void (await connector.get('chunk', { into })) },
    'store raw': { put: () => store.put('a1', tensor), get: async () => void (await store.fetch('a1', { into })) },
  };
  try {
    const samples = await takeTurns(contenders, size.rounds);
    for (const [name, contender] of Object.entries(contenders)) {
      into.fill(0);
      await contender.get();
      if (Buffer.compare(into, value) !== 0) throw new Error(`${name} gave other bytes back`);
    }
    const suffix = `${size.label}${durable ? ' durable' : ''}`;
    return (['put', 'get', 'put+get'] as const).flatMap((verb) => {
      const rows = [...samples].map(([name, taken]) => summary(`${name} ${verb} ${suffix}`, size.bytes, taken[verb]));
      return rows.map((row) => ({ ...row, ratio: (rows[0]?.median ?? NaN) / row.median }));
    });
  } finally {
    await store.close();
    await connector.close();
    await rm(directory, { recursive: true, force: true });
  }
}

/** What a careful program without the connector does: temp file, rename, and a read into its own memory. */
function plainFile(
  directory: string,
  { value, into, durable }: { readonly value: Uint8Array; readonly into: Uint8Array; readonly durable: boolean },
): Contender {
  const path = join(directory, 'plain');
  const temp = join(directory, 'plain.tmp');
  return {
    async put() {
      const file = await open(temp, 'wx', 0o600);
      await file.write(value, 0, value.byteLength, 0);
      if (durable) await file.datasync();
      await file.close();
      await rename(temp, path);
      if (!durable) return;
      const parent = await open(directory, constants.O_RDONLY);
      await parent.sync();
      await parent.close();
    },
    async get() {
      const file = await open(path, constants.O_RDONLY);
      const { bytesRead } = await file.read(into, 0, into.byteLength, 0);
      await file.close();
      if (bytesRead !== into.byteLength) throw new Error(`plain read gave ${bytesRead} bytes`);
    },
  };
}

type Samples = Record<'put' | 'get' | 'put+get', Sample[]>;

async function takeTurns(contenders: Readonly<Record<string, Contender>>, rounds: number): Promise<Map<string, Samples>> {
  const entries = Object.entries(contenders);
  const samples = new Map(entries.map(([name]) => [name, noSamples()]));
  for (const [, contender] of entries) await round(contender, noSamples()); // warm-up: directories made, memory touched
  for (let i = 0; i < rounds; i++) {
    // Whoever goes first changes each round, so that none always meets another's write-back.
    const turn = i % entries.length;
    for (const [name, contender] of [...entries.slice(turn), ...entries.slice(0, turn)]) await round(contender, samples.get(name) ?? noSamples());
  }
  return samples;
}

async function round(contender: Contender, samples: Samples): Promise<void> {
  const put = await measure(() => contender.put());
  const get = await measure(() => contender.get());
  samples.put.push(put);
  samples.get.push(get);
  samples['put+get'].push({ ms: put.ms + get.ms, cpuSeconds: put.cpuSeconds + get.cpuSeconds });
}

async function measure(work: () => Promise<void>): Promise<Sample> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  await work();
  const ms = performance.now() - start;
  const { user, system } = process.cpuUsage(cpu);
  return { ms, cpuSeconds: (user + system) / 1e6 };
}

function noSamples(): Samples {
  return { put: [], get: [], 'put+get': [] };
}

function summary(name: string, bytes: number, samples: readonly Sample[]): FilesystemBenchRow {
  const sorted = samples.map(({ ms }) => ms).sort((a, b) => a - b);
  const median = sorted[sorted.length >> 1] ?? NaN;
  const p99 = sorted[Math.ceil(sorted.length * 0.99) - 1] ?? NaN;
  const cpuSeconds = samples.reduce((sum, sample) => sum + sample.cpuSeconds, 0);
  const cpuSecondsPerGiB = (cpuSeconds * 2 ** 30) / (bytes * samples.length);
  return { name, MBps: bytes / median / 1000, median, p99, cpuSecondsPerGiB, ratio: 1 };
}
