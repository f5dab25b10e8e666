// Connections of gets, against a server that answers what each test says: no real one breaks off, or adds a byte, when asked to.
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { s3, type S3Options } from '../../connectors/storage/s3.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import { expectSameBytes, patternBytes } from '../contract/storage-connector.js';

const VALUE = patternBytes(300_000);
const ERROR = '<Error><Code>NoSuchKey</Code></Error>';

interface Request {
  readonly text: string;
  readonly socket: Socket;
  /** From 0, over all connections. */
  readonly index: number;
  /** The same on its connection. */
  readonly turn: number;
}

interface RawServer {
  readonly endpoint: string;
  readonly requests: readonly Request[];
  readonly sockets: ReadonlySet<Socket>;
}

async function startRaw(answer: (request: Request) => void): Promise<RawServer> {
  const requests: Request[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    let turn = 0;
    let text = '';
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1');
      for (let end = text.indexOf('\r\n\r\n'); end !== -1; end = text.indexOf('\r\n\r\n')) {
        const request = { text: text.slice(0, end), socket, index: requests.length, turn: turn++ };
        text = text.slice(end + 4);
        requests.push(request);
        answer(request);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests, sockets };
}

function connect(server: RawServer, options: Partial<S3Options> = {}): StorageConnector {
  const made = s3({ endpoint: server.endpoint, bucket: 'bucket', credentials: { accessKeyId: 'a', secretAccessKey: 'b' }, ...options });
  onTestFinished(() => made.close());
  return made;
}

const head = (...lines: readonly string[]): string => ['HTTP/1.1 200 OK', 'etag: "x"', `content-length: ${VALUE.byteLength}`, ...lines, '', ''].join('\r\n');

function sendValue({ socket }: Request): void {
  socket.write(head());
  socket.write(VALUE);
}

describe('connections of gets', () => {
  it('are used again, and a request says what it must', async () => {
    const server = await startRaw(sendValue);
    const connector = connect(server);
    for (let i = 0; i < 3; i++) expectSameBytes(await connector.get('key'), VALUE);
    expect(server.sockets.size).toBe(1);
    expect(server.requests[2]?.text).toMatch(/^GET \/bucket\/key HTTP\/1\.1\r\n/);
    expect(server.requests[2]?.text.toLowerCase().match(/^host: .*$/gm)).toEqual([`host: ${server.endpoint.slice(7)}`]);
  });

  it('are as many as `maxConnections`, and the calls that wait come in their order', async () => {
    const server = await startRaw((request) => void setImmediate(() => sendValue(request)));
    const connector = connect(server, { maxConnections: 2 });
    const order: number[] = [];
    await Promise.all(Array.from({ length: 8 }, async (_, i) => {
      expectSameBytes(await connector.get(`key${i}`), VALUE);
      order.push(i);
    }));
    expect(server.sockets.size).toBe(2);
    expect(server.requests.map(({ text }) => /key\d/.exec(text)?.[0])).toEqual(Array.from({ length: 8 }, (_, i) => `key${i}`));
  });

  it('that the server closes when they are asked again are replaced once, and that is not one of the tries', async () => {
    let isUp = true;
    const server = await startRaw((request) => (isUp && request.turn === 0 ? sendValue(request) : request.socket.destroy()));
    const connector = connect(server);
    for (let i = 0; i < 2; i++) expectSameBytes(await connector.get('key'), VALUE);
    expect(server.requests.map(({ turn }) => turn)).toEqual([0, 1, 0]);
    isUp = false;
    await expect(connector.get('key')).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
    expect(server.requests.slice(3).map(({ turn }) => turn)).toEqual([1, 0, 0, 0, 0]);
  });

  it('that bring more than the answer are not used again', async () => {
    const server = await startRaw((request) => {
      request.socket.write(Buffer.concat([Buffer.from(head()), VALUE, Buffer.from(head()), VALUE]));
    });
    const connector = connect(server);
    const into = new Uint8Array(VALUE.byteLength + 10).fill(0xa5);
    for (let i = 0; i < 3; i++) expectSameBytes(await connector.get('key', { into }), VALUE);
    expect(into.subarray(VALUE.byteLength).every((byte) => byte === 0xa5)).toBe(true);
    expect(server.sockets.size).toBe(3);
    await vi.waitUntil(() => [...server.sockets].every(({ closed }) => closed));
  });

  it('that the server announces to close are not used again', async () => {
    const server = await startRaw(({ socket }) => {
      socket.write(head('Connection: close'));
      socket.write(VALUE);
    });
    const connector = connect(server);
    for (let i = 0; i < 2; i++) expectSameBytes(await connector.get('key'), VALUE);
    expect(server.sockets.size).toBe(2);
  });

  it('stay after a miss in chunks, and after interim answers', async () => {
    const server = await startRaw((request) => {
      if (request.index > 0) return void request.socket.write(`HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 X\r\ntransfer-encoding: chunked\r\n\r\n${ERROR.length.toString(16)}\r\n${ERROR}\r\n0\r\n\r\n`);
      sendValue(request);
    });
    const connector = connect(server);
    expectSameBytes(await connector.get('key'), VALUE);
    for (let i = 0; i < 3; i++) expect(await connector.get('key')).toBeUndefined();
    expect(server.sockets.size).toBe(1);
  });

  it('whose end is that of an error text give its code', async () => {
    const server = await startRaw(({ socket }) => void socket.end(`HTTP/1.1 404 X\r\n\r\n${ERROR}`));
    expect(await connect(server).get('key')).toBeUndefined();
  });

  it('end by themselves when they are not used for some seconds', { timeout: 15_000 }, async () => {
    const server = await startRaw(sendValue);
    expectSameBytes(await connect(server).get('key'), VALUE);
    await vi.waitUntil(() => [...server.sockets].every(({ closed }) => closed), { timeout: 10_000 });
  });

  it('are never given a line end from credentials', async () => {
    const server = await startRaw(sendValue);
    const connector = connect(server, { credentials: { accessKeyId: 'a', secretAccessKey: 'b', sessionToken: 'hush\r\nx: y' } });
    const error: unknown = await connector.get('key').catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code: 'KV_CONNECTOR_REFUSED', message: expect.not.stringContaining('hush') });
    expect(server.sockets.size).toBe(0);
  });

  it('of an aborted call end, wherever it stands, and give the others their turn', async () => {
    const held: Request[] = [];
    const server = await startRaw((request) => (request.text.includes('held') ? void held.push(request) : sendValue(request)));
    const connector = connect(server, { maxConnections: 1 });
    const [first, waiting] = [new AbortController(), new AbortController()];
    const into = new Uint8Array(VALUE.byteLength);
    const read = connector.get('held', { signal: first.signal, into }).catch((cause: unknown) => cause);
    const waits = connector.get('waiting', { signal: waiting.signal }).catch((cause: unknown) => cause);
    const last = connector.get('last');
    await vi.waitUntil(() => held.length === 1);
    held[0]?.socket.write(head());
    held[0]?.socket.write(VALUE.subarray(0, 280_000));
    await vi.waitUntil(() => into[0] === VALUE[0] && into[1] === VALUE[1]);
    waiting.abort(new Error('not any more'));
    expect(await waits).toMatchObject({ message: 'not any more' });
    first.abort(new Error('too late'));
    expect(await read).toMatchObject({ message: 'too late' });
    into.fill(0xa5);
    held[0]?.socket.write(VALUE.subarray(280_000));
    expectSameBytes(await last, VALUE);
    await vi.waitUntil(() => held[0]?.socket.closed === true);
    expect(into.every((byte) => byte === 0xa5)).toBe(true);
  });
});
