// GET and SET of the redis connector over TCP and TLS beside ioredis on the same server, in turns in the same run; redis-benchmark's own throughput
// stands beside them. Values are some bytes below 2^n: docs/operations.md says why. CPU seconds are this process' alone.
import { execFileSync } from 'node:child_process';
import { Redis } from 'ioredis';
import { table } from '../../connectors/engine/cli/table.js';
import { redis } from '../../connectors/storage/redis.js';
import { provideServers } from '../servers/provide.js';
import { startRedis, type RedisServer } from '../servers/redis.js';
import { spread, spreadText, type BenchContext, type BenchResult, type Spread } from './bench.js';

/** One contender with one size of value; figures are over the rounds. */
export interface RedisBenchRow {
  readonly name: string;
  readonly verb: 'get' | 'put';
  readonly valueBytes: number;
  /** CPU seconds of this process per GiB of values. */
  readonly cpuSecondsPerGiB: Spread;
  /** Value megabytes (10^6 bytes) per second. */
  readonly MBps: Spread;
}

interface Contender {
  readonly name: string;
  get(key: string, into: Uint8Array): Promise<unknown>;
  /** Left out where it would be that of another contender. */
  put?(key: string, value: Uint8Array): Promise<unknown>;
  close(): Promise<unknown> | void;
}

const MIB = 1024 * 1024;
const SIZES = [MIB - 64, 4 * MIB - 64];
/** Calls in flight at once. */
const PARALLEL = 4;
/** Bytes that one round of a contender moves, about. */
const ROUND_BYTES = 256 * MIB;

/** A server to measure on, and how both clients reach it. */
interface Place {
  readonly name: string;
  readonly server: RedisServer;
  readonly access: { readonly host: string; readonly port: number; readonly tls?: { readonly ca: string } };
}

/** Measures get and put of 1 and 4 MiB on the system's Redis 7, with TLS too, (Redis 6.2 where there is none) and Valkey 9. Takes some minutes. */
export async function redisBench({ rounds, note }: BenchContext): Promise<BenchResult> {
  const { redis6, redis7, valkey9 } = await provideServers();
  const rows: RedisBenchRow[] = [];
  const peers: string[] = [];
  const settings = [
    { name: 'Valkey 9', program: valkey9, tls: false },
    ...(redis7 === undefined ? [{ name: 'Redis 6.2', program: redis6, tls: false }] : [false, true].map((tls) => ({ name: tls ? 'Redis 7, TLS' : 'Redis 7', program: redis7, tls }))),
  ];
  for (const { name, program, tls } of settings) {
    const server = await startRedis(program, { tls });
    const place = { name, server, access: { host: 'localhost', port: server.port, ...(tls && { tls: { ca: server.certificate() } }) } };
    try {
      for (const valueBytes of SIZES) {
        note(`redis: ${name}, ${sizeText(valueBytes)}`);
        rows.push(...(await benchOne(place, valueBytes, rounds)));
        if (!tls) peers.push(...redisBenchmark(place, valueBytes));
      }
    } finally {
      await server.stop();
    }
  }
  const cells = rows.map((row) => [row.name, row.verb, sizeText(row.valueBytes), spreadText(row.cpuSecondsPerGiB, 3), spreadText(row.MBps)]);
  return { rows, text: `${table(['WHAT', 'VERB', 'VALUE', 'CPU S/GIB', 'MB/S'], cells)}\n${peers.join('\n')}` };
}

