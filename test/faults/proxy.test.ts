import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { patternBytes } from '../contract/storage-connector.js';
import { startProxy, type Fault, type Proxy } from './proxy.js';

const REPLY = Buffer.from(patternBytes(300_000));

/** Answers each line, whatever it says, with the same 300,000 bytes. */
function replyServer(): Server {
  return createServer({ allowHalfOpen: true }, (socket) => {
    servers.add(socket);
    socket.on('error', () => undefined);
    socket.on('data', () => socket.write(REPLY));
    socket.on('end', () => socket.end());
  });
}

const servers = new Set<Socket>();
let server: Server;
let proxy: Proxy;

beforeEach(async () => {
  server = replyServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  proxy = await startProxy({ port: (server.address() as { port: number }).port }, { seed: 7 });
});

afterEach(async () => {
  await proxy.close();
  for (const socket of servers) socket.destroy();
  servers.clear();
  await new Promise((resolve) => server.close(resolve));
});

/** A client that asked once, and what it has seen. */
class Client {
  readonly socket: Socket;
  readonly ended: Promise<'FIN' | string>;
  #chunks: Buffer[] = [];

  constructor() {
    this.socket = connect({ port: proxy.port, host: '127.0.0.1', allowHalfOpen: true });
    this.socket.on('data', (chunk) => this.#chunks.push(chunk));
    this.ended = new Promise((resolve) => {
      this.socket.on('end', () => resolve('FIN'));
      this.socket.on('error', (error) => resolve((error as NodeJS.ErrnoException).code ?? ''));
    });
    this.socket.write('value?\n');
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  /** Resolves when this many bytes have come. */
  async has(bytes: number): Promise<Buffer> {
    while (this.bytes.byteLength < bytes) await once(this.socket, 'data');
    return this.bytes;
  }
}

/** Whether no byte comes for 100 ms. */
async function isSilent(client: Client): Promise<boolean> {
  const before = client.bytes.byteLength;
  await new Promise((resolve) => setTimeout(resolve, 100));
  return client.bytes.byteLength === before;
}

function expectReply(bytes: Buffer): void {
  expect(bytes.equals(REPLY)).toBe(true);
}

describe('the proxy', () => {
  it('passes bytes on and counts them', async () => {
    const client = new Client();
    expectReply(await client.has(REPLY.byteLength));
    expect(proxy.bytes).toEqual({ toClient: REPLY.byteLength, toServer: 7 });
    expect(proxy.connections).toEqual({ open: 1, accepted: 1 });
    client.socket.end();
    expect(await client.ended).toBe('FIN');
  });

  it('reaches a server on a Unix socket', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'kvreel-proxy-'));
    const path = join(directory, 'server');
    const unix = replyServer().listen(path);
    await once(unix, 'listening');
    const tcp = proxy;
    proxy = await startProxy({ path });
    const client = new Client();
    expectReply(await client.has(REPLY.byteLength));
    await proxy.close();
    proxy = tcp;
    await new Promise((resolve) => unix.close(resolve));
    rmSync(directory, { recursive: true });
  });

  it('refuses connections as a port where nobody listens, and listens again', async () => {
    const open = new Client();
    await open.has(REPLY.byteLength);
    await proxy.set({ kind: 'refuse' });
    expect(await open.ended).toBe('ECONNRESET');
    expect(await new Client().ended).toBe('ECONNREFUSED');
    await proxy.set(undefined);
    expectReply(await new Client().has(REPLY.byteLength));
  });

  it('blackhole: accepts, passes nothing either way, and lets all go on when it is lifted', async () => {
    await proxy.set({ kind: 'blackhole' });
    const client = new Client();
    await once(client.socket, 'connect');
    expect(await isSilent(client)).toBe(true);
    expect(proxy.bytes).toEqual({ toClient: 0, toServer: 0 });
    await proxy.set(undefined);
    expectReply(await client.has(REPLY.byteLength));
  });

  it('stall: passes so many bytes, then none, then the rest', async () => {
    await proxy.set({ kind: 'stall', afterBytes: 1000 });
    const client = new Client();
    await client.has(1000);
    expect(await isSilent(client)).toBe(true);
    expect(client.bytes.byteLength).toBe(1000);
    await proxy.set(undefined);
    expectReply(await client.has(REPLY.byteLength));
  });

  it('stall on the way to the server holds the question back', async () => {
    await proxy.set({ kind: 'stall', direction: 'toServer' });
    const client = new Client();
    expect(await isSilent(client)).toBe(true);
    expect(proxy.bytes.toServer).toBe(0);
  });

