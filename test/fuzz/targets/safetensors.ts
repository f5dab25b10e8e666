// A capture file: its header, what is made of its tensors, and that the same file comes out again.
import { readCapture, writeCapture } from '../../../connectors/engine/capture/capture.js';
import { LENGTH_BYTES, parseDirectory } from '../../../connectors/engine/capture/safetensors.js';
import { fileOf } from '../../../connectors/engine/cli/write-capture.js';
import { fileBytes, noise, partsOf } from '../../engine/safetensors-bytes.js';
import { mutateValue } from '../mutate.js';
import { expectSame, refusal, type FuzzTarget } from '../target.js';

const NAME = 'fuzz.safetensors';

function capture(layers: number, dtype: string, extra = false): Uint8Array {
  const width = dtype === 'F32' ? 4 : dtype === 'U8' ? 1 : 2;
  const planes = Array.from({ length: layers }, (_, i) => ['k', 'v'].map((kind) => ({ name: `layers.${i}.${kind}`, dtype, shape: [2, 3, 4], bytes: noise(24 * width, i + 1) }))).flat();
  const ids = { name: 'token_ids', dtype: 'I32', shape: [3], bytes: new Uint8Array(Int32Array.of(5, 6, 7).buffer) };
  const more = extra ? [{ name: 'layers.0.q', dtype: 'F64', shape: [1, 2], bytes: noise(16) }] : [];
  const { header, data } = partsOf([...planes, ids, ...more], { model: 'fuzz', rope_theta: '10000', start: '3' });
  return fileBytes(header, data);
}

export const safetensors: FuzzTarget = {
  name: 'safetensors',

  seeds: () => ({ bf16: capture(2, 'BF16'), f32: capture(1, 'F32'), u8: capture(1, 'U8'), odd: capture(1, 'F16', true) }),

  reshape(input, random) {
    const { header, data } = split(input);
    let json: unknown;
    try {
      json = JSON.parse(Buffer.from(header).toString());
    } catch {
      return undefined;
    }
    return fileBytes(JSON.stringify(mutateValue(json, random)) ?? '', data);
  },

  meet(input) {
    const { header, data } = split(input);
    try {
      const directory = parseDirectory(header, NAME);
      // As the reader of files does before it reads the data.
      if (directory.dataBytes !== data.length) return 'another length';
      const read = readCapture({ name: NAME, header, directory, data });
      expectSame(Buffer.concat(fileOf(writeCapture(read))), fileBytes(header, data), 'a capture and the file that is made of it again');
      return read.notUnderstood === undefined ? 'accepted' : 'accepted as bytes';
    } catch (error) {
      return refusal(error, ['KV_INVALID_INPUT']);
    }
  },
};

/** Header and data; a length beyond the end takes all there is. */
function split(input: Uint8Array): { header: Uint8Array; data: Uint8Array } {
  const length = input.length < LENGTH_BYTES ? 0n : new DataView(input.buffer, input.byteOffset).getBigUint64(0, true);
  const end = LENGTH_BYTES + Number(length > BigInt(input.length) ? BigInt(input.length) : length);
  return { header: input.subarray(LENGTH_BYTES, end), data: input.subarray(end) };
}

