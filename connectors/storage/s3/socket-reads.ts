// Node gives each read of a socket a buffer of its own: 64 KiB of fresh memory that the garbage collector has to find again: up to
// half of what a GET costs (`undici, signed` in test/bench/s3.bench.ts). Here all sockets of a pool read into one buffer, from which the bytes go on to
// undici, and through it to the caller's memory, before the next read. undici takes them by `readable` and `read()`.
import type { Socket } from 'node:net';

const BUFFER_BYTES = 256 << 10;

/** The longest head of an answer, in bytes: to be given to undici as `maxHeaderSize`. */
export const MAX_HEAD_BYTES = 16 << 10;

/** The `onread` option of `net.connect` and `tls.connect` for sockets that undici reads from. */
export function socketReads(): { readonly buffer: Uint8Array; readonly callback: (bytes: number, buffer: Uint8Array) => boolean } {
  return {
    buffer: Buffer.allocUnsafeSlow(BUFFER_BYTES),
    callback: function (this: Socket, bytes: number, buffer: Uint8Array): boolean {
      // undici keeps views of a head until it is whole, so one that comes in two reads must not lie in the shared buffer.
      const view = buffer.subarray(0, bytes);
      const chunk = bytes <= MAX_HEAD_BYTES ? Buffer.from(view) : view;
      let isRead = false;
      this.read = () => {
        isRead = true;
        Reflect.deleteProperty(this, 'read');
        return chunk;
      };
      this.emit('readable');
      if (!isRead) this.destroy(new Error('bytes came that nobody reads'));
      return true;
    },
  };
}
