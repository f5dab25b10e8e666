// The real LMCache writes, we import; we export, the real LMCache reads: the same bytes each time, in each form that it has.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { exportLmcacheCommand } from '../../connectors/engine/cli/export-lmcache.js';
import { importLmcacheCommand } from '../../connectors/engine/cli/import-lmcache.js';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { decode } from '../../lib/codec/codec.js';
import { listStored } from '../../lib/store/listing.js';
import { runCommand } from '../engine/lmcache/run-command.js';
import { provideServers } from '../servers/provide.js';
import { startRedis, type RedisServer } from '../servers/redis.js';
import { OWNER, startSeaweed, type SeaweedServer } from '../servers/seaweedfs.js';
import { startLmcache, type Job, type JobObject, type Lmcache } from './lmcache-process.js';
import { bucketPlace, digest, folderPlace, redisPlace, type StoredPlace } from './stored-places.js';

// 4,096 bytes and more in every dtype: LMCache's S3 connector takes only chunks that fill its blocks of memory.
const SHAPE = [2, 4, 32, 16];
const MLA_SHAPE = [1, 4, 32, 32];
const DTYPES = ['float16', 'bfloat16', 'float32', 'uint8', 'float8_e4m3fn', 'float8_e5m2'];

let folder = '';
let redis: RedisServer;
let valkey: RedisServer;
let seaweed: SeaweedServer;
let lmcache: Lmcache;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kvreel-lmcache-live-'));
  const programs = await provideServers();
  redis = await startRedis(programs.redis6);
  valkey = await startRedis(programs.valkey9);
  seaweed = await startSeaweed(programs.seaweedfs);
  // LMCache names the bucket in the host, which nothing resolves here: as its proxy the server gets the requests all the same.
  lmcache = await startLmcache({ HTTP_PROXY: seaweed.endpoint });
  vi.stubEnv('AWS_ACCESS_KEY_ID', OWNER.accessKeyId);
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', OWNER.secretAccessKey);
});

afterAll(async () => {
  vi.unstubAllEnvs();
  await Promise.all([lmcache, redis, valkey, seaweed].map((started: { stop(): Promise<void> } | undefined) => started?.stop()));
  rmSync(folder, { recursive: true, force: true });
});

interface Case {
  readonly form: string;
  readonly place: () => StoredPlace | Promise<StoredPlace>;
  readonly jobs: readonly Pick<Job, 'dtype' | 'shape' | 'objects'>[];
  /** Options of the import, such as the shape where the form tells none. */
  readonly options?: readonly string[];
}

/** Keys that tell implementations apart: slashes, tags, negative hashes and such that are short of digits. */
function engineObjects(dtype: string, name: string): JobObject[] {
  const key = { model: 'org/model.v1', world_size: 2, worker_id: 1, dtype };
  return [
    { key: { ...key, hash: '-274654dcc82ea3f3' }, file: `${name}-0` },
    { key: { ...key, hash: 'c494c1984e88a11', tags: [['user', 'alice'], ['team', 'b%c']] }, file: `${name}-1` },
    { key: { ...key, hash: '0', worker_id: 0 }, file: `${name}-2` },
  ];
}

function objectObjects(name: string): JobObject[] {
  const key = { model: 'org/model.v1', kv_rank: 0x02010201 };
  return [
    { key: { ...key, hash: 'c2386b8e97ea5c6ad9811027ec05a51905ca24265dbae126101f62b099a108b2' }, file: `${name}-0` },
    { key: { ...key, hash: '00'.repeat(32), object_group: 17 }, file: `${name}-1` },
  ];
}

function allDtypes(form: string): Case['jobs'] {
  return DTYPES.map((dtype) => ({ dtype, shape: SHAPE, objects: engineObjects(dtype, `${form}-${dtype}`) }));
}

