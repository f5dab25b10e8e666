// The real LMCache writes, we import; we export, the real LMCache reads: the same bytes each time, in each form that it has.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { exportLmcacheCommand } from '../../connectors/engine/cli/export-lmcache.js';
import { importLmcacheCommand } from '../../connectors/engine/cli/import-lmcache.js';
import { putCommand } from '../../connectors/engine/cli/put.js';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { decode } from '../../lib/codec/codec.js';
import { prefixHashes } from '../../lib/index.js';
import { listStored } from '../../lib/store/listing.js';
import { runCommand } from '../engine/lmcache/run-command.js';
import { provideServers } from '../servers/provide.js';
import { startRedis, type RedisServer } from '../servers/redis.js';
import { OWNER, startSeaweed, type SeaweedServer } from '../servers/seaweedfs.js';
import { startLmcache, type Job, type JobObject, type Lmcache } from './lmcache-process.js';
import { bucketPlace, digest, folderPlace, redisPlace, type StoredPlace } from './stored-places.js';

const CAPTURE = join(import.meta.dirname, '../../fixtures/captures/smollm2-gpl3-t0-256.safetensors');

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

describe('between forms', () => {
  it('what LMCache wrote to fs it reads from redis, resp and s3', async () => {
    const [source, store] = [folderPlace(join(folder, 'source')), join(folder, 'store-between')];
    const [job = mla('between')] = allDtypes('between');
    await lmcache.run({ ...job, form: 'fs', action: 'write', place: source.theirs, objects: filesIn('written', job.objects) });
    await runCommand(importLmcacheCommand, ['--from', source.ours, '--store', `fs://${store}`]);
    const targets: [string, StoredPlace][] = [
      ['redis', redisPlace(valkey, 'redis')],
      ['resp', redisPlace(redis, 'resp')],
      ['s3', await bucketPlace(seaweed, 'lmcache-between')],
    ];
    for (const [form, target] of targets) {
      await runCommand(exportLmcacheCommand, ['--to', target.ours, '--format', form, '--store', `fs://${store}`, '--chunk-tokens', String(SHAPE[2])]);
      await lmcache.run({ ...job, form, action: 'read', place: target.theirs, objects: filesIn(form, job.objects) });
      for (const { file } of job.objects) expect(digest(readFileSync(join(folder, `${form}-${file}`)))).toBe(digest(readFileSync(join(folder, `written-${file}`))));
      await target.clear();
    }
  });

  it('what we put ourselves LMCache’s multiprocess adapter reads as [2, layers, tokens, hidden]', async () => {
    const [layers, heads, tokens, chunkTokens, dim] = [30, 3, 256, 64, 64];
    const store = join(folder, 'store-own');
    await runCommand(putCommand, [CAPTURE, '--store', `fs://${store}`, '--chunk-tokens', String(chunkTokens)]);
    const place = folderPlace(join(folder, 'own'));
    await runCommand(exportLmcacheCommand, ['--to', place.ours, '--format', 'mp-fs', '--model', 'smollm2-135m', '--store', `fs://${store}`, '--chunk-tokens', String(chunkTokens)]);
    const { planes, tokenIds } = captureParts();
    const hashes = prefixHashes(tokenIds, { chunkTokens });
    const objects = hashes.map((hash, i) => ({ key: { model: 'smollm2-135m', kv_rank: 0x01000100, hash }, file: join(folder, `own-${i}`) }));
    await lmcache.run({ form: 'mp-fs', action: 'read', place: place.theirs, dtype: 'bfloat16', shape: [2, layers, chunkTokens, heads * dim], objects });
    objects.forEach(({ file }, chunk) => {
      const loaded = readFileSync(file);
      for (let row = 0; row < 2 * layers * chunkTokens * heads; row++) {
        const [head, token] = [row % heads, Math.floor(row / heads) % chunkTokens];
        const plane = Math.floor(row / heads / chunkTokens);
        const [kv, layer] = [Math.floor(plane / layers), plane % layers];
        const at = 2 * dim * (((layer * 2 + kv) * heads + head) * tokens + chunk * chunkTokens + token);
        if (Buffer.compare(loaded.subarray(2 * dim * row, 2 * dim * (row + 1)), planes.subarray(at, at + 2 * dim)) !== 0) expect.fail(`chunk ${chunk}, row ${row} differs`);
      }
    });
  });
});

/** The capture's data: `layers.<i>.k` and `.v` in turns, [kv_heads, tokens, head_dim] each, then the token ids. */
function captureParts(): { planes: Buffer; tokenIds: Int32Array } {
  const file = readFileSync(CAPTURE);
  const data = file.subarray(8 + Number(file.readBigUInt64LE(0)));
  return { planes: data.subarray(0, -1024), tokenIds: new Int32Array(new Uint8Array(data.subarray(-1024)).buffer) };
}

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
