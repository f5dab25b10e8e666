// Faults; a number is that of the same fault in the tests of all connectors. Right bytes, a miss or a code, in time. What SeaweedFS does by
// itself is done with it; the rest are its true answers, altered on their way.
import { randomBytes, randomUUID } from 'node:crypto';
import { closeSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { s3, type S3Options } from '../../connectors/storage/s3.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import { expectSameBytes, listed, patternBytes } from '../contract/storage-connector.js';
import { headText, startHttpProxy, type HttpProxy, type ProxiedAnswer, type Twist } from '../faults/http-proxy.js';
import { provideServers, PROVIDE_TIMEOUT_MS } from '../servers/provide.js';
import { BUCKET, OWNER, startSeaweed, type SeaweedServer } from '../servers/seaweedfs.js';

const MIB = 1024 * 1024;
const VALUE = patternBytes(300_000);
const RANGE = { offset: 1000, length: 200_000 };
const RANGE_BYTES = VALUE.slice(1000, 201_000);

const UNAVAILABLE = { name: 'KvError', code: 'KV_CONNECTOR_UNAVAILABLE', retryable: true };
const REFUSED = { name: 'KvError', code: 'KV_CONNECTOR_REFUSED', retryable: false };
const FORBIDDEN = { name: 'KvError', code: 'KV_PERMISSION', retryable: false };
const TIMEOUT = { name: 'KvError', code: 'KV_CONNECTOR_TIMEOUT', retryable: true };

let server: SeaweedServer;
let proxy: HttpProxy;
let prefix = '';
let connector: StorageConnector;

beforeAll(async () => {
  server = await startSeaweed((await provideServers()).seaweedfs);
  proxy = await startHttpProxy(server.endpoint);
}, PROVIDE_TIMEOUT_MS);

afterAll(async () => {
  await proxy.close();
  await server.stop();
});

function connect(options: Partial<S3Options> = {}): StorageConnector {
  const made = s3({ endpoint: proxy.endpoint, bucket: BUCKET, prefix, credentials: OWNER, ...options });
  onTestFinished(() => made.close());
  return made;
}

beforeEach(async () => {
  prefix = randomUUID();
  connector = connect();
  await connector.put('key', VALUE);
});

afterEach(() => proxy.set(undefined));

/** Every way to read bytes, each with what it gives when nothing is wrong. */
const READS: readonly (readonly [string, (options?: { signal?: AbortSignal }) => Promise<Uint8Array | undefined>, Uint8Array])[] = [
  ['get', (options = {}) => connector.get('key', options), VALUE],
  ['get into memory', (options = {}) => connector.get('key', { ...options, into: new Uint8Array(VALUE.byteLength + 10) }), VALUE],
  ['get of a range', (options = {}) => connector.get('key', { ...options, range: RANGE }), RANGE_BYTES],
];

const VERBS: Readonly<Record<string, () => Promise<unknown>>> = {
  get: () => connector.get('key'),
  range: () => connector.get('key', { range: RANGE }),
  put: () => connector.put('key', VALUE),
  has: () => connector.has('key'),
  delete: () => connector.delete('key'),
  list: () => listed(connector, ''),
  sweep: () => connector.sweep?.() ?? Promise.resolve(),
};

async function expectAll(calls: Readonly<Record<string, () => Promise<unknown>>>, expected: object): Promise<void> {
  for (const [name, call] of Object.entries(calls)) await expect(call(), name).rejects.toMatchObject(expected);
}

/** Alters what the server answers to GETs. */
function alter(change: (answer: ProxiedAnswer) => Partial<ProxiedAnswer>): void {
  proxy.set(async ({ request, forward, send }) => {
    const answer = await forward();
    send(request.method === 'GET' ? { ...answer, ...change(answer) } : answer);
  });
}

/** Alters headers; undefined takes one away. */
function alterHeaders(headers: Readonly<Record<string, string | undefined>>): void {
  alter((answer) => ({ headers: Object.fromEntries(Object.entries({ ...answer.headers, ...headers }).filter(([, value]) => value !== undefined)) }));
}

/** Every read must reject as expected, and the next one, with the fault gone, must give the right bytes. */
async function expectReadsRejected(expected: object): Promise<void> {
  for (const [name, read] of READS) await expect(read(), name).rejects.toMatchObject(expected);
  proxy.set(undefined);
  for (const [, read, bytes] of READS) expectSameBytes(await read(), bytes);
}

/** Plays the twist; gives the connections that requests came on. */
function watchSockets(twist: Twist): ReadonlySet<Socket> {
  const sockets = new Set<Socket>();
  proxy.set((passage) => {
    sockets.add(passage.socket);
    return twist(passage);
  });
  return sockets;
}

const allClosed = (sockets: ReadonlySet<Socket>): boolean => sockets.size > 0 && [...sockets].every(({ closed }) => closed);

/** Every read must settle within its deadline + 50 ms, with the signal's reason, and not touch the memory afterwards. */
async function expectDeadlineKept(twist: Twist): Promise<void> {
  const sockets = watchSockets(twist);
  const reason = new Error('the deadline is over');
  for (const range of [undefined, RANGE]) {
    const into = new Uint8Array(VALUE.byteLength);
    const controller = new AbortController();
    let abortedAt = NaN;
    setTimeout(() => {
      abortedAt = performance.now();
      controller.abort(reason);
    }, 150);
    await expect(connector.get('key', { signal: controller.signal, into, ...(range === undefined ? {} : { range }) })).rejects.toBe(reason);
    expect(performance.now() - abortedAt).toBeLessThan(50);
    into.fill(0xa5);
    await vi.waitUntil(() => allClosed(sockets)); // not used again
    expect(into.every((byte) => byte === 0xa5)).toBe(true);
  }
  const limited = connect({ timeoutMs: 150 });
  const start = performance.now();
  await expect(limited.get('key')).rejects.toMatchObject(TIMEOUT);
  expect(performance.now() - start).toBeLessThan(250);
  proxy.set(undefined);
  for (const [, read, bytes] of READS) expectSameBytes(await read(), bytes);
}

const errorXml = (code: string): Buffer => Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>m</Message></Error>`);

describe('s3', () => {
  describe('fault 15: a server that fails or is busy', () => {
    it.each([
      [500, 'InternalError'],
      [502, undefined],
      [503, 'SlowDown'],
      [503, 'ServiceUnavailable'],
      [504, undefined],
      [429, 'TooManyRequests'],
      [409, 'OperationAborted'],
      [400, 'RequestTimeout'],
    ])('with %i %s is asked again, and every verb succeeds when it recovers', async (status, code) => {
      for (const [name, call] of Object.entries(VERBS)) {
        proxy.set(async ({ index, forward, send }) => send(index === 0 ? { status, headers: {}, body: code === undefined ? Buffer.alloc(0) : errorXml(code) } : await forward()));
        await expect(call(), name).resolves.not.toThrow();
      }
    });

    it('for good makes every verb reject as unavailable after four tries, in time', async () => {
      for (const [name, call] of Object.entries(VERBS)) {
        proxy.set(({ send }) => send({ status: 503, headers: {}, body: errorXml('SlowDown') }));
        const start = performance.now();
        await expect(call(), name).rejects.toMatchObject({ ...UNAVAILABLE, message: expect.stringContaining('503') });
        expect(proxy.requests, name).toHaveLength(4);
        expect(performance.now() - start).toBeLessThan(2000);
      }
    });

    it('gets the pause that it asks for', async () => {
      for (const headerNow of [() => '1', () => new Date(Date.now() + 2000).toUTCString()]) {
        const header = headerNow();
        proxy.set(async ({ index, forward, send }) => send(index === 0 ? { status: 503, headers: { 'retry-after': header }, body: errorXml('SlowDown') } : await forward()));
        const start = performance.now();
        expectSameBytes(await connector.get('key'), VALUE);
        expect(performance.now() - start).toBeGreaterThan(header === '1' ? 990 : 100);
      }
    });

    it.each(['60', '999999999'])('that asks for a pause of %s s ends the call at once', async (pause) => {
      proxy.set(({ send }) => send({ status: 503, headers: { 'retry-after': pause }, body: errorXml('SlowDown') }));
      await expect(connector.get('key')).rejects.toMatchObject(UNAVAILABLE);
      expect(proxy.requests).toHaveLength(1);
    });

    it.each(['soon', '-1', '1e9', ''])('that asks for a pause of %j is asked again as if it had not', async (pause) => {
      proxy.set(async ({ index, forward, send }) => send(index === 0 ? { status: 503, headers: { 'retry-after': pause }, body: errorXml('SlowDown') } : await forward()));
      expectSameBytes(await connector.get('key'), VALUE);
    });

    it('does not hold a call beyond its deadline, while it waits for the next try', async () => {
      await expectDeadlineKept(({ send }) => send({ status: 503, headers: { 'retry-after': '3', connection: 'close' }, body: errorXml('SlowDown') }));
    });

    it('that is full (fault 8) gives KV_NO_SPACE to puts', async () => {
      for (const [status, code] of [[507, undefined], [403, 'QuotaExceeded'], [507, 'XMinioStorageFull']] as const) {
        proxy.set(({ send }) => send({ status, headers: {}, body: code === undefined ? Buffer.alloc(0) : errorXml(code) }));
        await expect(connector.put('key', VALUE)).rejects.toMatchObject({ name: 'KvError', code: 'KV_NO_SPACE', retryable: false });
        expect(proxy.requests).toHaveLength(1);
      }
    });

    it('with an endless explanation does not hold the call', async () => {
      const sockets = watchSockets(({ socket, request }) => {
        if (request.method === 'HEAD') return void socket.end(headText(503, { 'content-length': 0 }));
        socket.write(headText(503, {}));
        const flood = (): void => void (socket.destroyed || socket.write(Buffer.alloc(64 << 10, 'x'), () => setImmediate(flood)));
        flood();
      });
      await expect(connector.get('key')).rejects.toMatchObject(UNAVAILABLE);
      await vi.waitUntil(() => allClosed(sockets));
    });
  });

  it('fault 16: a clock that is an hour off gives every verb KV_PERMISSION and the reason', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 });
    onTestFinished(() => void vi.useRealTimers());
    await expectAll(VERBS, { ...FORBIDDEN, message: expect.stringContaining('clock') });
  });

  it('fault 16: 403 without a reason gives every verb KV_PERMISSION, and says what to allow', async () => {
    proxy.set(({ send }) => send({ status: 403, headers: {}, body: Buffer.alloc(0) }));
    await expectAll(VERBS, { ...FORBIDDEN, message: expect.stringContaining('s3:GetObject') });
  });

  it('fault 17: a value that went between a list and its get is a miss', async () => {
    const [value] = await listed(connector, '');
    expect(await connect({ endpoint: server.endpoint }).delete('key')).toBe(true);
    expect(await connector.get(value?.key ?? '')).toBeUndefined();
    expect(await connector.get(value?.key ?? '', { range: RANGE })).toBeUndefined();
    expect(await connector.has(value?.key ?? '')).toBe(false);
  });

  it('fault 17: a 404 that does not come from S3 is no miss', async () => {
    for (const body of ['', '<html><body>404 Not Found</body></html>', '<Error><Code>NotHere</Code></Error>']) {
      proxy.set(({ send }) => send({ status: 404, headers: { 'content-type': 'text/html' }, body: Buffer.from(body) }));
      await expect(connector.get('key')).rejects.toMatchObject(REFUSED);
    }
  });

  it('fault 18: a server that ignores the range is refused', async () => {
    proxy.set(async ({ send }) => {
      const whole = Buffer.from(VALUE);
      send({ status: 200, headers: { etag: '"x"', 'content-length': whole.byteLength }, body: whole });
    });
    await expect(connector.get('key', { range: RANGE })).rejects.toMatchObject(REFUSED);
    await expect(connector.get('key', { range: { offset: 0, length: VALUE.byteLength } })).rejects.toMatchObject(REFUSED);
  });

  it('fault 18: a range that nobody asked for is refused', async () => {
    alter(({ headers }) => ({ status: 206, headers: { ...headers, 'content-range': `bytes 0-${VALUE.byteLength - 1}/${VALUE.byteLength}` } }));
    await expect(connector.get('key')).rejects.toMatchObject(REFUSED);
  });

  describe('fault 19: a wrong Content-Range is refused:', () => {
    it.each([
      ['shifted', 'bytes 1001-201000/300000'],
      ['longer', 'bytes 1000-201000/300000'],
      ['shorter', 'bytes 1000-200998/300000'],
      ['backwards', 'bytes 200999-1000/300000'],
      ['of a smaller value', 'bytes 1000-200999/100000'],
      ['of another unit', 'items 1000-200999/300000'],
      ['without a total', 'bytes 1000-200999/*'],
      ['of two ranges', 'bytes 1000-200999/300000, bytes 0-1/300000'],
      ['of numbers too large', 'bytes 1000-200999/99999999999999999999'],
      ['missing', undefined],
    ])('%s', async (_, header) => {
      alterHeaders({ 'content-range': header });
      await expect(connector.get('key', { range: RANGE })).rejects.toMatchObject(REFUSED);
      proxy.set(undefined);
      expectSameBytes(await connector.get('key', { range: RANGE }), RANGE_BYTES);
    });

    it('of a value that was put with another length', async () => {
      alterHeaders({ 'content-range': 'bytes 1000-200999/300001' });
      await expect(connector.get('key', { range: RANGE })).rejects.toMatchObject({ code: 'KV_CORRUPT_OBJECT' });
    });
  });

  it('fault 20: a short 200 that says so is known by the length that was put', async () => {
    alter(({ headers, body }) => ({ headers: { ...headers, 'content-length': body.byteLength - 1 }, body: body.subarray(0, -1) }));
    await expect(connector.get('key')).rejects.toMatchObject({ code: 'KV_CORRUPT_OBJECT' });
    await expect(connector.get('key', { range: RANGE })).rejects.toMatchObject(REFUSED);
  });

  it('fault 20: a body that ends before its length is tried again, and then a code', async () => {
    const cut: Twist = async ({ forward, socket }) => {
      const { status, headers, body } = await forward();
      socket.write(headText(status, headers));
      socket.end(body.subarray(0, 100_000));
    };
    proxy.set(cut);
    await expectReadsRejected(UNAVAILABLE);
    proxy.set(async (passage) => (passage.index === 0 ? cut(passage) : passage.send(await passage.forward())));
    expectSameBytes(await connector.get('key'), VALUE);
    expect(proxy.requests).toHaveLength(2);
  });

  it('fault 20: a body without a length is refused', async () => {
    alterHeaders({ 'content-length': undefined });
    await expectReadsRejected(REFUSED);
  });

  it('fault 21: a body that is longer than asked is refused before it is read', async () => {
    alter(({ headers, body }) => ({ headers: { ...headers, 'content-length': body.byteLength + 1 }, body: Buffer.concat([body, Buffer.of(1)]) }));
    await expect(connector.get('key', { range: RANGE })).rejects.toMatchObject(REFUSED);
    await expect(connector.get('key')).rejects.toMatchObject({ code: 'KV_CORRUPT_OBJECT' });
  });

  it('fault 21: bytes after the end of a body reach nobody', async () => {
    proxy.set(async ({ forward, socket }) => {
      const { status, headers, body } = await forward();
      socket.write(Buffer.concat([Buffer.from(headText(status, headers)), body, Buffer.alloc(100_000, 0xa5)]));
    });
    const memory = new Uint8Array(VALUE.byteLength + 100_000);
    // The answer was whole, so it counts, or the connection is found broken first; never a byte more.
    for (let i = 0; i < 4; i++) {
      const read = await connector.get('key', { into: memory }).catch((cause: unknown) => expect(cause).toMatchObject(UNAVAILABLE));
      if (read instanceof Uint8Array) expectSameBytes(read, VALUE);
      expect(memory.subarray(VALUE.byteLength).every((byte) => byte === 0)).toBe(true);
    }
    proxy.set(undefined);
    for (const [, read, bytes] of READS) expectSameBytes(await read(), bytes);
  });

  it('fault 21: an endless body is refused, and the connection ended', async () => {
    const sockets = watchSockets(async ({ forward, socket }) => {
      const { 'content-length': _, ...headers } = (await forward()).headers;
      socket.write(headText(200, { ...headers, 'transfer-encoding': 'chunked' }));
      const flood = (): void => void (socket.destroyed || socket.write(`10000\r\n${'x'.repeat(65_536)}\r\n`, () => setImmediate(flood)));
      flood();
    });
    for (const [name, read] of READS) await expect(read(), name).rejects.toMatchObject(REFUSED);
    await vi.waitUntil(() => allClosed(sockets));
  });

  it('fault 21: an endless listing is refused, and the connection ended', async () => {
    const sockets = watchSockets(({ socket }) => {
      socket.write(headText(200, { 'content-type': 'application/xml', 'transfer-encoding': 'chunked' }));
      const flood = (): void => void (socket.destroyed || socket.write(`10000\r\n${'<Contents>'.repeat(6554).slice(0, 65_536)}\r\n`, () => setImmediate(flood)));
      flood();
    });
    await expect(listed(connector, '')).rejects.toMatchObject(REFUSED);
    await vi.waitUntil(() => allClosed(sockets));
  });

  it('fault 22: a page of a proxy is neither a value, nor a listing, nor a success', async () => {
    const page = Buffer.from('<!doctype html><html><body>Please log in</body></html>');
    for (const type of ['text/html', 'text/html; charset=utf-8', 'application/xhtml+xml', 'application/octet-stream']) {
      proxy.set(({ send }) => send({ status: 200, headers: { 'content-type': type, 'content-length': page.byteLength }, body: page }));
      await expectAll(VERBS, REFUSED);
    }
  });

  it.each([
    ['a size that is no number', /<Size>\d+/, '<Size>many'],
    ['a size below 0', /<Size>\d+/, '<Size>-1'],
    ['half a byte', /<Size>\d+/, '<Size>0.5'],
    ['more bytes than can be counted', /<Size>\d+/, '<Size>99999999999999999999'],
    ['no size', /<Size>\d+<\/Size>/, ''],
    ['a time that is none', /<LastModified>[^<]*/, '<LastModified>yesterday'],
    ['no time', /<LastModified>[^<]*<\/LastModified>/, ''],
  ])('fault 22: a listing with %s is refused, and asked for once', async (_, from, to) => {
    alter(({ headers, body }) => {
      const altered = Buffer.from(body.toString().replace(from, to));
      return { headers: { ...headers, 'content-length': altered.byteLength }, body: altered };
    });
    await expect(listed(connector, '')).rejects.toMatchObject(REFUSED);
    expect(proxy.requests).toHaveLength(1);
    proxy.set(undefined);
    expect(await listed(connector, '')).toEqual([{ key: 'key', bytes: VALUE.byteLength }]);
  });

  it.each(['gzip', 'br', 'aws-chunked', 'identity, gzip'])('fault 23: an answer with content-encoding %s is refused', async (encoding) => {
    alterHeaders({ 'content-encoding': encoding });
    await expectReadsRejected(REFUSED);
  });

  it.each([301, 302, 303, 307, 308])('fault 24: a redirect with %i to another host is refused, and the other host is never asked', async (status) => {
    let asked = 0;
    const other = createServer((_, response) => void response.end(VALUE.subarray(0, ++asked)));
    other.on('connection', () => asked++);
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void other.close());
    const location = `http://127.0.0.1:${(other.address() as AddressInfo).port}/elsewhere`;
    for (const body of ['', `<Error><Code>TemporaryRedirect</Code><Endpoint>${location}</Endpoint></Error>`, `<Error><Code>PermanentRedirect</Code><Endpoint>${location}</Endpoint></Error>`]) {
      proxy.set(({ send }) => send({ status, headers: { location, 'x-amz-bucket-region': 'eu-west-1' }, body: Buffer.from(body) }));
      await expectAll(VERBS, REFUSED);
    }
    expect(asked).toBe(0);
  });

  it('fault 25: a value that changes while it is read comes from one put, because one get is one request', async () => {
    const other = patternBytes(VALUE.byteLength, 1);
    proxy.set(async ({ index, forward, send, socket }) => {
      const answer = await forward();
      if (index > 0) return send(answer);
      // The first half of the old value, then the connection breaks, and the value changes.
      socket.write(headText(answer.status, answer.headers));
      await connect({ endpoint: server.endpoint }).put('key', other);
      socket.end(answer.body.subarray(0, 150_000));
    });
    expectSameBytes(await connector.get('key'), other);
    expect(proxy.requests.map(({ method, headers }) => [method, headers.range])).toEqual([['GET', undefined], ['GET', undefined]]);
  });

  it('fault 26: of writers that race for one key one wins, whole', async () => {
    const writers = Array.from({ length: 16 }, (_, i) => ({ writer: connect({ endpoint: server.endpoint }), value: patternBytes(200_000 + i, i) }));
    await Promise.all(writers.map(({ writer, value }) => writer.put('race', value)));
    const read = await connector.get('race');
    expectSameBytes(read, patternBytes(read?.byteLength ?? 0, (read?.byteLength ?? 0) - 200_000));
  });

  it('fault 26: 412 gives a put a code that is not tried again', async () => {
    proxy.set(({ send }) => send({ status: 412, headers: {}, body: errorXml('PreconditionFailed') }));
    await expect(connector.put('key', VALUE)).rejects.toMatchObject(REFUSED);
    expect(proxy.requests).toHaveLength(1);
  });

  it('fault 27: an upload that its writer left, killed in the middle, is no value', async () => {
    const big = patternBytes(11 * MIB);
    const writer = connect({ partBytes: 5 * MIB });
    const controller = new AbortController();
    // The writer's death as the server sees it: nothing more comes, not even the clearing up.
    proxy.set(async ({ request, forward, send, socket }) => {
      if (request.method === 'DELETE') return void socket.destroy();
      if (request.path.includes('partNumber=2')) return controller.abort(new Error('killed'));
      send(await forward());
    });
    await expect(writer.put('big', big, { signal: controller.signal })).rejects.toThrow('killed');
    await writer.close();
    proxy.set(undefined);
    expect(await connector.get('big')).toBeUndefined();
    expect(await connector.has('big')).toBe(false);
    expect(await listed(connector, 'big')).toEqual([]);
    await connect({ partBytes: 5 * MIB }).put('big', big);
    expectSameBytes(await connector.get('big'), big);
  });

  it('fault 28: an answer whose headers never come ends by the deadline', async () => {
    await expectDeadlineKept(() => undefined);
  });

  it('fault 28: an answer whose headers come in part ends by the deadline', async () => {
    await expectDeadlineKept(({ socket }) => void socket.write('HTTP/1.1 200 OK\r\netag: "x"\r\ncontent-le'));
  });

  it('fault 28: every verb ends by its time limit', async () => {
    proxy.set(() => undefined);
    connector = connect({ timeoutMs: 100 });
    for (const [name, call] of Object.entries(VERBS)) {
      const start = performance.now();
      await expect(call(), name).rejects.toMatchObject(TIMEOUT);
      expect(performance.now() - start, name).toBeLessThan(200);
    }
  });

  it('fault 29: a trickle ends by the deadline', async () => {
    await expectDeadlineKept(async ({ forward, socket }) => {
      const { status, headers, body } = await forward();
      socket.write(headText(status, headers));
      let sent = 0;
      const timer = setInterval(() => void socket.write(body.subarray(sent, (sent += 100))), 10);
      socket.on('close', () => clearInterval(timer));
    });
  });

  it('puts that hang hold up no other verb', async () => {
    const narrow = connect({ maxConnections: 1 });
    proxy.set(({ request, forward, send }) => (request.method === 'PUT' ? undefined : forward().then(send)));
    const controller = new AbortController();
    const puts = Promise.allSettled([1, 2, 3].map((i) => narrow.put(`new/${i}`, VALUE, { signal: controller.signal })));
    await vi.waitUntil(() => proxy.requests.length > 0);
    expectSameBytes(await narrow.get('key', { range: RANGE }), RANGE_BYTES);
    expect(await narrow.has('key')).toBe(true);
    expect(await listed(narrow, '')).toMatchObject([{ key: 'key' }]);
    expect(await narrow.delete('key')).toBe(true);
    controller.abort();
    expect((await puts).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
  });

  it('fault 29: a head that comes byte by byte is read right', async () => {
    proxy.set(async ({ forward, socket }) => {
      const { status, headers, body } = await forward();
      for (const byte of Buffer.from(headText(status, headers))) {
        socket.write(Buffer.of(byte));
        await new Promise(setImmediate);
      }
      socket.write(body);
    });
    // At once, over several connections.
    await Promise.all([...READS, ...READS, ...READS].map(async ([, read, bytes]) => expectSameBytes(await read(), bytes)));
  });

  it('fault 30: a bit that flipped on the server\'s disk gives a code in time', async () => {
    const value = randomBytes(500_000);
    const own = connect({ endpoint: server.endpoint, timeoutMs: 2000 });
    await own.put('rotten', value);
    expect(flipOnDisk(server.directory, value)).toBe(1);
    // SeaweedFS looks for another copy for seconds before it answers 500.
    await expectAll(
      { get: () => own.get('rotten'), range: () => own.get('rotten', { range: { offset: 100_000, length: 1000 } }) },
      { name: 'KvError', code: expect.stringMatching(/^KV_CONNECTOR_(TIMEOUT|UNAVAILABLE)$/) },
    );
    await own.put('rotten', value);
    expectSameBytes(await own.get('rotten'), value);
  });

  it('a value that is damaged on its way to the server is refused there, and the old one stays', async () => {
    proxy.set(async ({ request, forward, send }) => {
      const damaged = Buffer.from(request.body);
      damaged[1234] = (damaged[1234] ?? 0) ^ 1;
      send(await forward(damaged));
    });
    await expect(connector.put('key', patternBytes(5000))).rejects.toMatchObject(UNAVAILABLE);
    expect(proxy.requests).toHaveLength(4);
    proxy.set(undefined);
    expectSameBytes(await connector.get('key'), VALUE);
  });
});

