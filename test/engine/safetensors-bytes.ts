/** A .safetensors file of these header and data bytes. */
export function fileBytes(header: string | Uint8Array, data: Uint8Array = new Uint8Array(0)): Buffer {
  const bytes = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([length, bytes, data]);
}

/** One tensor to put into a file. */
export interface TestTensor {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** The header and the data of a file with these tensors in this order. */
export function partsOf(tensors: readonly TestTensor[], metadata?: Record<string, string>): { header: Buffer; data: Buffer } {
  let end = 0;
  const entries = tensors.map(({ name, dtype, shape, bytes }) => {
    const begin = end;
    end += bytes.length;
    return [name, { dtype, shape, data_offsets: [begin, end] }];
  });
  const header = JSON.stringify({ ...(metadata && { __metadata__: metadata }), ...(Object.fromEntries(entries) as object) });
  return { header: Buffer.from(header), data: Buffer.concat(tensors.map(({ bytes }) => bytes)) };
}

/** Bytes that are no cache's but never twice the same. */
export function noise(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0, state = seed; i < length; i++) bytes[i] = (state = (state * 1103515245 + 12345) & 0x7fffffff) >>> 16;
  return bytes;
}
