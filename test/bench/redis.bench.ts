// GET and SET of the redis connector over TCP beside ioredis on the same server; what redis-benchmark reaches stands beside them. Values
// are some bytes below 2^n: docs/connectors.md says why.
import { execFileSync } from 'node:child_process';
import { Redis } from 'ioredis';
import { redis } from '../../connectors/storage/redis.js';
import { provideServers } from '../servers/provide.js';
import { startRedis, type RedisServer } from '../servers/redis.js';
import type { BenchContext } from './bench.js';
import { compareTransfers, HOT_BYTES, IN_FLIGHT, MIB, patternOf, sizeText, type Client, type TransferRow } from './transfers.js';

const SIZES = [MIB - 64, 4 * MIB - 64];

/** Gets and puts of 1 and 4 MiB on the system's Redis 7 (Redis 6.2 where there is none) and Valkey 9; takes about two minutes. */
export async function redisTransfers({ rounds, note }: BenchContext): Promise<{ readonly rows: TransferRow[]; readonly tools: readonly string[] }> {
  const { redis6, redis7, valkey9 } = await provideServers();
  const rows: TransferRow[] = [];
  const tools: string[] = [];
  for (const [store, program] of [[redis7 === undefined ? 'Redis 6.2' : 'Redis 7', redis7 ?? redis6], ['Valkey 9', valkey9]] as const) {
    const server = await startRedis(program);
    try {
      for (const bytes of SIZES) {
        note(`redis: ${store}, ${sizeText(bytes)}`);
        rows.push(...(await compareTransfers({ store, value: patternOf(bytes), clients: clientsOf(server, Math.floor(HOT_BYTES / bytes)), rounds })));
        tools.push(...redisBenchmark(store, server, bytes));
      }
    } finally {
      await server.stop();
    }
  }
  return { rows, tools };
}

function clientsOf({ port }: RedisServer, keys: number): Client[] {
  const plain = new Redis({ port });
  const connector = redis({ port });
  const keyOf = (index: number): string => `bench/${index % keys}`;
  return [
    {
      name: 'ioredis',
      get: async (index, into) => into.set((await plain.getBuffer(keyOf(index))) ?? []),
      put: (index, value) => plain.set(keyOf(index), Buffer.from(value.buffer, value.byteOffset, value.byteLength)),
      close: () => plain.disconnect(),
    },
    {
      name: 'kvreel',
      get: (index, into) => connector.get(keyOf(index), { into }),
      put: (index, value) => connector.put(keyOf(index), value),
      close: () => connector.close(),
    },
  ];
}

/** What the server's own C program reaches, which throws the values away. */
function redisBenchmark(store: string, { port }: RedisServer, bytes: number): string[] {
  const count = Math.round((256 * MIB) / bytes);
  const args = ['-p', String(port), '-d', String(bytes), '-n', String(count), '-c', String(IN_FLIGHT), '-t', 'set,get', '--csv'];
  let output: string;
  try {
    output = execFileSync('redis-benchmark', args, { encoding: 'utf8' });
  } catch {
    return [`${store}: redis-benchmark is not there or failed`];
  }
  return [...output.matchAll(/^"(SET|GET)","([\d.]+)"/gm)].map(
    ([, verb = '', perSecond]) => `${store}: redis-benchmark ${verb.toLowerCase()} ${sizeText(bytes)}: ${((Number(perSecond) * bytes) / 1e6).toFixed(0)} MB/s`,
  );
}
