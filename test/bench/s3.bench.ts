// Range reads and puts of the s3 connector against a SeaweedFS on this machine, beside the AWS SDK's plain calls, in turns in the same
// run. CPU time is that of this process alone; the server's share of the cores moves the MB/s, not that.
import { GetObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { Pool } from 'undici';
import { table } from '../../connectors/engine/cli/table.js';
import { s3 } from '../../connectors/storage/s3.js';
import { checkOptions } from '../../connectors/storage/s3/options.js';
import { NO_PAYLOAD } from '../../connectors/storage/s3/payload.js';
import { signer } from '../../connectors/storage/s3/signer.js';
import { provideServers } from '../servers/provide.js';
import { BUCKET, OWNER, startSeaweed, type SeaweedServer } from '../servers/seaweedfs.js';
import { spread, type BenchContext, type BenchResult } from './bench.js';

/** One way to do one thing; figures are medians over the rounds. */
interface S3BenchRow {
  /** `get 1 MiB`, `put 4 MiB`, ... */
  readonly what: string;
  readonly contender: string;
  /** Value megabytes (10^6 bytes) per second. */
  readonly MBps: number;
  /** CPU seconds of this process, its threads and the kernel on its behalf, per GiB. */
  readonly cpuSecondsPerGiB: number;
  /** CPU of the plain SDK call over this one's: how many times less CPU this takes. */
  readonly cpuRatio: number;
}

type Work = (index: number, into: Uint8Array) => Promise<void>;

const MIB = 2 ** 20;
const OBJECT_BYTES = 64 * MIB;
const SIZES = [1 * MIB, 4 * MIB];
/** Calls in flight, as a fetch of a run has them. */
const IN_FLIGHT = 4;
const ROUND_BYTES = 64 * MIB;

/** Measures gets and puts of 1 and 4 MiB; takes about half a minute. */
export async function s3Bench({ rounds, note }: BenchContext): Promise<BenchResult> {
  note('s3: starting SeaweedFS');
  const server = await startSeaweed((await provideServers()).seaweedfs);
  try {
    const rows: S3BenchRow[] = [];
    for (const bytes of SIZES) {
      rows.push(...(await benchOne(`get ${bytes / MIB} MiB`, bytes, await getters(server, bytes), rounds)));
      rows.push(...(await benchOne(`put ${bytes / MIB} MiB`, bytes, putters(server, bytes), rounds)));
    }
    const cells = rows.map((row) => [row.what, row.contender, row.MBps.toFixed(0), row.cpuSecondsPerGiB.toFixed(2), row.cpuRatio.toFixed(1)]);
    return { rows, text: table(['WHAT', 'BY', 'MB/S', 'CPU S/GIB', 'SDK CPU / CPU'], cells) };
  } finally {
    await server.stop();
  }
}

async function getters({ endpoint, client }: SeaweedServer, bytes: number): Promise<Record<string, Work>> {
  const connector = s3({ endpoint, bucket: BUCKET, credentials: OWNER });
  const value = pattern(OBJECT_BYTES);
  await connector.put('object', value);
  const offsetOf = (index: number): number => (index * bytes) % OBJECT_BYTES;
  const plainGet = (index: number) => {
    const offset = offsetOf(index);
    return client.send(new GetObjectCommand({ Bucket: BUCKET, Key: 'object', Range: `bytes=${offset}-${offset + bytes - 1}` }));
  };
  const getters: Record<string, Work> = {
    'SDK, transformToByteArray': async (index, into) => into.set((await (await plainGet(index)).Body?.transformToByteArray()) ?? []),
    'SDK, stream': async (index, into) => {
      let at = 0;
      for await (const chunk of (await plainGet(index)).Body as AsyncIterable<Uint8Array>) {
        into.set(chunk, at);
        at += chunk.byteLength;
      }
    },
    // What the connector is without its own reading from the socket, and without its checks.
    'undici, signed': plainUndici(endpoint, offsetOf, bytes),
    s3: async (index, into) => void (await connector.get('object', { range: { offset: offsetOf(index), length: bytes }, into })),
  };
  for (const [name, get] of Object.entries(getters)) {
    const into = new Uint8Array(bytes);
    await get(3, into);
    if (Buffer.compare(into, value.subarray(offsetOf(3), offsetOf(3) + bytes)) !== 0) throw new Error(`${name} gave other bytes`);
  }
  return getters;
}

function plainUndici(endpoint: string, offsetOf: (index: number) => number, bytes: number): Work {
  const pool = new Pool(endpoint, { connections: IN_FLIGHT });
  const sign = signer(checkOptions({ endpoint, bucket: BUCKET }), async () => OWNER);
  return async (index, into) => {
    const offset = offsetOf(index);
    const { path, method, headers } = await sign({ method: 'GET', name: 'object', headers: { ...NO_PAYLOAD, range: `bytes=${offset}-${offset + bytes - 1}` } });
    let at = 0;
    await new Promise<void>((resolve, reject) => {
      pool.dispatch({ path, method, headers }, {
        onRequestStart: () => undefined,
        onResponseStart: () => undefined,
        onResponseData(_, chunk) {
          into.set(chunk, at);
          at += chunk.byteLength;
        },
        onResponseEnd: () => resolve(),
        onResponseError: (_, cause) => reject(cause),
      });
    });
  };
}

function putters({ endpoint, client }: SeaweedServer, bytes: number): Record<string, Work> {
  const connector = s3({ endpoint, bucket: BUCKET, credentials: OWNER });
  const value = pattern(bytes);
  return {
    SDK: async (index) => void (await client.send(new PutObjectCommand({ Bucket: BUCKET, Key: `sdk/${index % 16}`, Body: value }))),
    s3: (index) => connector.put(`own/${index % 16}`, value),
  };
}

interface Sample {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

async function benchOne(what: string, bytes: number, contenders: Record<string, Work>, rounds: number): Promise<S3BenchRow[]> {
  const entries = Object.entries(contenders);
  const calls = ROUND_BYTES / bytes;
  const memory = Array.from({ length: IN_FLIGHT }, () => new Uint8Array(bytes));
  const samples = new Map<string, Sample[]>(entries.map(([name]) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    const turn = round % entries.length;
    for (const [name, work] of [...entries.slice(turn), ...entries.slice(0, turn)]) {
      await inFlight(work, calls / 2, memory); // so that nobody pays for the garbage of the one before
      const sample = await measure(() => inFlight(work, calls, memory));
      if (round > 0) samples.get(name)?.push(sample); // the first one warms up
    }
  }
  const rows = entries.map(([contender]) => {
    const taken = samples.get(contender) ?? [];
    const cpuSecondsPerGiB = (spread(taken.map(({ cpuSeconds }) => cpuSeconds)).median * 2 ** 30) / ROUND_BYTES;
    return { what, contender, MBps: ROUND_BYTES / 1e6 / spread(taken.map(({ seconds }) => seconds)).median, cpuSecondsPerGiB };
  });
  return rows.map((row) => ({ ...row, cpuRatio: (rows[0]?.cpuSecondsPerGiB ?? NaN) / row.cpuSecondsPerGiB }));
}

async function inFlight(work: Work, calls: number, memory: readonly Uint8Array[]): Promise<void> {
  let next = 0;
  await Promise.all(
    memory.map(async (into) => {
      while (next < calls) await work(next++, into);
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

function pattern(bytes: number): Uint8Array {
  return new Uint8Array(bytes).map((_, i) => (i * 31) ^ (i >> 8));
}
