// Places on real servers, without LMCache: what test/lmcache does not see of them.
import { Redis } from 'ioredis';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openPlace } from '../../../connectors/engine/lmcache/open-place.js';
import type { Place } from '../../../connectors/engine/lmcache/place.js';
import { provideServers, PROVIDE_TIMEOUT_MS } from '../../servers/provide.js';
import { startRedis, type RedisServer } from '../../servers/redis.js';
import { freePort } from '../../servers/server.js';
import { BUCKET, OWNER, startSeaweed, type SeaweedServer } from '../../servers/seaweedfs.js';

const PASSWORD = 'pass-word-of-a-test';

let folder = '';
let redis: RedisServer;
let seaweed: SeaweedServer;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kvreel-places-'));
  const programs = await provideServers();
  redis = await startRedis(programs.redis6, { config: [['requirepass', PASSWORD]] });
  seaweed = await startSeaweed(programs.seaweedfs);
  vi.stubEnv('AWS_ACCESS_KEY_ID', OWNER.accessKeyId);
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', OWNER.secretAccessKey);
}, PROVIDE_TIMEOUT_MS);

afterAll(async () => {
  vi.unstubAllEnvs();
  await Promise.all([redis, seaweed].map((started: { stop(): Promise<void> } | undefined) => started?.stop()));
  rmSync(folder, { recursive: true, force: true });
});

async function namesIn(place: Place): Promise<string[]> {
  const names: string[] = [];
  for await (const name of place.list({})) names.push(name);
  return names.sort();
}

async function failureOf(work: () => Promise<unknown>): Promise<Error & { code?: unknown }> {
  try {
    await work();
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error('it did not fail');
}

const redisUrl = (): string => `redis://:${PASSWORD}@127.0.0.1:${redis.port}`;
const bucketUrl = (bucket = BUCKET): string => `s3://${bucket}?endpoint=${seaweed.endpoint}`;

describe.each<[string, () => string]>([
  ['folders', () => `${join(folder, 'a')}, ${join(folder, 'b')}`],
  ['Redis', redisUrl],
  ['S3', bucketUrl],
])('%s', (_, url) => {
  it('give back what was put, list it, replace it, and miss what is not there', async () => {
    const { place } = await openPlace(url());
    const names = ['org_model@1@0@-274654dcc82ea3f3@half@user%alice b+c?&#.data', 'модель@1@0@0@half.data'];
    for (const name of names) await place.put(name, [Buffer.from('first')], { hash: '-274654dcc82ea3f3' });
    for (const name of names) await place.put(name, [Buffer.from('sec'), Buffer.from('ond')], { hash: '-274654dcc82ea3f3' });
    expect(await namesIn(place)).toEqual(expect.arrayContaining(names));
    for (const name of names) expect(Buffer.from((await place.get(name, {})) ?? []).toString()).toBe('second');
    expect(await place.get('nothing.data', {})).toBeUndefined();
    await place.close();
  });

  it('do nothing more for a call that was aborted', async () => {
    const { place } = await openPlace(url());
    const signal = AbortSignal.abort(new Error('changed my mind'));
    const before = await namesIn(place);
    await expect(place.put('late.data', [Buffer.from('x')], { hash: '0', signal })).rejects.toThrow();
    expect(await namesIn(place)).toEqual(before);
    await place.close();
  });
});

describe('what goes wrong has a code, and names no secret', () => {
  it.each<[string, string, () => string | Promise<string>]>([
    ['Redis that is not there', 'KV_CONNECTOR_UNAVAILABLE', async () => `redis://:${PASSWORD}@127.0.0.1:${await freePort()}`],
    ['Redis without a password', 'KV_CONNECTOR_REFUSED', () => `redis://127.0.0.1:${redis.port}`],
    ['Redis with a wrong password', 'KV_CONNECTOR_REFUSED', () => `redis://:not-${PASSWORD}@127.0.0.1:${redis.port}`],
    ['S3 that is not there', 'KV_CONNECTOR_UNAVAILABLE', async () => `s3://bucket?endpoint=http://127.0.0.1:${await freePort()}`],
    ['a bucket that is not there', 'KV_CONNECTOR_REFUSED', () => bucketUrl('no-such-bucket')],
  ])('%s: %s', async (_, code, url) => {
    const { place } = await openPlace(await url());
    const error = await failureOf(() => namesIn(place));
    expect(error).toMatchObject({ code });
    expect(`${error.message} ${place.label}`).not.toContain(PASSWORD);
    await place.close();
  });

  it('a Redis key that holds no string: KV_CORRUPT_OBJECT', async () => {
    const client = new Redis(redisUrl());
    await client.rpush('list', 'x');
    client.disconnect();
    const { place } = await openPlace(redisUrl());
    expect(await failureOf(() => place.get('list', {}))).toMatchObject({ code: 'KV_CORRUPT_OBJECT' });
    await place.close();
  });
});

it('a password of Redis may come from where LMCache looks for it', async () => {
  const { place, form } = await openPlace(`resp://127.0.0.1:${redis.port}`, { password: PASSWORD });
  expect(form.name).toBe('resp');
  expect(await namesIn(place)).toBeInstanceOf(Array);
  await place.close();
});
