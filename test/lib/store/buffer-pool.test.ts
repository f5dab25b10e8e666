import { expect, it } from 'vitest';
import { bufferPool } from '../../../lib/store/buffer-pool.js';

const keep = async (buffer: Uint8Array): Promise<ArrayBufferLike> => buffer.buffer;

it('lends the same memory again, and never to two at once', async () => {
  const pool = bufferPool(2);
  const first = await pool.use(100, keep);
  expect(await pool.use(200, keep)).toBe(first);
  await pool.use(100, async (buffer) => {
    expect(buffer.buffer).toBe(first);
    expect(await pool.use(100, keep)).not.toBe(first);
  });
});

it('lends what is large enough', async () => {
  const pool = bufferPool(2);
  await pool.use(100, keep);
  expect((await pool.use(5_000_000, async (buffer) => buffer.length)) >= 5_000_000).toBe(true);
});

it('does not lend memory again after work that failed: a read that was given up may still write to it', async () => {
  const pool = bufferPool(1);
  let lent: ArrayBufferLike | undefined;
  const failing = pool.use(100, async (buffer) => {
    lent = buffer.buffer;
    throw new Error('no');
  });
  await expect(failing).rejects.toThrow('no');
  expect(await pool.use(100, keep)).not.toBe(lent);
});

it('keeps the largest, as many as it was told, and none once cleared', async () => {
  const pool = bufferPool(1);
  const [small, large] = [1_000_000, 3_000_000];
  const kept = await pool.use(large, async (buffer) => {
    await pool.use(small, keep);
    return buffer.buffer;
  });
  expect(await pool.use(small, keep)).toBe(kept);
  pool.clear();
  const after = await pool.use(small, keep);
  expect(after).not.toBe(kept);
  expect(await pool.use(small, keep)).not.toBe(after);
});
