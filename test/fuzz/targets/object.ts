// An object as it lies in a store: preamble, header, section table, sections. Met by `decode` and by a store, whole and by range.
import { Packr, Unpackr } from 'msgpackr';
import { memory } from '../../../connectors/storage/memory.js';
import { native } from '../../../lib/codec/native.js';
import { packHeader, unpackHeader } from '../../../lib/container/header.js';
import { PREAMBLE_BYTES, readObject } from '../../../lib/container/object.js';
import { CODER_NAMES, decode, KvStore, tensorBytes, type KvLayout } from '../../../lib/index.js';
import { chunkKey } from '../../../lib/store/namespace.js';
import { cacheLike } from '../../lib/tensors.js';
import { mutateBytes, mutateValue } from '../mutate.js';
import type { Random } from '../random.js';
import { expectSame, expectThat, refusal, type FuzzTarget } from '../target.js';

const HASH = 'ab'.repeat(32);
const LAYOUT: KvLayout = { order: 'split', dtype: 'bf16', layers: 2, tokens: 6, kvHeads: 2, headDim: 8, rope: { theta: 10000, style: 'half' } };
const MAX_TENSOR_BYTES = 1 << 20;

const packr = new Packr({ useRecords: false, variableMapSize: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

const connector = memory();
const stores = CODER_NAMES.map((coder) => storeOf(coder));

function storeOf(coder: string): KvStore {
  const { tokens: _, ...geometry } = LAYOUT;
  const quality = coder === 'rans' || coder === 'hevc' ? 'q4' : 'exact';
  return new KvStore({ connector, namespace: { model: 'fuzz', geometry, quality }, coder, groupTokens: 4, threads: 1, maxBytes: MAX_TENSOR_BYTES });
}

export const object: FuzzTarget = {
  name: 'object',

  async seeds() {
    const seeds: Record<string, Uint8Array> = {};
    for (const [i, store] of stores.entries()) {
      const tokenIds = Int32Array.from({ length: LAYOUT.tokens }, (_, token) => 31 * token);
      await store.put(HASH, cacheLike(LAYOUT, i + 1, 74), { tokenIds, metadata: { model: 'fuzz' } });
      seeds[CODER_NAMES[i] ?? ''] = (await connector.get(chunkKey(store.namespace, HASH))) ?? new Uint8Array(0);
    }
    return seeds;
  },

  reshape(input, random) {
    if (input.length < PREAMBLE_BYTES) return undefined;
    const headerEnd = PREAMBLE_BYTES + new DataView(input.buffer, input.byteOffset).getUint32(8, true);
    const header = unpacked(input.subarray(PREAMBLE_BYTES, headerEnd));
    if (header === undefined) return undefined;
    const sections = input.subarray(headerEnd);
    if (random.oneIn(2)) return sealed(mutateValue(header, random), sections);
    const hostile = mutateBytes(sections, [], random);
    return sealed(withTable(header, hostile, random), hostile);
  },

  async meet(input) {
    const outcome = await meetDecoder(input);
    const text = Buffer.from(input.buffer, input.byteOffset, input.byteLength).toString('latin1');
    for (const store of stores) {
      const key = chunkKey(store.namespace, HASH);
      if (!text.includes(key)) continue; // refused for its key, if not before
      await connector.put(key, input);
      for (const part of [{}, { layers: [1, 2] as const }]) {
        const tensor = await store.fetch(HASH, part);
        if (tensor !== undefined) expectThat(tensor.data.length === tensorBytes(tensor.layout), 'a fetched tensor has the size of its layout');
      }
    }
    return outcome;
  },
};

async function meetDecoder(input: Uint8Array): Promise<string> {
  try {
    const { header } = readObject(input);
    expectSame(packHeader(unpackHeader(packHeader(header))), packHeader(header), 'a header that was read and what is written and read of it again');
    const tensor = await decode(input, { maxBytes: MAX_TENSOR_BYTES, threads: 1 });
    expectThat(tensor.data.length === tensorBytes(tensor.layout), 'a tensor has the size of its layout');
    return 'accepted';
  } catch (error) {
    return refusal(error, ['KV_CORRUPT_OBJECT', 'KV_UNSUPPORTED', 'KV_UNSUPPORTED_VERSION']);
  }
}

function unpacked(bytes: Uint8Array): Record<string, unknown> | undefined {
  try {
    const value: unknown = unpackr.unpack(bytes);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** An object of this header and these sections, its lengths and the header's checksum right. */
function sealed(header: unknown, sections: Uint8Array): Uint8Array {
  const packed = packr.pack(header);
  const bytes = new Uint8Array(PREAMBLE_BYTES + packed.length + sections.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x4c52564b, true);
  view.setUint16(4, 1, true);
  view.setUint32(8, packed.length, true);
  view.setBigUint64(16, native().xxh3(packed), true);
  view.setBigUint64(24, BigInt(bytes.length), true);
  bytes.set(packed, PREAMBLE_BYTES);
  bytes.set(sections, PREAMBLE_BYTES + packed.length);
  return bytes;
}

/** The header with a section table that fits these sections, cut where it was or anywhere. */
function withTable(header: Record<string, unknown>, sections: Uint8Array, random: Random): Record<string, unknown> {
  const { lengths } = header;
  const count = lengths instanceof Uint8Array ? lengths.length >> 2 : 1;
  const table = new DataView(new ArrayBuffer(12 * count));
  let begin = 0;
  for (let i = 0; i < count; i++) {
    const given = lengths instanceof Uint8Array ? new DataView(lengths.buffer, lengths.byteOffset).getUint32(4 * i, true) : 0;
    const left = sections.length - begin;
    const length = i === count - 1 ? left : Math.min(left, random.oneIn(4) ? random.below(left + 1) : given);
    table.setUint32(4 * i, length, true);
    table.setBigUint64(4 * count + 8 * i, native().xxh3(sections.subarray(begin, begin + length)), true);
    begin += length;
  }
  const bytes = new Uint8Array(table.buffer);
  return { ...header, lengths: bytes.slice(0, 4 * count), checksums: bytes.slice(4 * count) };
}
