import { readFileSync } from 'node:fs';

/** The bf16 capture of a whole model as one tensor in `split` order, with its token ids and metadata. Trusts the file: it is ours. */
export function readCapture(path) {
  const file = readFileSync(path);
  const dataStart = 8 + Number(file.readBigUInt64LE(0));
  const { __metadata__: metadata, token_ids: ids, ...planes } = JSON.parse(file.toString('utf8', 8, dataStart));
  const bytesOf = ({ data_offsets: [begin, end] }) => file.subarray(dataStart + begin, dataStart + end);
  const layers = Object.keys(planes).length / 2;
  const [kvHeads, tokens, headDim] = planes['layers.0.k'].shape;
  const parts = Array.from({ length: layers }, (_, layer) => [bytesOf(planes[`layers.${layer}.k`]), bytesOf(planes[`layers.${layer}.v`])]);
  const layout = { order: 'split', dtype: 'bf16', layers, tokens, kvHeads, headDim, rope: { theta: Number(metadata.rope_theta), style: 'half' } };
  return {
    tensor: { layout, data: new Uint8Array(Buffer.concat(parts.flat())), start: Number(metadata.start) },
    tokenIds: new Int32Array(Uint8Array.from(bytesOf(ids)).buffer),
    metadata,
  };
}