  it('trickle: passes few bytes at a time', async () => {
    await proxy.set({ kind: 'trickle', bytes: 10, everyMs: 5 });
    const client = new Client();
    const start = performance.now();
    await client.has(100);
    expect(performance.now() - start).toBeGreaterThan(40);
    expect(client.bytes.byteLength).toBeLessThan(1000);
    expect(client.bytes.equals(REPLY.subarray(0, client.bytes.byteLength))).toBe(true);
  });

  it('delay: brings all bytes late and in order, without slowing the stream', async () => {
    await proxy.set({ kind: 'delay', ms: 60, jitterMs: 20 });
    const client = new Client();
    const start = performance.now();
    expectReply(await client.has(REPLY.byteLength));
    const ms = performance.now() - start;
    expect(ms).toBeGreaterThan(55);
    expect(ms).toBeLessThan(1000);
  });

  it.each([0, 1000])('reset after %i bytes: RST', async (afterBytes) => {
    await proxy.set({ kind: 'reset', afterBytes });
    const client = new Client();
    if ((await client.ended) === 'FIN') {
      // What Node makes of a RST that came together with bytes. After a true FIN, one may still write.
      client.socket.write('more?\n');
      await once(client.socket, 'error');
    }
    expect(client.bytes.byteLength).toBeLessThanOrEqual(afterBytes);
  });

  it('reset meets a connection that is idle', async () => {
    const client = new Client();
    await client.has(REPLY.byteLength);
    await proxy.set({ kind: 'reset' });
    expect(await client.ended).toBe('ECONNRESET');
  });

  it('half-close: FIN after so many bytes, and the client may still speak', async () => {
    await proxy.set({ kind: 'half-close', afterBytes: 1000 });
    const client = new Client();
    expect(await client.ended).toBe('FIN');
    expect(client.bytes.equals(REPLY.subarray(0, 1000))).toBe(true);
    client.socket.write('and now?\n');
    const [socket] = servers;
    while (proxy.bytes.toServer < 16) await once(socket ?? client.socket, 'data');
    client.socket.end();
    await once(client.socket, 'close');
  });

  it('truncate: FIN after so many bytes, and the server is gone', async () => {
    await proxy.set({ kind: 'truncate', afterBytes: 1000 });
    const client = new Client();
    expect(await client.ended).toBe('FIN');
    expect(client.bytes.equals(REPLY.subarray(0, 1000))).toBe(true);
    const [socket] = servers;
    if (socket?.destroyed === false) await once(socket, 'close');
  });

  it.each([0, 999, 299_999])('flip: one bit of byte %i and no other', async (atByte) => {
    await proxy.set({ kind: 'flip', atByte });
    const bytes = await new Client().has(REPLY.byteLength);
    const differing = [...bytes.keys()].filter((i) => bytes[i] !== REPLY[i]);
    expect(differing).toEqual([atByte]);
    const bits = (bytes[atByte] ?? 0) ^ (REPLY[atByte] ?? 0);
    expect(Math.log2(bits) % 1).toBe(0);
  });

  it('bandwidth: holds all connections together to it', async () => {
    await proxy.set({ kind: 'bandwidth', bytesPerSecond: 3_000_000 });
    const start = performance.now();
    const replies = await Promise.all([new Client(), new Client()].map((client) => client.has(REPLY.byteLength)));
    for (const reply of replies) expectReply(reply);
    const ms = performance.now() - start;
    expect(ms).toBeGreaterThan(190);
    expect(ms).toBeLessThan(400);
  });

  it('a client that goes away takes the connection to the server with it', async () => {
    await proxy.set({ kind: 'stall', afterBytes: 10 });
    const client = new Client();
    await client.has(10);
    client.socket.resetAndDestroy();
    const [socket] = servers;
    if (socket?.destroyed === false) await new Promise((resolve) => socket.once('close', resolve));
  });

  it('close ends everything, whatever is held back', async () => {
    const faults: Fault[] = [{ kind: 'blackhole' }, { kind: 'stall', afterBytes: 5 }, { kind: 'trickle', bytes: 1, everyMs: 1000 }, { kind: 'refuse' }];
    for (const fault of faults) {
      const one = await startProxy({ port: (server.address() as { port: number }).port });
      const socket = connect({ port: one.port, host: '127.0.0.1' }).on('error', () => undefined);
      await once(socket, 'connect');
      socket.write('value?\n');
      await one.set(fault);
      await one.close();
      if (!socket.destroyed) await once(socket, 'close');
      expect(one.connections.open).toBe(0);
    }
  });
});
