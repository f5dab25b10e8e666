// How often a reader is woken for a value that comes in many pieces, over a real connection.
import { once } from 'node:events';
import { connect, createServer, Socket, type AddressInfo, type Server } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { setReceiveThreshold } from '../../lib/store/receive-threshold.js';
import { ReceiveThreshold } from '../../connectors/storage/receive-threshold.js';
import { patternBytes } from '../contract/storage-connector.js';

const PIECE_BYTES = 4096;
const value = patternBytes(1 << 20);

let server: Server;
let sender: Promise<Socket>;

beforeEach(async () => {
  server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  sender = once(server, 'connection').then(([socket]) => (socket as Socket).setNoDelay(true));
});

afterEach(() => void server.close());

/** Connects, and takes what comes into memory until all of `value` has come or the connection has ended. */
async function receive(withThreshold: boolean): Promise<{ readonly bytes: Buffer; readonly reads: number }> {
  const bytes = Buffer.alloc(value.byteLength + 1); // a read must have room, also when all has come
  const threshold = new ReceiveThreshold();
  let [filled, reads] = [0, 0];
  const done = new Promise<void>((resolve) => {
    const buffer = (): Uint8Array => {
      if (withThreshold && filled > 0) threshold.expect(socket, value.byteLength - filled);
      return bytes.subarray(filled);
    };
    const callback = (count: number): boolean => {
      reads++;
      filled += count;
      if (filled === value.byteLength) resolve();
      return true;
    };
    const socket = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', onread: { buffer, callback } });
    socket.on('close', () => resolve());
  });
  await done;
  return { bytes: bytes.subarray(0, filled), reads };
}

async function sendInPieces(until: number): Promise<Socket> {
  const socket = await sender;
  for (let at = 0; at < until; at += PIECE_BYTES) {
    socket.write(value.subarray(at, Math.min(until, at + PIECE_BYTES)));
    await nextTurn();
  }
  return socket;
}

it('wakes the reader for a large part of a value, not for each piece', async () => {
  const received = receive(true);
  const socket = await sendInPieces(value.byteLength);
  const { bytes, reads } = await received;
  expect(bytes.equals(value)).toBe(true);
  expect(reads).toBeLessThanOrEqual(8);
  socket.destroy();
});

it('is what makes the difference', async () => {
  const received = receive(false);
  const socket = await sendInPieces(value.byteLength);
  expect((await received).reads).toBeGreaterThan(30);
  socket.destroy();
});

it('wakes the reader when the connection ends before', async () => {
  const received = receive(true);
  (await sendInPieces(100_000)).end();
  expect((await received).bytes.equals(value.subarray(0, 100_000))).toBe(true);
});

it('is left alone for a socket that is not connected', () => {
  expect(setReceiveThreshold(new Socket(), 1000)).toBe(false);
});