const mla = (form: string): Case['jobs'][number] => ({
  dtype: 'bfloat16',
  shape: MLA_SHAPE,
  objects: [{ key: { model: 'mla', world_size: 1, worker_id: 0, dtype: 'bfloat16', hash: 'abc' }, file: `${form}-mla` }],
});
const partial = (form: string): Case['jobs'][number] => ({
  dtype: 'bfloat16',
  shape: SHAPE,
  objects: [{ key: { model: 'partial', world_size: 1, worker_id: 0, dtype: 'bfloat16', hash: 'def' }, file: `${form}-partial`, tokens: 7 }],
});
const multiprocess = (form: string): Case['jobs'] => [{ dtype: 'bfloat16', shape: SHAPE, objects: objectObjects(form) }];
const shape = ['--shape', SHAPE.join()];

const CASES: readonly Case[] = [
  { form: 'fs', place: () => folderPlace(join(folder, 'fs')), jobs: [...allDtypes('fs'), mla('fs'), partial('fs')] },
  { form: 'fs-raw', place: () => folderPlace(join(folder, 'fs-raw')), jobs: allDtypes('fs-raw'), options: shape },
  { form: 'redis', place: () => redisPlace(redis, 'redis'), jobs: [...allDtypes('redis'), mla('redis'), partial('redis')] },
  { form: 'resp', place: () => redisPlace(redis, 'resp'), jobs: allDtypes('resp'), options: shape },
  { form: 'valkey', place: () => redisPlace(valkey, 'valkey'), jobs: allDtypes('valkey'), options: shape },
  { form: 's3', place: () => bucketPlace(seaweed, 'lmcache-engine'), jobs: allDtypes('s3'), options: [...shape, '--model', 'org/model.v1'] },
  { form: 'mp-fs', place: () => folderPlace(join(folder, 'mp-fs')), jobs: multiprocess('mp-fs'), options: [...shape, '--dtype', 'bf16'] },
  { form: 'mp-resp', place: () => redisPlace(redis, 'resp'), jobs: multiprocess('mp-resp'), options: [...shape, '--dtype', 'bf16'] },
  { form: 'mp-s3', place: () => bucketPlace(seaweed, 'lmcache-mp'), jobs: multiprocess('mp-s3') },
];

describe.each(CASES)('$form', ({ form, place: makePlace, jobs, options = [] }) => {
  it('LMCache writes and we read the same bytes; we write the same objects, and LMCache reads the same tensors', async () => {
    const place = await makePlace();
    const store = join(folder, `store-${form}`);
    const format = ['--format', form === 'valkey' ? 'resp' : form];
    const written = jobs.flatMap(({ objects }) => objects);

    for (const job of jobs) await lmcache.run({ ...job, form, action: 'write', place: place.theirs, objects: filesIn('written', job.objects) });
    const original = await place.contents();
    const tensors = written.map(({ file }) => digest(readFileSync(join(folder, `written-${file}`)))).sort();

    const imported = await runCommand(importLmcacheCommand, ['--from', place.ours, ...format, '--store', `fs://${store}`, ...options]);
    expect(imported.json).toMatchObject({ chunks: written.length, skipped: 0, foreign: 0 });
    expect((await storedTensors(store)).sort()).toEqual(tensors);

    await place.clear();
    expect(await place.contents()).toEqual({});
    const exported = await runCommand(exportLmcacheCommand, ['--to', place.ours, ...format, '--store', `fs://${store}`, '--chunk-tokens', String(SHAPE[2])]);
    expect(exported.json).toMatchObject({ objects: written.length, skipped: 0, others: 0 });
    expect(await place.contents()).toEqual(original);

    for (const job of jobs) await lmcache.run({ ...job, form, action: 'read', place: place.theirs, objects: filesIn('read', job.objects) });
    expect(written.map(({ file }) => digest(readFileSync(join(folder, `read-${file}`)))).sort()).toEqual(tensors);
    await place.clear();
  });
});

function filesIn(prefix: string, objects: readonly JobObject[]): JobObject[] {
  return objects.map((object) => ({ ...object, file: join(folder, `${prefix}-${object.file}`) }));
}

/** Digests of the tensors of a store's chunks. */
async function storedTensors(path: string): Promise<string[]> {
  const connector = filesystem({ path });
  const digests: string[] = [];
  for await (const { key } of listStored(connector, 'chunks')) digests.push(digest((await decode((await connector.get(key)) ?? new Uint8Array(), { key })).data));
  await connector.close();
  return digests;
}
