import { expect, it } from 'vitest';
import { memory } from '../../../../connectors/storage/memory.js';
import { storeStats } from '../../../../lib/store/maintenance/stats.js';
import { keysOf } from '../connectors.js';
import { SMALL } from '../tensors.js';
import { chunkBytes, damage, dated, hashOf, HOUR, putRun } from './filled-store.js';

it('storeStats of an empty store counts nothing and knows no age', async () => {
  const none = { count: 0, bytes: 0 };
  expect(await storeStats(memory())).toEqual({ chunks: none, runs: none, others: none, namespaces: [], sizes: [] });
});

it('storeStats counts chunks, runs and what else lies there, by namespace, size and age', async () => {
  const { connector, clock } = dated();
  const oldestAtMs = clock.nowMs;
  const large = await putRun(connector, [hashOf(1), hashOf(2)], {}, { ...SMALL, tokens: 100 });
  clock.nowMs += HOUR;
  const small = await putRun(connector, [hashOf(3)], { model: 'other', adapter: 'lora', salt: 'secret', quality: 'q4' });
  await connector.put('something/else', new Uint8Array(77));
  const stats = await storeStats(connector);
  expect(stats).toMatchObject({ chunks: { count: 3, bytes: await chunkBytes(connector) }, runs: { count: 2 }, others: { count: 1, bytes: 77 }, oldestAtMs, newestAtMs: oldestAtMs + HOUR });
  expect(stats.namespaces).toMatchObject([
    { namespace: large.namespace, chunks: { count: 2 }, runs: { count: 1 }, description: { model: 'tiny', quality: 'exact', isSalted: false } },
    { namespace: small.namespace, chunks: { count: 1 }, runs: { count: 1 }, description: { model: 'other', adapter: 'lora', quality: 'q4', isSalted: true } },
  ]);
  expect(JSON.stringify(stats)).not.toContain('secret');
  const inSizes = stats.sizes.reduce((sum, { count, bytes }) => ({ count: sum.count + count, bytes: sum.bytes + bytes }), { count: 0, bytes: 0 });
  expect(inSizes).toEqual(stats.chunks);
  for (const { upToBytes, count, bytes } of stats.sizes) {
    expect(bytes).toBeLessThanOrEqual(count * upToBytes);
    expect(bytes).toBeGreaterThan((count * upToBytes) / 2);
  }
});

it('storeStats counts a run whose manifest is damaged, without a description', async () => {
  const connector = memory();
  await putRun(connector, [hashOf(1)]);
  await damage(connector, (await keysOf(connector)).find((key) => key.startsWith('runs/')) ?? '');
  const [namespace] = (await storeStats(connector)).namespaces;
  expect(namespace).toMatchObject({ runs: { count: 1 } });
  expect(namespace).not.toHaveProperty('description');
});
