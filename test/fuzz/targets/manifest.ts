// The manifest of a run.
import { isDeepStrictEqual } from 'node:util';
import { Packr, Unpackr } from 'msgpackr';
import { memory } from '../../../connectors/storage/memory.js';
import { native } from '../../../lib/codec/native.js';
import { packManifest, unpackManifest } from '../../../lib/store/manifest.js';
import { runKey } from '../../../lib/store/namespace.js';
import { KvStore, type Namespace } from '../../../lib/index.js';
import { cacheLike } from '../../lib/tensors.js';
import { mutateValue } from '../mutate.js';
import { expectThat, refusal, type FuzzTarget } from '../target.js';

const PREAMBLE_BYTES = 24;
const GEOMETRY = { order: 'split', dtype: 'bf16', layers: 1, kvHeads: 1, headDim: 4 } as const;
const HASHES = [1, 2, 3].map((n) => n.toString(16).padStart(64, '0'));
const NAMESPACES: Readonly<Record<string, Namespace>> = {
  plain: { model: 'fuzz', geometry: GEOMETRY },
  full: { model: 'fuzz/two', geometry: { ...GEOMETRY, blockTokens: 1, rope: { theta: [1e4], style: 'interleaved', rotaryDims: 2 } }, adapter: 'lora', salt: 'tenant', rank: { index: 1, of: 2 } },
};

const packr = new Packr({ useRecords: false, variableMapSize: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

export const manifest: FuzzTarget = {
  name: 'manifest',

  async seeds() {
    const seeds: Record<string, Uint8Array> = {};
    for (const [name, namespace] of Object.entries(NAMESPACES)) {
      const connector = memory();
      const store = new KvStore({ connector, namespace });
      await store.putRun(HASHES.map((hash, i) => ({ hash, tensor: cacheLike({ ...GEOMETRY, ...namespace.geometry, tokens: 2 }, i) })), { metadata: { text: 'äöü' } });
      seeds[name] = (await connector.get(runKey(store.namespace, HASHES.at(-1) ?? ''))) ?? new Uint8Array(0);
    }
    return seeds;
  },

  reshape(input, random) {
    let fields: unknown;
    try {
      fields = unpackr.unpack(input.subarray(PREAMBLE_BYTES));
    } catch {
      return undefined;
    }
    const packed = packr.pack(mutateValue(fields, random));
    const bytes = new Uint8Array(PREAMBLE_BYTES + packed.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, 0x4d52564b, true);
    view.setUint16(4, 1, true);
    view.setUint32(8, packed.length, true);
    view.setBigUint64(16, native().xxh3(packed), true);
    bytes.set(packed, PREAMBLE_BYTES);
    return bytes;
  },

  meet(input) {
    const key = keyIn(input);
    try {
      const read = unpackManifest(input, key);
      expectThat(runKey(read.namespace, read.chunks.at(-1)?.hash ?? '') === key, 'a manifest is accepted under its own key only');
      expectThat(isDeepStrictEqual(unpackManifest(packManifest(read), key), read), 'a manifest that was read can be written and read again');
      return 'accepted';
    } catch (error) {
      return refusal(error, ['KV_CORRUPT_OBJECT', 'KV_UNSUPPORTED', 'KV_UNSUPPORTED_VERSION']);
    }
  },
};

/** The key that it says it is of, so that more than the check of that is reached. */
function keyIn(input: Uint8Array): string {
  const [namespace = '0'.repeat(32)] = /[0-9a-f]{32}/.exec(Buffer.from(input.subarray(PREAMBLE_BYTES)).toString('latin1')) ?? [];
  return runKey(namespace, HASHES.at(-1) ?? '');
}
