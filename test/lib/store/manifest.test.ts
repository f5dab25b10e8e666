import { Packr } from 'msgpackr';
import { expect, it } from 'vitest';
import { native } from '../../../lib/codec/native.js';
import { packManifest, unpackManifest, type RunManifest } from '../../../lib/store/manifest.js';
import { namespaceDigest, runKey } from '../../../lib/store/namespace.js';

const OPEN = {
  model: 'tiny',
  geometry: { order: 'vllm_cpu_pages', dtype: 'f16', layers: 2, kvHeads: 1, headDim: 8, blockTokens: 16, rope: { theta: [1e4, 1e6], style: 'interleaved', rotaryDims: 4 } },
  adapter: 'lora',
  rank: { index: 1, of: 2 },
  quality: 'exact',
} as const;
const NAMESPACE = namespaceDigest(OPEN);
const MANIFEST: RunManifest = {
  namespace: NAMESPACE,
  description: { ...OPEN, isSalted: false },
  chunks: [
    { hash: 'aa', tokens: 256, objectBytes: 5_000_000_000, root: 0xfedcba9876543210n },
    { hash: 'bb', tokens: 7, objectBytes: 1, root: 0n },
  ],
  metadata: { text: 'ümlaut' },
};
const KEY = runKey(NAMESPACE, 'bb');

it('comes back as it was', () => {
  expect(unpackManifest(packManifest(MANIFEST), KEY)).toEqual(MANIFEST);
});

it('is refused with a code wherever a bit is flipped or it is cut', () => {
  const bytes = packManifest(MANIFEST);
  for (let at = 0; at < bytes.length; at++) {
    for (let bit = 0; bit < 8; bit++) {
      const flipped = bytes.slice();
      flipped[at] = (flipped[at] ?? 0) ^ (1 << bit);
      expect(() => unpackManifest(flipped, KEY), `byte ${at}`).toThrow(expect.objectContaining({ code: expect.stringMatching(/^KV_(CORRUPT_OBJECT|UNSUPPORTED_VERSION)$/) }));
    }
    expect(() => unpackManifest(bytes.subarray(0, at), KEY)).toThrow(expect.objectContaining({ code: 'KV_CORRUPT_OBJECT' }));
  }
});

it('is refused under the key of another run', () => {
  expect(() => unpackManifest(packManifest(MANIFEST), runKey(NAMESPACE, 'aa'))).toThrow(expect.objectContaining({ code: 'KV_CORRUPT_OBJECT' }));
});

it('is refused where it describes another namespace than its own', () => {
  const lying = { ...MANIFEST, description: { ...MANIFEST.description, model: 'other' } };
  expect(() => unpackManifest(packManifest(lying), KEY)).toThrow(expect.objectContaining({ code: 'KV_CORRUPT_OBJECT' }));
});

const wire = {
  namespace: NAMESPACE,
  description: { model: 'tiny', geometry: { order: 'split', dtype: 'bf16', layers: 1, kv_heads: 1, head_dim: 8 }, quality: 'exact', is_salted: true },
  hashes: ['bb'],
  tokens: [1],
  object_bytes: [1],
  roots: new Uint8Array(8),
  metadata: {},
};

it('is read where everything is as it should be', () => {
  expect(unpackManifest(sealed(wire), KEY).chunks).toHaveLength(1);
});

it.each([
  [],
  null,
  5,
  { ...wire, hashes: 'bb' },
  { ...wire, hashes: [] },
  { ...wire, hashes: [5] },
  { ...wire, hashes: ['bb', 'bb'] },
  { ...wire, hashes: ['../../etc', 'bb'], tokens: [1, 1], object_bytes: [1, 1], roots: new Uint8Array(16) },
  { ...wire, tokens: [-1] },
  { ...wire, tokens: [1.5] },
  { ...wire, tokens: [NaN] },
  { ...wire, tokens: { length: 1 } },
  { ...wire, object_bytes: ['1'] },
  { ...wire, roots: new Uint8Array(7) },
  { ...wire, roots: 'x' },
  { ...wire, metadata: { a: 5 } },
  { ...wire, metadata: undefined },
  { ...wire, namespace: 'x' },
  { ...wire, description: { ...wire.description, rank: [] } },
  { ...wire, description: { ...wire.description, is_salted: 1 } },
  { ...wire, description: { ...wire.description, is_salted: false } },
  { ...wire, description: { ...wire.description, geometry: { ...wire.description.geometry, rope: { theta: [], style: 'half' } } } },
])('is refused where its checksum is right and its contents are not: %j', (contents) => {
  expect(() => unpackManifest(sealed(contents), KEY)).toThrow(expect.objectContaining({ code: 'KV_CORRUPT_OBJECT' }));
});

it('is refused with a code of its own for a field from the future', () => {
  expect(() => unpackManifest(sealed({ ...wire, colour: 'red' }), KEY)).toThrow(expect.objectContaining({ code: 'KV_UNSUPPORTED' }));
});

function sealed(contents: unknown): Uint8Array {
  const packed = new Packr({ useRecords: false, variableMapSize: true }).pack(contents);
  const bytes = Buffer.alloc(24 + packed.length);
  bytes.write('KVRM', 'latin1');
  bytes.writeUInt16LE(1, 4);
  bytes.writeUInt32LE(packed.length, 8);
  bytes.writeBigUInt64LE(native().xxh3(packed), 16);
  bytes.set(packed, 24);
  return bytes;
}
