import type { CapturePieces } from '../capture/capture.js';
import { LENGTH_BYTES } from '../capture/safetensors.js';

/** The bytes of a .safetensors file, in pieces one after the other. */
export function fileOf({ header, data }: CapturePieces): Uint8Array[] {
  const length = new Uint8Array(LENGTH_BYTES);
  new DataView(length.buffer).setBigUint64(0, BigInt(header.length), true);
  return [length, header, ...data];
}
