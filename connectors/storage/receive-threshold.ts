import type { Socket } from 'node:net';
import { setReceiveThreshold } from '../../lib/store/receive-threshold.js';

/**
 * So many bytes of a large value are worth waking up for. Otherwise a MiB comes in some ten pieces; and a reader that is woken while more comes
 * waits for the socket's lock, which took an eighth of its processor time at 256 KiB (loopback).
 */
const MOST_BYTES = 1 << 20;

/** Keeps the receive threshold of one TCP connection to what is still to come. */
export class ReceiveThreshold {
  #bytes = 1;
  #isPossible = true;

  /** To be called before each wait for `socket`, of whose value at least `bytes` are still to come; 1 where that is not known. */
  expect(socket: Socket, bytes: number): void {
    const wanted = Math.min(bytes, MOST_BYTES);
    if (wanted === this.#bytes || !this.#isPossible) return;
    this.#isPossible = setReceiveThreshold(socket, wanted);
    this.#bytes = wanted;
  }
}
