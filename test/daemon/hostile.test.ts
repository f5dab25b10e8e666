// Clients that lie, stop, vanish or may not come in. Whatever they do, the daemon goes on serving others and holds nothing of theirs.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CALL_INDEX, FRAME_TYPE, packFrameHeader } from '../../connectors/engine/daemon/frames.js';
import { MAX_JSON_BYTES } from '../../connectors/engine/daemon/exchange.js';
import { clientOf, framesBody, framesOf } from './client.js';
import { SPACE, tensorOf, testDaemon, TOKEN_BYTES, type TestDaemon } from './daemon.js';

let d: TestDaemon;
let space: string;

beforeEach(async () => {
  d = await testDaemon();
  space = await d.register();
});

afterEach(async () => {
  // Still alive, and well.
  await d.store(space, { feed: tensorOf(3, 9) });
  expect((await d.client.frames('/v1/fetch', { space, entries: [{ hash: 'feed', bytes: 3 * TOKEN_BYTES }] })).summary).toMatchObject({ hits: 1 });
  await d.stop();
});

const head = (bytes: number, more: object = {}): object => ({ space, entries: [{ hash: 'a1', bytes }], ...more });
const post = (body: Uint8Array | string, type = FRAME_TYPE): ReturnType<TestDaemon['client']['send']> => d.client.send('POST', '/v1/store', body, { 'content-type': type });
const codeOf = (body: Buffer): string => (JSON.parse(body.toString()) as { error: { code: string } }).error.code;

describe('a body of frames is refused', () => {
  const bytes = 4 * TOKEN_BYTES;
  const json = (): Buffer => Buffer.from(JSON.stringify(head(bytes)));
  const frame = (index: number, status: number, announced: number, payload: Uint8Array): Buffer => Buffer.concat([packFrameHeader({ index, status, bytes: announced }), payload]);
  const call = (): Buffer => frame(CALL_INDEX, 0, json().length, json());

  it.each<[string, () => Buffer]>([
    ['that is empty', () => Buffer.alloc(0)],
    ['that ends in its first header', () => Buffer.alloc(15)],
    ['whose first frame is not the call', () => frame(0, 0, bytes, tensorOf(4, 1))],
    ['whose call is longer than JSON may be', () => frame(CALL_INDEX, 0, MAX_JSON_BYTES + 1, json())],
    ['whose call claims 2^63 bytes', () => frame(CALL_INDEX, 0, 2 ** 63, json())],
    ['whose call is no JSON', () => frame(CALL_INDEX, 0, 4, Buffer.from('{"a"'))],
    ['whose call is no UTF-8', () => frame(CALL_INDEX, 0, 4, Buffer.from([0x22, 0xff, 0xfe, 0x22]))],
    ['that ends before its entry', () => call()],
    ['that ends inside its entry', () => Buffer.concat([call(), frame(0, 0, bytes, tensorOf(4, 1)).subarray(0, 100)])],
    ['whose entry is another one', () => Buffer.concat([call(), frame(1, 0, bytes, tensorOf(4, 1))])],
    ['whose entry has a status', () => Buffer.concat([call(), frame(0, 1, bytes, tensorOf(4, 1))])],
    ['whose entry has another length than announced', () => Buffer.concat([call(), frame(0, 0, bytes - 1, tensorOf(4, 1))])],
    ['whose entry claims 2^63 bytes', () => Buffer.concat([call(), frame(0, 0, 2 ** 63, tensorOf(4, 1))])],
  ])('%s', async (_, body) => {
    const answer = await post(body());
    expect([answer.status, codeOf(answer.body)]).toEqual([400, 'KV_INVALID_INPUT']);
    expect((await d.client.json('POST', '/v1/exists', { space, hashes: ['a1'] })).json).toMatchObject({ hits: '0' });
  });

  it('that goes on after its last entry: the answer has no end', async () => {
    const answer = await post(Buffer.concat([framesBody(head(bytes), [tensorOf(4, 1)]), Buffer.alloc(1)]));
    expect(answer.status === 400 || framesOf(answer.body).end === undefined).toBe(true);
  });
});

