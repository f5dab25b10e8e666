import { describe, expect, it } from 'vitest';
import { chunkTensor, lmcacheData, metadataOf, tokensOf, type TensorHints } from '../../../connectors/engine/lmcache/chunk-tensor.js';
import { packLayout, unpackLayout } from '../../../lib/codec/layout.js';
import type { LmcacheDtype } from '../../../lib/key/lmcache-key.js';
import type { RemoteMetadata } from '../../../connectors/engine/lmcache/remote-metadata.js';

/** Bytes 0, 1, 2, ... for a tensor of uint8, so that each value tells where it stood. */
function counted(metadata: RemoteMetadata): Uint8Array {
  return Uint8Array.from({ length: metadata.length }, (_, i) => i);
}

function layoutOf(metadata: RemoteMetadata, hints: TensorHints = {}): object {
  const { tensor, notUnderstood } = chunkTensor(metadata, counted(metadata), hints);
  return { ...tensor.layout, ...(notUnderstood !== undefined && { notUnderstood }) };
}

describe('the layout of LMCache’s data', () => {
  it.each<[string, RemoteMetadata, TensorHints, object]>([
    ['[2, layers, tokens, hidden]', metadataOf('KV_2LTD', 'bfloat16', [2, 3, 4, 8]), {}, { order: 'lmcache_2ltd', dtype: 'bf16', layers: 3, tokens: 4, kvHeads: 1, headDim: 8 }],
    ['the same with known heads', metadataOf('KV_2LTD', 'half', [2, 3, 4, 8]), { headDim: 2 }, { order: 'lmcache_2ltd', dtype: 'f16', kvHeads: 4, headDim: 2 }],
    ['MLA', metadataOf('KV_MLA_FMT', 'fp8_e4m3fn', [1, 3, 4, 8]), { headDim: 2 }, { order: 'mla', dtype: 'f8_e4m3', layers: 3, tokens: 4, kvHeads: 1, headDim: 8 }],
    ['fused, if that is said', metadataOf('KV_2LTD', 'float', [1, 3, 4, 8]), { order: 'fused', headDim: 2 }, { order: 'fused', dtype: 'f32', layers: 3, tokens: 4, kvHeads: 2, headDim: 2 }],
    ['fused of the multiprocess server', metadataOf('KV_2LTD', 'uint8', [3, 4, 8]), { order: 'fused', headDim: 4 }, { order: 'fused', dtype: 'u8', layers: 3, tokens: 4, kvHeads: 1, headDim: 4 }],
    ['rows of vLLM’s CPU pages', metadataOf('KV_2LTD', 'bfloat16', [3, 4, 8]), { order: 'vllm_cpu_rows', headDim: 2, blockTokens: 2 }, { order: 'vllm_cpu_rows', layers: 3, tokens: 4, kvHeads: 2, headDim: 2, blockTokens: 2 }],
  ])('%s is understood', (_, metadata, hints, expected) => {
    const layout = layoutOf(metadata, hints);
    expect(layout).toMatchObject(expected);
    expect(layout).not.toHaveProperty('notUnderstood');
  });

  it.each<[string, RemoteMetadata, TensorHints]>([
    ['fused without a word of it', metadataOf('KV_2LTD', 'bfloat16', [1, 3, 4, 16]), {}],
    ['fused without the dims of a head', metadataOf('KV_2LTD', 'bfloat16', [1, 3, 4, 16]), { order: 'fused' }],
    ['rows of CPU pages without their blocks', metadataOf('KV_2LTD', 'bfloat16', [3, 4, 16]), { order: 'vllm_cpu_rows', headDim: 2 }],
    ['rows of CPU pages that are no whole blocks', metadataOf('KV_2LTD', 'bfloat16', [3, 5, 16]), { order: 'vllm_cpu_rows', headDim: 2, blockTokens: 2 }],
    ['three dimensions', metadataOf('KV_2LTD', 'bfloat16', [3, 4, 16]), {}],
    ['heads that do not fill a row', metadataOf('KV_2LTD', 'bfloat16', [2, 3, 4, 16]), { headDim: 5 }],
    ['a row of too many elements', metadataOf('KV_2LTD', 'uint8', [2, 1, 1, 65537]), {}],
    ['a layer alone', metadataOf('KV_T2D', 'bfloat16', [4, 2, 16]), {}],
    ['float64', metadataOf('KV_2LTD', 'double', [2, 3, 4, 16]), {}],
    ['no shape at all', metadataOf('UNDEFINED', 'uint8', [1001]), {}],
    ['several groups', { length: 80, format: 'KV_2LTD', groups: [{ dtype: 'uint8', shape: [2, 1, 4, 8] }, { dtype: 'uint8', shape: [2, 1, 4, 2] }] }, {}],
    ['bytes of a codec', { length: 99, format: 'BINARY_BUFFER', groups: [{ dtype: undefined, shape: [99] }] }, {}],
  ])('%s is taken as bytes, with a reason, and comes back', (_, metadata, hints) => {
    const data = counted(metadata);
    const { tensor, notUnderstood } = chunkTensor(metadata, data, hints);
    expect(tensor.layout.order).toBe('bytes');
    expect(notUnderstood).toBeTypeOf('string');
    expect(lmcacheData(tensor, metadata)).toEqual({ metadata, data });
  });

  it('bytes that were asked for need no reason', () => {
    expect(layoutOf(metadataOf('KV_2LTD', 'bfloat16', [2, 3, 4, 16]), { order: 'bytes' })).toEqual({ order: 'bytes', dtype: 'bf16', layers: 1, tokens: 24, kvHeads: 1, headDim: 16 });
  });

  it('data of another length are refused', () => {
    const metadata = metadataOf('KV_2LTD', 'uint8', [2, 1, 4, 8]);
    expect(() => chunkTensor(metadata, new Uint8Array(63))).toThrow(expect.objectContaining({ code: 'KV_CORRUPT_OBJECT' }));
  });
});