/** Flips one bit of `value` wherever it lies in a volume under `directory`; gives the number of places. */
function flipOnDisk(directory: string, value: Buffer): number {
  let places = 0;
  for (const name of readdirSync(directory).filter((file) => file.endsWith('.dat'))) {
    const at = readFileSync(join(directory, name)).indexOf(value.subarray(100_000, 100_200));
    if (at === -1) continue;
    const file = openSync(join(directory, name), 'r+');
    writeSync(file, Buffer.of((value[100_000] ?? 0) ^ 0x10), 0, 1, at);
    closeSync(file);
    places++;
  }
  return places;
}

describe('s3, killed', () => {
  it('with SIGKILL in the middle of puts keeps of each key the old value, the new one or none, and never another', { timeout: 60_000 }, async () => {
    const own = connect({ endpoint: server.endpoint, timeoutMs: 20_000 });
    const keys = Array.from({ length: 24 }, (_, i) => `key/${i}`);
    await Promise.all(keys.map((key, i) => own.put(key, patternBytes(400_000 + i, 1))));
    // Again and again until one fails, so that all are in the middle of one when the server is killed.
    let done = 0;
    const puts = keys.map(async (key, i) => {
      for (;; done++) await own.put(key, patternBytes(500_000 + i, 2));
    });
    const ended = Promise.allSettled(puts);
    await vi.waitFor(() => expect(done).toBeGreaterThan(3));
    await server.kill();
    const outcomes = await ended;
    await server.restart();
    for (const outcome of outcomes) expect(outcome).toMatchObject({ status: 'rejected', reason: UNAVAILABLE });
    for (const [i, key] of keys.entries()) {
      const value = await own.get(key).catch((cause: unknown) => void expect(cause).toMatchObject(UNAVAILABLE));
      if (value !== undefined) expectSameBytes(value, value.byteLength === 500_000 + i ? patternBytes(500_000 + i, 2) : patternBytes(400_000 + i, 1));
      await own.put(key, patternBytes(10));
      expectSameBytes(await own.get(key), patternBytes(10));
    }
  });
});