describe('JSON is refused', () => {
  it.each<[string, unknown]>([
    ['null', null],
    ['a list', []],
    ['an unknown field', { space: 's', hashes: [], x: 1 }],
    ['no hashes', { space: 's' }],
    ['too many hashes', { space: 's', hashes: Array.from({ length: 65_537 }, () => 'a') }],
    ['a space that is no text', { space: {}, hashes: [] }],
    ['a time that is none', { space: 's', hashes: [], wait_ms: -1 }],
  ])('%s', async (_, body) => {
    expect(await d.client.json('POST', '/v1/lookup', body)).toMatchObject({ status: 400, json: { error: { code: 'KV_INVALID_INPUT' } } });
  });

  it.each<[string, unknown]>([
    ['is none', '../../etc/passwd'],
    ['is too long', 'a'.repeat(129)],
    ['is no text', 10],
  ])('a hash that %s, beside one that is', async (_, hash) => {
    for (const verb of ['lookup', 'exists', 'prefetch', 'delete']) {
      const answer = await d.client.json('POST', `/v1/${verb}`, { space, hashes: ['a1', hash] });
      expect(answer).toMatchObject({ status: 400, json: { error: { code: 'KV_INVALID_INPUT', message: expect.stringContaining('hex digits') } } });
    }
  });

  it.each<[string, unknown]>([
    ['of another kind', 7],
    ['without a model', { geometry: SPACE.geometry }],
    ['with an order that is none', { ...SPACE, geometry: { ...SPACE.geometry, order: 'sideways' } }],
    ['with absurd dimensions', { ...SPACE, geometry: { ...SPACE.geometry, layers: 2 ** 40 } }],
    ['with a rotation that is none', { ...SPACE, geometry: { ...SPACE.geometry, rope: { theta: 'x', style: 'half' } } }],
    ['of a quality that is none', { ...SPACE, quality: 'best' }],
    ['with a field that is unknown', { ...SPACE, hash: 'x' }],
    ['with an empty salt', { ...SPACE, salt: '' }],
  ])('a space %s', async (_, body) => {
    expect(await d.client.json('POST', '/v1/spaces', body)).toMatchObject({ status: 400, json: { error: { code: 'KV_INVALID_INPUT' } } });
  });

  it('more than 4 MiB of it, announced or not', async () => {
    const large = JSON.stringify({ space, hashes: ['a'.repeat(MAX_JSON_BYTES)] });
    expect((await d.client.send('POST', '/v1/lookup', large)).status).toBe(413);
    const socket = connect(d.socket);
    socket.write('POST /v1/lookup HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n');
    const piece = 'x'.repeat(1 << 16);
    const write = (): void => {
      while (socket.writable && socket.write(`10000\r\n${piece}\r\n`));
    };
    socket.on('drain', write).on('error', () => undefined);
    write();
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1.1 413 /);
    socket.destroy();
  });

  it('a byte at a time', async () => {
    const socket = connect(d.socket);
    socket.write('POST /v1/lookup HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n');
    socket.write('1\r\n \r\n'.repeat(65_537));
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1.1 400 [^]*at most 65536 pieces/);
    socket.destroy();
  });

  it('what is no UTF-8', async () => {
    expect((await d.client.send('POST', '/v1/lookup', Buffer.from([0x22, 0xff, 0xfe, 0x22]))).status).toBe(400);
  });

  it('deep nesting, as any other nonsense', async () => {
    expect((await d.client.send('POST', '/v1/lookup', '['.repeat(1_000_000))).status).toBe(400);
  });
});

describe('HTTP that is wrong gets an answer:', () => {
  it('a path that is not there, or another method', async () => {
    expect((await d.client.json('GET', '/nothing')).status).toBe(404);
    expect((await d.client.json('GET', '/v1/lookup')).status).toBe(405);
    expect((await d.client.json('POST', '/v1/segments/x/y/z')).status).toBe(404);
  });

  it('a request that is none', async () => {
    const socket = connect(d.socket);
    socket.write('NONSENSE\r\n\r\n');
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1.1 400 /);
    socket.destroy();
  });
});