it('K and V of each layer, head and token stand where LMCache put them', () => {
  const [layers, tokens, heads, dim] = [2, 3, 2, 2];
  const metadata = metadataOf('KV_2LTD', 'uint8', [2, layers, tokens, heads * dim]);
  const { data } = packLayout(chunkTensor(metadata, counted(metadata), { headDim: dim }).tensor);
  for (let layer = 0; layer < layers; layer++) {
    for (let kv = 0; kv < 2; kv++) {
      for (let head = 0; head < heads; head++) {
        for (let token = 0; token < tokens; token++) {
          const ours = (((layer * 2 + kv) * heads + head) * tokens + token) * dim;
          const theirs = ((kv * layers + layer) * tokens + token) * heads * dim + head * dim;
          expect([...data.subarray(ours, ours + dim)]).toEqual([theirs, theirs + 1]);
        }
      }
    }
  }
});

describe('a tensor that never was LMCache’s', () => {
  const metadata = metadataOf('KV_2LTD', 'uint8', [2, 2, 4, 8]);
  const { tensor } = chunkTensor(metadata, counted(metadata), { headDim: 4 });

  it('becomes [2, layers, tokens, hidden]', () => {
    expect(lmcacheData(packLayout(tensor), undefined)).toEqual({ metadata, data: tensor.data });
  });

  it('becomes fused where that is wanted', () => {
    const fused = lmcacheData(tensor, undefined, 'fused');
    expect(fused.metadata).toEqual(metadataOf('KV_2LTD', 'uint8', [1, 2, 4, 16]));
    expect(fused.data).toEqual(unpackLayout(packLayout(tensor), { ...tensor.layout, order: 'fused' }).data);
  });

  it('becomes MLA’s format if it is of MLA', () => {
    const mla = metadataOf('KV_MLA_FMT', 'half', [1, 2, 4, 8]);
    expect(lmcacheData(chunkTensor(mla, counted(mla)).tensor, undefined)).toEqual({ metadata: mla, data: counted(mla) });
  });

  it('is refused where it is bytes, for nobody knows their layout', () => {
    const bytes = chunkTensor(metadata, tensor.data, { order: 'bytes' }).tensor;
    expect(() => lmcacheData(bytes, undefined)).toThrow(expect.objectContaining({ code: 'KV_UNSUPPORTED' }));
  });

  it('is refused where it is told to be of another length', () => {
    const other = metadataOf('KV_2LTD', 'uint8', [2, 2, 4, 9]);
    expect(() => lmcacheData(tensor, other)).toThrow(expect.objectContaining({ code: 'KV_CORRUPT_OBJECT' }));
  });
});

it.each<[RemoteMetadata, number | undefined]>([
  [metadataOf('KV_2LTD', 'half', [2, 3, 16, 8]), 16],
  [metadataOf('KV_MLA_FMT', 'half', [1, 3, 16, 8]), 16],
  [metadataOf('KV_2LTD', 'half', [3, 16, 8]), 16],
  [metadataOf('UNDEFINED', 'uint8' as LmcacheDtype, [1000]), undefined],
])('tokens of a chunk are read from its shape: %j', (metadata, tokens) => {
  expect(tokensOf(metadata)).toBe(tokens);
});