describe('s3, stopped or killed in the middle of an answer', () => {
  const large = new Uint8Array(64 * MIB).fill(7); // what no buffer between the server and us can hold

  /** A get of it whose first bytes are there. */
  async function startGet(own: StorageConnector, signal?: AbortSignal): Promise<{ readonly outcome: Promise<unknown>; readonly into: Uint8Array }> {
    const into = new Uint8Array(large.byteLength);
    const outcome = own.get('large', { into, ...(signal && { signal }) }).catch((cause: unknown) => cause);
    await vi.waitUntil(() => into[0] !== 0, { interval: 1 });
    return { outcome, into };
  }

  it('fault 4: SIGSTOP ends the get by its deadline, and the memory is left alone', async () => {
    const own = connect({ endpoint: server.endpoint });
    await own.put('large', large);
    const controller = new AbortController();
    const reason = new Error('the deadline is over');
    const { outcome, into } = await startGet(own, controller.signal);
    server.pause();
    let abortedAt = NaN;
    setTimeout(() => {
      abortedAt = performance.now();
      controller.abort(reason);
    }, 100);
    expect(await outcome).toBe(reason);
    expect(performance.now() - abortedAt).toBeLessThan(50);
    into.fill(0xa5);
    server.resume();
    expectSameBytes(await own.get('large'), large);
    expect(into.every((byte) => byte === 0xa5)).toBe(true);
  });

  it('fault 5: SIGKILL gives a code in time, and after a restart the value is whole', { timeout: 60_000 }, async () => {
    const own = connect({ endpoint: server.endpoint });
    await own.put('large', large);
    const { outcome } = await startGet(own);
    const killed = performance.now();
    await server.kill();
    expect(await outcome).toMatchObject(UNAVAILABLE);
    expect(performance.now() - killed).toBeLessThan(2000);
    await expectAll({ get: () => own.get('large'), has: () => own.has('large'), put: () => own.put('large', VALUE) }, UNAVAILABLE);
    await server.restart();
    const value = await own.get('large').catch((cause: unknown) => void expect(cause).toMatchObject(UNAVAILABLE));
    if (value !== undefined) expectSameBytes(value, large);
  });
});

describe('s3, closed', () => {
  it('fault 55: close() waits for what runs, refuses the rest, and leaves no connection open', async () => {
    const busy = connect();
    const reads = Array.from({ length: 64 }, () => busy.get('key'));
    const closed = busy.close();
    await expect(busy.get('key')).rejects.toMatchObject({ code: 'KV_CLOSED' });
    await closed;
    for (const read of reads) expectSameBytes(await read, VALUE);
    await connector.close();
    await vi.waitUntil(() => proxy.openConnections === 0);
  });
});
