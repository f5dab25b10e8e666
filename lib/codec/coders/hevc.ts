// `hevc`: quantised planes as lossless HEVC streams (addon/codec/quantized_hevc.h). One section a stream.
import { readObject } from '../../container/object.js';
import { KvError } from '../../errors.js';
import { native } from '../native.js';
import { groupsOf, type ChunkDescription } from './coder.js';
import { nativeCoder, parametersOf, refuseToQuantise } from './native-coder.js';

// How a group's layers are cut into streams.
function streamsOf(chunk: ChunkDescription): { count: number; layers: number } {
  const layers = native().hevcStreamLayers(parametersOf('hevc', chunk));
  return { count: Math.ceil(chunk.layout.layers / layers), layers };
}

/** `hevc`: the same integers as `rans`, for hardware video decoders; any conforming HEVC decoder restores them. */
export const hevc = nativeCoder('hevc', {
  hasModel: true,
  refuses: refuseToQuantise,
  sectionCount: (chunk) => groupsOf(chunk) * streamsOf(chunk).count,
  sectionsOf: (chunk, selection) => {
    const streams = streamsOf(chunk);
    const first = Math.floor(selection.layerBegin / streams.layers);
    const last = Math.floor((selection.layerBegin + selection.layerCount - 1) / streams.layers);
    const indices: number[] = [];
    for (let group = 0; group < selection.groupCount; group++) {
      for (let stream = first; stream <= last; stream++) indices.push((selection.groupBegin + group) * streams.count + stream);
    }
    return indices;
  },
});

/**
 * The bare video of one stream of an `hevc` object: Annex B bytes that any HEVC player takes.
 * Throws a RangeError for a stream that is not there, and KV_UNSUPPORTED or KV_CORRUPT_OBJECT for an object that has none.
 */
export function extractStream(object: Uint8Array, stream: number): Uint8Array {
  const { header, sectionStart } = readObject(object);
  if (header.coder !== 'hevc') throw new KvError('KV_UNSUPPORTED', `the object was made by coder ${header.coder}; only hevc objects hold video streams`);
  const length = header.lengths[stream];
  if (length === undefined) throw new RangeError(`expected \`stream\` to be from 0 to ${header.lengths.length - 1}, got ${stream}`);
  const offset = header.lengths.subarray(0, stream).reduce((sum, bytes) => sum + bytes, sectionStart);
  const section = object.subarray(offset, offset + length);
  const { value, bytes } = readVarint(section);
  if (bytes + value > section.length) throw new KvError('KV_CORRUPT_OBJECT', 'the object is damaged: a stream is longer than its section');
  return section.subarray(bytes, bytes + value);
}

// LEB128, at most five bytes.
function readVarint(bytes: Uint8Array): { value: number; bytes: number } {
  let value = 0;
  for (const [i, byte] of bytes.subarray(0, 5).entries()) {
    value += (byte & 127) * 2 ** (7 * i);
    if (byte < 128) return { value, bytes: i + 1 };
  }
  throw new KvError('KV_CORRUPT_OBJECT', 'the object is damaged: a section does not start with a length');
}
