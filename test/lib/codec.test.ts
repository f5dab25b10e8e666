import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { decode, encode } from '../../lib/index.js';
test('smoke', async () => {
  const d = readFileSync('../shared/kv-captures/smollm2-gpl3-t0-256.safetensors'); const h = Number(d.readBigUInt64LE(0));
  const data = new Uint8Array(d.buffer, d.byteOffset + 8 + h, 30 * 2 * 3 * 256 * 64 * 2);
  for (const coder of ['raw', 'exact', 'zstd']) {
    const t = { layout: { order: 'split', dtype: 'bf16', layers: 30, tokens: 256, kvHeads: 3, headDim: 64 } as const, data };
    const a = performance.now(); const o = await encode(t, { coder, threads: 1 }); const b = performance.now(); const r = await decode(o, { threads: 1 }); const c = performance.now();
    console.log(coder, o.length, (o.length * 16) / data.length, (data.length / (b - a) / 1e3).toFixed(0), (data.length / (c - b) / 1e3).toFixed(0));
    expect(Buffer.compare(r.data, data)).toBe(0);
  }
});
