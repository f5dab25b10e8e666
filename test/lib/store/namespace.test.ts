import { expect, it } from 'vitest';
import { chunkKey, hasGeometry, namespaceDigest, parseKey, runKey, type Namespace } from '../../../lib/store/namespace.js';

const GEOMETRY = { order: 'split', dtype: 'bf16', layers: 30, kvHeads: 3, headDim: 64, rope: { theta: 100000, style: 'half' } } as const;
const PLAIN: Namespace = { model: 'smollm2-135m', geometry: GEOMETRY };

it('is pinned: another digest would orphan everything that is stored', () => {
  expect(namespaceDigest(PLAIN)).toBe('c08db0d3bfd82693f198e05864e047f0');
  expect(namespaceDigest({ ...PLAIN, adapter: 'lora-7', salt: 'tenant ü', rank: { index: 1, of: 4 }, quality: 'exact' })).toBe('6924e1a2cf4a55ceaa05a937af360211');
  expect(namespaceDigest({ ...PLAIN, variant: 'vllm 0.32' })).toBe('2cdfc2b812b7fea3a01bf36997947550');
});

it('differs where any part differs', () => {
  const rope = GEOMETRY.rope;
  const variants: Namespace[] = [
    PLAIN,
    { ...PLAIN, model: 'smollm2-360m' },
    { ...PLAIN, variant: 'a' },
    { ...PLAIN, adapter: 'a' },
    { ...PLAIN, salt: 'a' },
    { ...PLAIN, rank: { index: 0, of: 1 } },
    { ...PLAIN, rank: { index: 0, of: 2 } },
    { ...PLAIN, rank: { index: 1, of: 2 } },
    { ...PLAIN, geometry: { ...GEOMETRY, order: 'fused' } },
    { ...PLAIN, geometry: { ...GEOMETRY, dtype: 'f16' } },
    { ...PLAIN, geometry: { ...GEOMETRY, layers: 31 } },
    { ...PLAIN, geometry: { ...GEOMETRY, kvHeads: 6 } },
    { ...PLAIN, geometry: { ...GEOMETRY, headDim: 32 } },
    { ...PLAIN, geometry: { ...GEOMETRY, blockTokens: 16 } },
    { ...PLAIN, geometry: { ...GEOMETRY, rope: { ...rope, theta: 10000 } } },
    { ...PLAIN, geometry: { ...GEOMETRY, rope: { ...rope, style: 'interleaved' } } },
    { ...PLAIN, geometry: { ...GEOMETRY, rope: { ...rope, rotaryDims: 32 } } },
  ];
  expect(new Set(variants.map(namespaceDigest)).size).toBe(variants.length);
});

it('is the same where only the spelling differs', () => {
  const spelled = { ...GEOMETRY, rope: { theta: [100000], style: 'half', rotaryDims: 64 } } as const;
  expect(namespaceDigest({ ...PLAIN, geometry: spelled, quality: 'exact' })).toBe(namespaceDigest(PLAIN));
  expect(hasGeometry({ ...spelled, tokens: 5 }, GEOMETRY)).toBe(true);
});

it.each([
  { ...PLAIN, model: '' },
  { ...PLAIN, model: '\ud800' },
  { ...PLAIN, salt: '' },
  { ...PLAIN, variant: '' },
  { ...PLAIN, rank: { index: 2, of: 2 } },
  { ...PLAIN, quality: 'best' },
  { ...PLAIN, geometry: { ...GEOMETRY, layers: 0 } },
])('refuses what names nothing', (namespace) => {
  expect(() => namespaceDigest(namespace as Namespace)).toThrow(/expected/);
});

it('makes keys that can be read back, and reads no others', () => {
  const digest = namespaceDigest(PLAIN);
  expect(parseKey(chunkKey(digest, '-27f'))).toEqual({ kind: 'chunks', namespace: digest, hash: '-27f' });
  expect(parseKey(runKey(digest, 'ab'))).toEqual({ kind: 'runs', namespace: digest, hash: 'ab' });
  for (const key of ['', 'chunks', `chunks/${digest}`, `chunks/${digest}/XY`, `chunks/${digest}/ab/c`, `others/${digest}/ab`, `runs/${digest}x/ab`]) expect(parseKey(key)).toBeUndefined();
});