async function benchOne(place: Place, valueBytes: number, rounds: number): Promise<RedisBenchRow[]> {
  const keys = Array.from({ length: PARALLEL * 2 }, (_, i) => `bench/${i}`);
  const value = new Uint8Array(valueBytes).map((_, i) => (i * 31) ^ (i >> 8));
  const intos = Array.from({ length: PARALLEL }, () => new Uint8Array(valueBytes));
  const contenders = [ours(place, true), ours(place, false), plain(place)];
  const repeats = Math.max(1, Math.round(ROUND_BYTES / valueBytes / PARALLEL));

  const runs = {
    put: (contender: Contender) => inParallel(repeats, async (lane, i) => contender.put?.(keys[(lane + i * PARALLEL) % keys.length] ?? '', value)),
    get: (contender: Contender) => inParallel(repeats, (lane, i) => contender.get(keys[(lane + i * PARALLEL) % keys.length] ?? '', intos[lane] ?? value)),
  };
  const samples = new Map<string, { cpu: number[]; speed: number[] }>();
  try {
    for (let round = -1; round < rounds; round++) {
      // Whoever goes first changes each round. Round -1 warms up: connections made, memory touched.
      const turn = Math.max(0, round) % contenders.length;
      for (const contender of [...contenders.slice(turn), ...contenders.slice(0, turn)]) {
        for (const verb of ['put', 'get'] as const) {
          if (contender[verb] === undefined) continue;
          const { cpuSeconds, seconds } = await measure(() => runs[verb](contender));
          if (round < 0) continue;
          const bytes = repeats * PARALLEL * valueBytes;
          const sample = samples.get(`${contender.name} ${verb}`) ?? { cpu: [], speed: [] };
          sample.cpu.push((cpuSeconds * 2 ** 30) / bytes);
          sample.speed.push(bytes / seconds / 1e6);
          samples.set(`${contender.name} ${verb}`, sample);
        }
      }
    }
    for (const into of intos) if (Buffer.compare(into, value) !== 0) throw new Error('other bytes came back');
  } finally {
    for (const contender of contenders) await contender.close();
  }
  return (['get', 'put'] as const).flatMap((verb) =>
    contenders.flatMap(({ name }) => {
      const sample = samples.get(`${name} ${verb}`);
      return sample === undefined ? [] : [{ name, verb, valueBytes, cpuSecondsPerGiB: spread(sample.cpu), MBps: spread(sample.speed) }];
    }),
  );
}

function ours({ name, access }: Place, isPooled: boolean): Contender {
  const connector = redis(access);
  return {
    name: `${name}: kvreel${isPooled ? '' : ', into new memory'}`,
    get: (key, into) => connector.get(key, isPooled ? { into } : {}),
    ...(isPooled && { put: (key: string, value: Uint8Array) => connector.put(key, value) }),
    close: () => connector.close(),
  };
}

function plain({ name, access }: Place): Contender {
  const client = new Redis({ ...access });
  return {
    name: `${name}: ioredis`,
    get: (key) => client.getBuffer(key),
    put: (key, value) => client.set(key, Buffer.from(value.buffer)),
    close: () => client.disconnect(),
  };
}

async function inParallel(repeats: number, work: (lane: number, i: number) => Promise<unknown>): Promise<void> {
  const lanes = Array.from({ length: PARALLEL }, async (_, lane) => {
    for (let i = 0; i < repeats; i++) await work(lane, i);
  });
  await Promise.all(lanes);
}

async function measure(work: () => Promise<void>): Promise<{ readonly cpuSeconds: number; readonly seconds: number }> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  await work();
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { cpuSeconds: (user + system) / 1e6, seconds };
}

/** What the server's own C program reaches, which throws the values away. */
function redisBenchmark({ name, access }: Place, valueBytes: number): string[] {
  const count = Math.round(ROUND_BYTES / valueBytes);
  const args = ['-p', String(access.port), '-d', String(valueBytes), '-n', String(count), '-c', String(PARALLEL), '-t', 'set,get', '--csv'];
  let output: string;
  try {
    output = execFileSync('redis-benchmark', args, { encoding: 'utf8' });
  } catch {
    return [`${name}: redis-benchmark is not there or failed`];
  }
  return [...output.matchAll(/^"(SET|GET)","([\d.]+)"/gm)].map(([, verb = '', perSecond]) => {
    const speed = (Number(perSecond) * valueBytes) / 1e6;
    return `${name}: redis-benchmark ${verb.toLowerCase()} ${sizeText(valueBytes)}: ${speed.toFixed(0)} MB/s`;
  });
}

function sizeText(bytes: number): string {
  return `${Math.ceil(bytes / MIB)} MiB - 64`;
}
