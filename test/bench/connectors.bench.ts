// What it costs to move sections between each storage and memory, beside plain clients; to verify them; and to look into a dead storage.
import { execFileSync } from 'node:child_process';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { breaker } from '../../connectors/storage/breaker.js';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { redis } from '../../connectors/storage/redis.js';
import { encode } from '../../lib/index.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import { checkObject } from '../../lib/store/stored-value.js';
import { freePort } from '../servers/server.js';
import type { BenchContext, BenchResult } from './bench.js';
import { latencyOfRounds, latencyTable, msOf, type Latency } from './latency.js';
import { redisTransfers } from './redis.bench.js';
import { s3Transfers } from './s3.bench.js';
import { compareTransfers, HOT_BYTES, MIB, patternOf, sizeText, transferTable, type TransferRow } from './transfers.js';

/** Lookups of a round. */
const REFUSALS = 1000;

/** Gets and puts of 1 and 4 MiB by each connector; takes about five minutes, and starts the servers. */
export async function connectorsBench(context: BenchContext): Promise<BenchResult> {
  const files = await filesystemTransfers(context);
  const servers = await redisTransfers(context);
  const rows = [...files.rows, ...servers.rows, ...(await s3Transfers(context)), ...(await verification(context))];
  const refusals = await deadBackend(context);
  return { rows: [...rows, ...refusals], text: [transferTable(rows), '', ...files.tools, ...servers.tools, '', latencyTable(refusals)].join('\n') };
}

async function filesystemTransfers({ rounds, note }: BenchContext): Promise<{ readonly rows: TransferRow[]; readonly tools: readonly string[] }> {
  const rows: TransferRow[] = [];
  const tools: string[] = [];
  for (const bytes of [MIB, 4 * MIB]) {
    note(`filesystem: ${sizeText(bytes)}`);
    const keys = HOT_BYTES / bytes;
    const directory = await mkdtemp(join(tmpdir(), 'kvreel-bench-'));
    try {
      const connector = filesystem({ path: join(directory, 'store') });
      const fileOf = (index: number): string => join(directory, `plain-${index % keys}`);
      const clients = [
        {
          name: 'node:fs, open read close',
          async get(index: number, into: Uint8Array) {
            const file = await open(fileOf(index));
            await file.read(into, 0, into.byteLength, 0);
            await file.close();
          },
          put: (index: number, value: Uint8Array) => writeFile(fileOf(index), value),
        },
        {
          name: 'kvreel',
          get: (index: number, into: Uint8Array) => connector.get(`bench/${index % keys}`, { into }),
          put: (index: number, value: Uint8Array) => connector.put(`bench/${index % keys}`, value),
          close: () => connector.close(),
        },
      ];
      rows.push(...(await compareTransfers({ store: 'files, cached', value: patternOf(bytes), clients, rounds })));
      tools.push(dd(fileOf(0), bytes));
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }
  return { rows, tools };
}

/** What GNU dd reaches on one of the files, many times over. */
function dd(file: string, bytes: number): string {
  const script = `for i in $(seq 64); do cat "$1"; done | dd of=/dev/null bs=${bytes} iflag=fullblock 2>&1 | tail -n 1`;
  return `files, cached: cat | dd ${sizeText(bytes)}: ${execFileSync('sh', ['-c', script, 'sh', file], { encoding: 'utf8' }).trim()}`;
}

/** What checking adds to a get: header, key and the checksum of every section, of memory that was just written. */
async function verification({ rounds }: BenchContext): Promise<TransferRow[]> {
  const layout = { order: 'mla', dtype: 'u8', layers: 1, tokens: 4096, kvHeads: 1, headDim: 1024 } as const;
  const object = await encode({ layout, data: patternOf(4 * MIB) }, { coder: 'raw', key: 'bench', groupTokens: 1024 });
  const clients = [
    { name: 'copy', get: async (_: number, into: Uint8Array) => into.set(object) },
    {
      name: 'copy, then verify',
      async get(_: number, into: Uint8Array) {
        into.set(object);
        checkObject(into, 'bench');
      },
    },
  ];
  return compareTransfers({ store: 'memory', value: object, clients, rounds });
}

/** What a lookup costs while nobody listens where the server was, with a breaker in front and without. */
async function deadBackend({ rounds, note }: BenchContext): Promise<Latency[]> {
  note('lookups in a dead Redis');
  const port = await freePort();
  const [guarded, bare] = [breaker(redis({ port })), redis({ port })];
  const refusal = (connector: StorageConnector): Promise<void> => connector.has('bench').then(() => Promise.reject(new Error('the dead server answered')), () => undefined);
  const [refused, tried]: [number[][], number[][]] = [[], []];
  try {
    while (guarded.state().state === 'closed') await refusal(guarded);
    for (let round = 0; round < rounds; round++) {
      refused.push(await times(REFUSALS, () => refusal(guarded)));
      tried.push(await times(REFUSALS / 10, () => refusal(bare)));
    }
  } finally {
    await Promise.all([guarded.close(), bare.close()]);
  }
  return [latencyOfRounds('lookup in a dead Redis, breaker open', refused), latencyOfRounds('the same without a breaker', tried)];
}

async function times(calls: number, work: () => Promise<unknown>): Promise<number[]> {
  const each: number[] = [];
  for (let i = 0; i < calls; i++) each.push(await msOf(work));
  return each;
}
