import { mkdtempSync, readdirSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { filesystem } from '../../../../connectors/storage/filesystem.js';
import { memory } from '../../../../connectors/storage/memory.js';
import type { StorageConnector } from '../../../../lib/index.js';
import { collectGarbage } from '../../../../lib/store/maintenance/garbage.js';
import { keysOf } from '../connectors.js';
import { chunkBytes, damage, dated, hashOf, HOUR, putRun } from './filled-store.js';

const [A, B, C, D] = [hashOf(10), hashOf(11), hashOf(12), hashOf(13)];

/** Three runs of one chunk each, an hour apart. */
async function threeAges(): Promise<{ connector: StorageConnector; nowMs: number; now: () => number }> {
  const { connector, clock } = dated();
  for (const hash of [A, B, C]) {
    await putRun(connector, [hash]);
    clock.nowMs += HOUR;
  }
  return { connector, nowMs: clock.nowMs, now: () => clock.nowMs };
}

async function hashesOf(connector: StorageConnector, kind: string): Promise<string[]> {
  return (await keysOf(connector)).filter((key) => key.startsWith(`${kind}/`)).map((key) => key.split('/')[2] ?? '');
}

describe('collectGarbage', () => {
  it('without bounds leaves a sound store as it is', async () => {
    const { connector, now } = await threeAges();
    const before = await keysOf(connector);
    const garbage = await collectGarbage(connector, { now });
    expect(garbage).toMatchObject({ expired: { count: 0 }, evicted: { count: 0 }, brokenRuns: { count: 0 }, left: { count: 3, bytes: await chunkBytes(connector) } });
    expect(await keysOf(connector)).toEqual(before);
  });

  it('deletes chunks by age, and the runs that then lack one', async () => {
    const { connector, now } = await threeAges();
    const garbage = await collectGarbage(connector, { now, olderThanMs: 1.5 * HOUR });
    expect(garbage).toMatchObject({ expired: { count: 2 }, brokenRuns: { count: 2 }, left: { count: 1 } });
    expect(await hashesOf(connector, 'chunks')).toEqual([C]);
    expect(await hashesOf(connector, 'runs')).toEqual([C]);
  });

  it('keeps a bound by deleting what was stored longest ago', async () => {
    const { connector, now } = await threeAges();
    const total = await chunkBytes(connector);
    const garbage = await collectGarbage(connector, { now, maxBytes: total - 1 });
    expect(garbage).toMatchObject({ evicted: { count: 1 }, brokenRuns: { count: 1 }, left: { count: 2, bytes: await chunkBytes(connector) } });
    expect(await hashesOf(connector, 'chunks')).toEqual([B, C]);
  });

  it('deletes no more than the bound asks for where all were stored at once', async () => {
    const { connector, clock } = dated();
    const hashes = Array.from({ length: 10 }, (_, i) => hashOf(100 + i));
    for (const hash of hashes) await putRun(connector, [hash]);
    const total = await chunkBytes(connector);
    const largest = Math.max(...(await sizes(connector)));
    await collectGarbage(connector, { now: () => clock.nowMs, maxBytes: total / 2 });
    const left = await chunkBytes(connector);
    expect(left).toBeLessThanOrEqual(total / 2);
    expect(left).toBeGreaterThan(total / 2 - largest);
  });

  it('a bound of 0 empties the store', async () => {
    const { connector, now } = await threeAges();
    await collectGarbage(connector, { now, maxBytes: 0 });
    expect(await keysOf(connector)).toEqual([]);
  });

  it('takes chunks without an age first, and never for their age', async () => {
    const connector = memory();
    const { connector: younger, clock } = dated(connector);
    await putRun(connector, [A]);
    await putRun(younger, [B]);
    const kept = await collectGarbage(younger, { now: () => clock.nowMs, olderThanMs: HOUR });
    expect(kept).toMatchObject({ expired: { count: 0 }, unknownAges: 1 });
    await collectGarbage(younger, { now: () => clock.nowMs, maxBytes: (await chunkBytes(connector)) - 1 });
    expect(await hashesOf(connector, 'chunks')).toEqual([B]);
  });

  it('deletes orphans only if asked, not while their run may be on its way, and never a chunk of a run', async () => {
    const { connector, clock } = dated();
    await putRun(connector, [A, B]);
    await putRun(connector, [A, C]);
    const runOfC = (await keysOf(connector)).find((key) => key.startsWith('runs/') && key.endsWith(C)) ?? '';
    await connector.delete(runOfC);
    const now = (): number => clock.nowMs;
    expect(await collectGarbage(connector, { now, orphans: true })).toMatchObject({ orphaned: { count: 0 } });
    clock.nowMs += 2 * HOUR;
    expect(await collectGarbage(connector, { now })).toMatchObject({ orphaned: { count: 0 } });
    expect(await collectGarbage(connector, { now, orphans: true })).toMatchObject({ orphaned: { count: 1 }, brokenRuns: { count: 0 } });
    expect(await hashesOf(connector, 'chunks')).toEqual([A, B]);
  });

  it('calls nothing an orphan while a manifest cannot be read', async () => {
    const { connector, clock } = dated();
    await putRun(connector, [A]);
    await damage(connector, (await keysOf(connector)).find((key) => key.startsWith('runs/')) ?? '');
    clock.nowMs += 2 * HOUR;
    await expect(collectGarbage(connector, { now: () => clock.nowMs, orphans: true })).rejects.toMatchObject({ code: 'KV_CORRUPT_OBJECT' });
    expect(await hashesOf(connector, 'chunks')).toEqual([A]);
    expect(await collectGarbage(connector, { now: () => clock.nowMs })).toMatchObject({ unreadableRuns: 1, brokenRuns: { count: 0 } });
  });

  it('lets the storage sweep first, except in a dry run', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'kvreel-gc-'));
    const connector = filesystem({ path: folder });
    try {
      await putRun(connector, [A]);
      const entries = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => /[0-9a-f]{64}$/.test(name));
      for (const name of entries) truncateSync(join(folder, name), 100);
      expect(await collectGarbage(connector, { dryRun: true })).toMatchObject({ swept: { count: 0 } });
      expect(await collectGarbage(connector)).toMatchObject({ swept: { count: 2, bytes: 200 }, left: { count: 0 } });
      expect(readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => /[0-9a-f]{64}$/.test(name))).toEqual([]);
    } finally {
      await connector.close();
      rmSync(folder, { recursive: true });
    }
  });

  it('a dry run tells the same and deletes nothing', async () => {
    const { connector, now } = await threeAges();
    await putRun(connector, [D, A]);
    const options = { now, olderThanMs: 1.5 * HOUR, maxBytes: 5000 };
    const before = await keysOf(connector);
    const dry = await collectGarbage(connector, { ...options, dryRun: true });
    expect(await keysOf(connector)).toEqual(before);
    expect(await collectGarbage(connector, options)).toEqual(dry);
    expect((await keysOf(connector)).length).toBeLessThan(before.length);
  });

  it('leaves other people\'s values alone', async () => {
    const { connector, now } = await threeAges();
    const others = ['chunks/not-ours', 'runs/x/y', 'model@1@0@a1@bf16', 'tenants/a/chunks/x'];
    for (const key of others) await connector.put(key, new Uint8Array(100));
    await collectGarbage(connector, { now, maxBytes: 0, orphans: true });
    expect(await keysOf(connector)).toEqual(others.sort());
  });

  it('stopped half way, it leaves whole values and can be run again', async () => {
    const { connector, now } = await threeAges();
    const controller = new AbortController();
    const reason = new Error('stop');
    const stopped = collectGarbage(connector, { now, maxBytes: 0, signal: controller.signal, onProgress: (step) => step === 'evicting chunks' && controller.abort(reason) });
    await expect(stopped).rejects.toBe(reason);
    for (const hash of await hashesOf(connector, 'chunks')) expect([A, B, C]).toContain(hash);
    await collectGarbage(connector, { now, maxBytes: 0 });
    expect(await keysOf(connector)).toEqual([]);
  });

  it.each([{ maxBytes: -1 }, { maxBytes: NaN }, { olderThanMs: -1 }, { olderThanMs: NaN }])('%o is refused', async (options) => {
    await expect(collectGarbage(memory(), options)).rejects.toBeInstanceOf(RangeError);
  });
});

async function sizes(connector: StorageConnector): Promise<number[]> {
  const found: number[] = [];
  for await (const { bytes } of connector.list('chunks/')) found.push(bytes);
  return found;
}
