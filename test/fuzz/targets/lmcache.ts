// What LMCache leaves in a store: names of objects and the metadata before their data. The first byte says which of them an input is.
import { isDeepStrictEqual } from 'node:util';
import { chunkTensor } from '../../../connectors/engine/lmcache/chunk-tensor.js';
import { parseOrigin } from '../../../connectors/engine/lmcache/identity.js';
import { FORMS } from '../../../connectors/engine/lmcache/forms.js';
import { parseEngineKey, parseObjectKey, textOf } from '../../../connectors/engine/lmcache/key-text.js';
import { metadataBytesBefore, packRemoteMetadata, parseRemoteMetadata } from '../../../connectors/engine/lmcache/remote-metadata.js';
import { tensorBytes } from '../../../lib/index.js';
import { expectThat, refusal, type FuzzTarget } from '../target.js';

const HEX = 'ab'.repeat(16);
const name = (text: string): Uint8Array => Buffer.from(`n${text}`);
const object = (format: number, groups: readonly (readonly number[])[], length: number): Uint8Array => {
  const words = Int32Array.of(length, format, ...groups.flat());
  return Buffer.concat([Buffer.from('o'), new Uint8Array(words.buffer), new Uint8Array(length)]);
};

export const lmcache: FuzzTarget = {
  name: 'lmcache',

  seeds: () => ({
    'engine-key': name(`meta-llama/Llama-3.1-8B@1@0@-${HEX.slice(0, 16)}@bfloat16`),
    'engine-key-tags': name(`model@2@1@${HEX.slice(1)}@half@3@user%alice@x%a@b`),
    'object-key': name(`org/model@02010201@0@${HEX}@salt`),
    'file-name': name(`org-SEP-model@0x01000100@0@${HEX}.data`),
    '2ltd': object(1, [[3, 2, 2, 3, 4]], 96),
    mla: object(6, [[4, 2, 3, 4, 0]], 96),
    groups: object(1, [[2, 2, 1, 2, 4], [8, 2, 1, 2, 4]], 48),
    binary: object(4, [[0, 10, 0, 0, 0]], 10),
    origin: Buffer.from(`j${JSON.stringify({ lmcache_key: `m@1@0@${HEX.slice(1)}@half`, lmcache_metadata: '0000' })}`),
  }),

  meet(input) {
    const body = input.subarray(1);
    switch (input[0]) {
      case 0x6f:
        return meetObject(body);
      case 0x6a:
        return meetOrigin(body);
      default:
        return meetName(Buffer.from(body).toString());
    }
  },
};

function meetName(text: string): string {
  const names = [parseEngineKey(text), parseObjectKey(text), ...FORMS.map((form) => form.parseName(text, 'org/model'))];
  for (const found of names.slice(0, 2)) {
    if (found === undefined) continue;
    const again = (found.kind === 'engine' ? parseEngineKey : parseObjectKey)(textOf(found));
    expectThat(isDeepStrictEqual(again, found), 'a name that was read reads the same once more');
  }
  return names.some((found) => found !== undefined) ? 'accepted' : 'no name';
}

function meetObject(bytes: Uint8Array): string {
  try {
    const start = metadataBytesBefore(bytes, bytes.length);
    const metadata = parseRemoteMetadata(bytes.subarray(0, start));
    expectThat(isDeepStrictEqual(parseRemoteMetadata(packRemoteMetadata(metadata)), metadata), 'metadata that was read can be written and read again');
    const { tensor } = chunkTensor(metadata, bytes.subarray(start));
    expectThat(tensor.data.length === tensorBytes(tensor.layout), 'a tensor has the size of its layout');
    return 'accepted';
  } catch (error) {
    return refusal(error, ['KV_CORRUPT_OBJECT', 'KV_UNSUPPORTED']);
  }
}

function meetOrigin(bytes: Uint8Array): string {
  let text: unknown;
  try {
    text = JSON.parse(Buffer.from(bytes).toString());
  } catch {
    return 'no JSON';
  }
  // An object's header gives text by name, checked before.
  if (typeof text !== 'object' || text === null || !Object.values(text).every((value) => typeof value === 'string')) return 'no text';
  try {
    return parseOrigin(text as Record<string, string>) === undefined ? 'no origin' : 'accepted';
  } catch (error) {
    return refusal(error, ['KV_CORRUPT_OBJECT', 'KV_UNSUPPORTED']);
  }
}
