import { expect, it } from 'vitest';
import { hotTier } from '../../connectors/engine/daemon/hot-tier.js';
import { memory } from '../../connectors/storage/memory.js';
import { storageConnectorContract } from '../contract/storage-connector.js';

let now = 0;

storageConnectorContract('memory in front of a store', {
  make: () => {
    now = 0;
    return hotTier(memory({ now: () => now }), { maxBytes: 64 * 2 ** 20, now: () => now });
  },
  advanceClock: (ms) => void (now += ms),
});

const bytesOf = (byte: number, length = 100): Uint8Array => new Uint8Array(length).fill(byte);

it('lends what went through it, and drops what was not used longest', async () => {
  const hot = hotTier(memory(), { maxBytes: 250 });
  await hot.put('a', bytesOf(1));
  await hot.put('b', bytesOf(2));
  expect(hot.held('a')).toEqual(bytesOf(1));
  await hot.put('c', bytesOf(3));
  expect(['a', 'b', 'c'].map((key) => hot.held(key) !== undefined)).toEqual([true, false, true]);
  expect(await hot.get('b')).toEqual(bytesOf(2));
  expect(hot.held('b')).toEqual(bytesOf(2));
  await hot.put('large', bytesOf(4, 251));
  expect(hot.held('large')).toBeUndefined();
  expect(hot.held('b')).toBeDefined();
});

it('forgets what is deleted, replaced or found damaged', async () => {
  const inner = memory();
  const hot = hotTier(inner, { maxBytes: 1000 });
  await hot.put('a', bytesOf(1));
  await hot.put('a', bytesOf(2));
  expect(hot.held('a')).toEqual(bytesOf(2));
  await hot.delete('a');
  expect(hot.held('a')).toBeUndefined();
  await hot.put('a', bytesOf(3));
  // Sound in the store, so damaged in memory only: it stays.
  expect(await hot.repair?.('a', () => true)).toMatchObject({ sound: 1, deleted: 0 });
  expect(hot.held('a')).toBeUndefined();
  expect(await inner.has('a')).toBe(true);
  expect(await hot.repair?.('a', () => false)).toMatchObject({ sound: 0, deleted: 1 });
  expect(await inner.has('a')).toBe(false);
});

it('does not remember what was read before it changed', async () => {
  const inner = memory();
  let release = (): void => undefined;
  const isHeld = new Promise<void>((resolve) => (release = resolve));
  const slow = { ...inner, get: async (key: string) => {
    const value = await inner.get(key);
    await isHeld;
    return value;
  } };
  await inner.put('a', bytesOf(1));
  const hot = hotTier(slow, { maxBytes: 1000 });
  const reading = hot.get('a');
  const deleting = hot.delete('a');
  release();
  await Promise.all([reading, deleting]);
  expect(hot.held('a')).toBeUndefined();
});
