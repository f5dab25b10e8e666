// The frames that bulk answers and bodies are made of: 16 bytes, little-endian (u32 index, u32 status, u64 payload bytes), then the payload.

export const FRAME_TYPE = 'application/x-kvreel-frames';
export const FRAME_HEADER_BYTES = 16;

/** Index of a frame that is about the whole call: its head in a body, its end in an answer. */
export const CALL_INDEX = 0xffffffff;

export const FRAME_STATUS = { done: 0, miss: 1, failed: 2 } as const;

export interface FrameHeader {
  /** Place of the entry in the call's `entries`, or CALL_INDEX. */
  readonly index: number;
  readonly status: number;
  readonly bytes: number;
}

export function packFrameHeader({ index, status, bytes }: FrameHeader): Uint8Array {
  const packed = new Uint8Array(FRAME_HEADER_BYTES);
  const view = new DataView(packed.buffer);
  view.setUint32(0, index, true);
  view.setUint32(4, status, true);
  view.setBigUint64(8, BigInt(bytes), true);
  return packed;
}

/** `bytes` is inexact above 2^53, where no frame that we take comes near. */
export function readFrameHeader(packed: Uint8Array): FrameHeader {
  const view = new DataView(packed.buffer, packed.byteOffset, FRAME_HEADER_BYTES);
  return { index: view.getUint32(0, true), status: view.getUint32(4, true), bytes: Number(view.getBigUint64(8, true)) };
}
