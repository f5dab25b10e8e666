// The real LMCache with remote_url lm://, and our server instead of its own.
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { LmEvent } from '../../connectors/engine/lm/events.js';
import { startLmServer, type LmServer } from '../../connectors/engine/lm/server.js';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { inspect } from '../../lib/codec/codec.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import { listStored } from '../../lib/store/listing.js';
import { lmcachePython, startLmcache, type Job, type JobObject, type Lmcache } from './lmcache-process.js';

const HEADS = { kvHeads: 2, headDim: 8 };
const SHAPE = [2, 4, 32, 16];
const DTYPES = ['float16', 'bfloat16', 'float32', 'uint8', 'float8_e4m3fn', 'float8_e5m2'];

let folder = '';
let lmcache: Lmcache;
let connector: StorageConnector;
let server: LmServer | undefined;
let events: LmEvent[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kvreel-lm-live-'));
  lmcache = await startLmcache({});
});

afterEach(stop);

afterAll(async () => {
  await lmcache?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** A server over the files of `name`, as after a restart. */
async function start(name: string): Promise<LmServer> {
  await stop();
  events = [];
  connector = filesystem({ path: join(folder, name) });
  server = await startLmServer({ connector, port: 0, geometry: HEADS, events: { onRequest: (event) => void events.push(event) } });
  return server;
}

async function stop(): Promise<void> {
  await server?.close();
  await connector?.close();
  server = undefined;
}

/** Keys that tell implementations apart, and a chunk that is not full. */
function objects(dtype: string): JobObject[] {
  const key = { model: 'org/model.v1', world_size: 2, worker_id: 1, dtype };
  return [
    { key: { ...key, hash: '-274654dcc82ea3f3' }, file: `${dtype}-0` },
    { key: { ...key, hash: 'c494c1984e88a11', tags: [['user', 'alice'], ['team', 'b%c']] }, file: `${dtype}-1` },
    { key: { ...key, hash: '0', worker_id: 0 }, file: `${dtype}-2` },
    { key: { ...key, hash: 'def' }, file: `${dtype}-3`, tokens: 7 },
  ];
}

const filesIn = (action: string, list: readonly JobObject[]): JobObject[] => list.map((object) => ({ ...object, file: join(folder, `${action}-${object.file}`) }));
const jobOf = (action: Job['action'], dtype: string, port: number, shape: readonly number[] = SHAPE, list = objects(dtype)): Job => ({
  form: 'lm',
  action,
  place: { host: '127.0.0.1', port },
  dtype,
  shape,
  objects: filesIn(action, list),
});

function expectSame(list: readonly JobObject[]): void {
  for (const { file } of list) {
    // Written by their names, so that the bits of both are drawn alike only if they are the same object.
    expect(Buffer.compare(readFileSync(join(folder, `write-${file}`)), readFileSync(join(folder, `read-${file}`))), file).toBe(0);
  }
}

describe('LMCServerConnector', () => {
  it.each(DTYPES)('puts %s, and gets the same after a restart of the server, partial chunks too', async (dtype) => {
    await lmcache.run(jobOf('write', dtype, (await start(dtype)).port));
    const { port } = await start(dtype);
    await lmcache.run(jobOf('read', dtype, port));
    expectSame(objects(dtype));
    expect(events.map(({ outcome }) => outcome)).toEqual(['hit', 'hit', 'hit', 'hit']);
  });

  it('stores tensors as what they are, heads and all', async () => {
    const { port } = await start('layouts');
    await lmcache.run(jobOf('write', 'bfloat16', port));
    const layouts: unknown[] = [];
    for await (const { key } of listStored(connector, 'chunks')) layouts.push(inspect((await connector.get(key)) ?? new Uint8Array()).layout);
    expect(layouts.filter((layout) => (layout as { order: string }).order === 'lmcache_2ltd')).toHaveLength(4);
    expect(layouts).toContainEqual({ order: 'lmcache_2ltd', dtype: 'bf16', layers: 4, tokens: 7, ...HEADS });
  });

  it('puts and gets MLA', async () => {
    const list = [{ key: { model: 'mla', world_size: 1, worker_id: 0, dtype: 'bfloat16', hash: 'abc' }, file: 'mla' }];
    const shape = [1, 4, 32, 32];
    await lmcache.run(jobOf('write', 'bfloat16', (await start('mla')).port, shape, list));
    await lmcache.run(jobOf('read', 'bfloat16', (await start('mla')).port, shape, list));
    expectSame(list);
  });

  it('misses what was not put', async () => {
    const { port } = await start('empty');
    await expect(lmcache.run(jobOf('read', 'bfloat16', port))).rejects.toThrow('was not found');
    expect(events).toMatchObject([{ command: 'get', outcome: 'miss' }]);
  });
});

describe("LMCache's own basic_check", () => {
  it('passes in mode test_remote', async () => {
    const { port } = await start('basic');
    const env = { ...process.env, LMCACHE_REMOTE_URL: `lm://127.0.0.1:${port}`, LMCACHE_REMOTE_SERDE: 'naive', LMCACHE_MAX_LOCAL_CPU_SIZE: '0.2', LMCACHE_TRACK_USAGE: 'false' };
    const { stdout } = await promisify(execFile)(lmcachePython(), ['-m', 'lmcache.v1.basic_check', '--mode', 'test_remote'], { env, timeout: 50_000, maxBuffer: 1 << 24 });
    const passed = [...stdout.matchAll(/^\| (EXISTS \(non-exist\)|PUT|EXISTS \(exist\)|GET) .*?(\d+)\/(\d+) \|/gm)].map(([, name, count, all]) => [name, count, all]);
    expect(passed).toEqual(['EXISTS (non-exist)', 'PUT', 'EXISTS (exist)', 'GET'].map((name) => [name, '5', '5']));
  });
});