describe('a client that disappears', () => {
  const vanish = async (socket: Socket): Promise<void> => {
    socket.destroy();
    await once(socket, 'close');
  };

  it('in the middle of a store leaves nothing of the entry it did not finish', async () => {
    const tensors = [tensorOf(4, 1), tensorOf(4, 2)];
    const body = framesBody({ space, entries: tensors.map(({ byteLength }, i) => ({ hash: `a${i}`, bytes: byteLength })) }, tensors);
    const socket = connect(d.socket);
    socket.write(`POST /v1/store HTTP/1.1\r\nhost: x\r\ncontent-type: ${FRAME_TYPE}\r\ncontent-length: ${body.length}\r\n\r\n`);
    socket.write(body.subarray(0, body.length - 10));
    await expect.poll(() => d.told.stored.length).toBe(1);
    await vanish(socket);
    await expect.poll(() => d.told.request.filter(({ route, status }) => route === '/v1/store' && status === 499).length).toBe(1);
    expect((await d.client.json('POST', '/v1/exists', { space, hashes: ['a0', 'a1'] })).json).toMatchObject({ hits: '10' });
  });

  it('in the middle of a fetch stops the work for it', async () => {
    let aborted = 0;
    const slow = await testDaemon({}, (files) => ({
      ...files,
      get: (_key, options) =>
        new Promise((_resolve, reject) => {
          options?.signal?.addEventListener('abort', () => {
            aborted++;
            reject(new Error('given up'));
          });
        }),
    }));
    try {
      const other = await slow.register();
      const socket = connect(slow.socket);
      const body = JSON.stringify({ space: other, entries: ['a1', 'a2'].map((hash) => ({ hash, bytes: TOKEN_BYTES })) });
      socket.write(`POST /v1/fetch HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
      await once(socket, 'ready');
      await new Promise((resolve) => setImmediate(resolve));
      await vanish(socket);
      await expect.poll(() => slow.told.request.some(({ route, status }) => route === '/v1/fetch' && status === 499)).toBe(true);
      expect(aborted).toBe(2);
    } finally {
      await slow.stop();
    }
  });

  it('without reading its answer holds up nobody else', async () => {
    const tensor = tensorOf(4096, 3);
    await d.store(space, Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`b${i}`, tensor])));
    const body = JSON.stringify({ space, deadline_ms: 60_000, entries: Array.from({ length: 200 }, (_, i) => ({ hash: `b${i % 8}`, bytes: tensor.byteLength })) });
    const lazy = connect(d.socket);
    lazy.pause();
    lazy.write(`POST /v1/fetch HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    // It is given as much as the socket holds, and no more is decoded for it.
    await expect.poll(() => d.told.hit.length).toBeGreaterThan(0);
    const { summary } = await d.client.frames('/v1/fetch', { space, entries: [{ hash: 'b1', bytes: tensor.byteLength }] });
    expect(summary).toMatchObject({ hits: 1 });
    expect(d.told.hit.length).toBeLessThan(20);
    await vanish(lazy);
    await expect.poll(() => d.told.request.some(({ route, status }) => route === '/v1/fetch' && status === 499)).toBe(true);
  });
});

describe('a client that takes nothing of its answer', () => {
  it('is left, when its deadline and five seconds are over', { timeout: 20_000 }, async () => {
    const tensor = tensorOf(8192, 3);
    await d.store(space, { b1: tensor });
    const body = JSON.stringify({ space, deadline_ms: 100, entries: [{ hash: 'b1', bytes: tensor.byteLength }] });
    const lazy = connect(d.socket);
    lazy.pause();
    lazy.on('error', () => undefined);
    lazy.write(`POST /v1/fetch HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    const begin = performance.now();
    await expect.poll(() => d.told.request.some(({ route, status }) => route === '/v1/fetch' && status === 499), { timeout: 15_000 }).toBe(true);
    expect(performance.now() - begin).toBeGreaterThan(4500);
    lazy.destroy();
  });
});

describe('a deadline', () => {
  it('fails the entries that are not there yet, and none of the others', async () => {
    const slow = await testDaemon({}, (files) => ({
      ...files,
      get: (key, options) => (key.endsWith('/a2') ? new Promise((_resolve, reject) => options?.signal?.addEventListener('abort', () => reject(options.signal?.reason))) : files.get(key, options)),
    }));
    try {
      const other = await slow.register();
      await slow.store(other, { a1: tensorOf(4, 1) });
      const { frames, summary } = await slow.client.frames('/v1/fetch', { space: other, deadline_ms: 500, entries: ['a1', 'a2'].map((hash) => ({ hash, bytes: 4 * TOKEN_BYTES })) });
      expect(frames.map(({ index, status }) => [index, status])).toEqual([[0, 0], [1, 2]]);
      expect(JSON.parse(String(frames[1]?.payload))).toMatchObject({ code: 'KV_CONNECTOR_TIMEOUT' });
      expect(summary).toMatchObject({ hits: 1, failed: 1 });
    } finally {
      await slow.stop();
    }
  });
});

describe('over TCP', () => {
  const token = 'correct horse battery'.replaceAll(' ', '-');

  it('only who brings the token is served, health apart', async () => {
    const tcp = await testDaemon({ tcp: { host: '127.0.0.1', port: 0, token } });
    const place = { host: '127.0.0.1', port: tcp.daemon.port ?? 0 };
    const [right, wrong, without] = [clientOf(place, token), clientOf(place, `${token}x`), clientOf(place)];
    try {
      for (const client of [wrong, without]) {
        for (const [method, path] of [['POST', '/v1/spaces'], ['GET', '/ready'], ['GET', '/v1/usage'], ['GET', '/nothing']] as const) {
          expect(await client.json(method, path)).toMatchObject({ status: 401, json: { error: { code: 'KV_PERMISSION' } } });
        }
        expect((await client.json('GET', '/health')).status).toBe(200);
      }
      expect((await right.json('POST', '/v1/spaces', SPACE)).status).toBe(200);
      expect((await tcp.client.json('POST', '/v1/spaces', SPACE)).status).toBe(200); // the socket needs none
      expect(JSON.stringify(tcp.told)).not.toContain(token);
    } finally {
      for (const client of [right, wrong, without]) client.close();
      await tcp.stop();
    }
  });

  it.each(['', 'short', 'has spaces in it, which no header can carry', 'ümlaut-ümlaut-ümlaut'])('there is no token like %j', async (bad) => {
    await expect(testDaemon({ tcp: { host: '127.0.0.1', port: 0, token: bad } })).rejects.toThrow(/tcp.token/);
  });
});
