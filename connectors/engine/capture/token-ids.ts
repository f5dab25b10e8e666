import { invalid, type SafetensorsFile, type TensorEntry } from './safetensors.js';

/** Whether a tensor is a list of token ids as they are understood: of I32, or of the I64 that torch makes by default. */
export function isTokenIds({ dtype, shape }: TensorEntry): boolean {
  return shape.length === 1 && (dtype === 'I32' || dtype === 'I64');
}

/** The token ids of a capture; undefined if it has none that are understood. Throws KV_INVALID_INPUT for an id beyond 32 bits. */
export function readTokenIds({ name, directory, data }: SafetensorsFile): Int32Array | undefined {
  const entry = directory.tensors.find((tensor) => tensor.name === 'token_ids');
  if (entry === undefined || !isTokenIds(entry)) return undefined;
  const view = new DataView(data.buffer, data.byteOffset + entry.begin, entry.end - entry.begin);
  const ids = new Int32Array(entry.shape[0] ?? 0);
  for (let i = 0; i < ids.length; i++) {
    const id = entry.dtype === 'I32' ? BigInt(view.getInt32(4 * i, true)) : view.getBigInt64(8 * i, true);
    if (id !== BigInt.asIntN(32, id)) throw invalid(name, `its token id ${id} does not fit into 32 bits`);
    ids[i] = Number(id);
  }
  return ids;
}

/** Token ids as the bytes of that tensor. */
export function tokenIdBytes(entry: TensorEntry, tokenIds: Int32Array): Uint8Array {
  const bytes = new Uint8Array(entry.end - entry.begin);
  const view = new DataView(bytes.buffer);
  tokenIds.forEach((id, i) => (entry.dtype === 'I32' ? view.setInt32(4 * i, id, true) : view.setBigInt64(8 * i, BigInt(id), true)));
  return bytes;
}
