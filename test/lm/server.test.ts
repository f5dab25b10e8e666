import { once } from 'node:events';
import { connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { LmEvent } from '../../connectors/engine/lm/events.js';
import type { LmServerOptions } from '../../connectors/engine/lm/options.js';
import { startLmServer, type LmServer } from '../../connectors/engine/lm/server.js';
import { memory } from '../../connectors/storage/memory.js';
import { inspect } from '../../lib/codec/codec.js';
import { KvError } from '../../lib/errors.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import { listStored } from '../../lib/store/listing.js';
import { COMMAND, LmClient, randomBytes, type RawRequest } from './client.js';

const servers: LmServer[] = [];
const clients: LmClient[] = [];

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

interface Started {
  readonly server: LmServer;
  readonly events: LmEvent[];
  readonly lost: string[];
  readonly warnings: string[];
  client(): Promise<LmClient>;
  /** Resolves when so many requests are over. */
  told(count: number): Promise<readonly LmEvent[]>;
}

async function start(options: Partial<LmServerOptions> = {}): Promise<Started> {
  const events: LmEvent[] = [];
  const [lost, warnings] = [[] as string[], [] as string[]];
  let wake: () => void = () => undefined;
  const onRequest = (event: LmEvent): void => {
    events.push(event);
    wake();
  };
  const server = await startLmServer({ connector: memory(), port: 0, events: { onRequest, onClientLost: (reason) => lost.push(reason), onWarning: (reason) => warnings.push(reason) }, ...options });
  servers.push(server);
  return {
    server,
    events,
    lost,
    warnings,
    async client() {
      const client = await LmClient.to(server.port);
      clients.push(client);
      return client;
    },
    async told(count) {
      while (events.length < count) await new Promise<void>((resolve) => (wake = resolve));
      return events;
    },
  };
}

const KEY = 'org/model@1@0@-274654dcc82ea3f3@bfloat16';
const SHAPE = [2, 3, 8, 32];
const BYTES = 2 * 3 * 8 * 32 * 2;
const put = (over: Partial<RawRequest> = {}): RawRequest => ({ command: COMMAND.put, length: BYTES, format: 1, dtype: 3, shape: SHAPE, key: KEY, ...over });
const get = (key = KEY): RawRequest => ({ command: COMMAND.get, key });
const exist = (key = KEY): RawRequest => ({ command: COMMAND.exist, key });

/** The layouts of all chunks of a store but the records of layouts. */
async function storedLayouts(connector: StorageConnector): Promise<unknown[]> {
  const layouts: unknown[] = [];
  for await (const { key, hash } of listStored(connector, 'chunks')) {
    const { layout } = inspect((await connector.get(key)) ?? new Uint8Array());
    if (hash !== '0') layouts.push(layout);
  }
  return layouts;
}

describe('a chunk that was put', () => {
  it.each([
    ['bf16', 3, 'bfloat16', 1, SHAPE, 2],
    ['f16', 2, 'half', 1, SHAPE, 2],
    ['f32', 4, 'float', 1, SHAPE, 4],
    ['f64', 5, 'double', 1, SHAPE, 8],
    ['u8', 6, 'uint8', 1, SHAPE, 1],
    ['e4m3', 7, 'fp8_e4m3fn', 1, SHAPE, 1],
    ['e5m2', 8, 'fp8_e5m2', 1, SHAPE, 1],
    ['mla', 3, 'bfloat16', 6, [1, 3, 8, 32], 2],
    ['one layer', 3, 'bfloat16', 2, [8, 2, 32, 0], 2],
    ['three dimensions', 3, 'bfloat16', 1, [3, 8, 32, 0], 2],
    ['a codec of LMCache', 0, 'bfloat16', 5, [1001, 0, 0, 0], 1],
  ] as const)('comes back with bytes, shape, dtype and format: %s', async (_, dtype, name, format, shape, elementBytes) => {
    const { client } = await start();
    const lm = await client();
    const key = `m@1@0@abc@${name}`;
    const data = randomBytes(shape.reduce((product, size) => product * (size || 1), elementBytes), 7);
    lm.send(put({ key, dtype, format, shape, length: data.length }), data);
    expect(await lm.ask(exist(key))).toMatchObject({ code: 200, length: 0 });
    const answer = await lm.ask(get(key));
    expect(answer).toMatchObject({ code: 200, length: data.length, format, dtype, shape });
    expect(Buffer.compare(answer?.data ?? new Uint8Array(), data)).toBe(0);
  });

  it('is coded as the tensor it is, with the heads that were said', async () => {
    const connector = memory();
    const { client, told } = await start({ connector, geometry: { kvHeads: 2, headDim: 16 } });
    const lm = await client();
    lm.send(put(), randomBytes(BYTES, 1));
    await told(1);
    expect(await storedLayouts(connector)).toEqual([{ order: 'lmcache_2ltd', dtype: 'bf16', layers: 3, tokens: 8, kvHeads: 2, headDim: 16 }]);
  });

  it('is kept as bytes, with a warning, where its rows are not made of the heads that were said', async () => {
    const connector = memory();
    const { client, told, warnings } = await start({ connector, geometry: { kvHeads: 3, headDim: 16 } });
    const lm = await client();
    const data = randomBytes(BYTES, 1);
    for (const hash of ['1', '2']) lm.send(put({ key: `m@1@0@${hash}@bfloat16` }), data);
    await told(2);
    expect(await storedLayouts(connector)).toMatchObject([{ order: 'bytes' }, { order: 'bytes' }]);
    expect(warnings).toHaveLength(1);
    expect((await lm.ask(get('m@1@0@2@bfloat16')))?.data).toEqual(data);
  });

  it('has K and V taken apart where they are fused and that was said', async () => {
    const connector = memory();
    const { client, told } = await start({ connector, geometry: { kvHeads: 2, headDim: 8, order: 'fused' } });
    const lm = await client();
    const data = randomBytes(BYTES / 2, 1);
    lm.send(put({ shape: [1, 3, 8, 32], length: BYTES / 2 }), data);
    await told(1);
    expect(await storedLayouts(connector)).toMatchObject([{ order: 'fused', kvHeads: 2, headDim: 8 }]);
    expect((await lm.ask(get()))?.data).toEqual(data);
  });

  it('may be full or partial, and each comes back as it was', async () => {
    const { client } = await start();
    const lm = await client();
    const [full, partial] = [randomBytes(BYTES, 1), randomBytes(BYTES / 8, 2)];
    lm.send(put(), full);
    lm.send(put({ key: `${KEY}@user%a`, shape: [2, 3, 1, 32], length: BYTES / 8 }), partial);
    expect((await lm.ask(get(`${KEY}@user%a`)))?.data).toEqual(partial);
    expect((await lm.ask(get()))?.data).toEqual(full);
  });

  it('is found by a server that was started later, which nobody told the layout', async () => {
    const connector = memory();
    const first = await start({ connector });
    const data = randomBytes(BYTES, 1);
    (await first.client()).send(put(), data);
    await first.told(1);
    const second = await start({ connector });
    const lm = await second.client();
    expect(await lm.ask(exist())).toMatchObject({ code: 200 });
    expect((await lm.ask(get()))?.data).toEqual(data);
  });

  it('is a miss for other models, ranks, hashes, dtypes, tags and layers', async () => {
    const connector = memory();
    const { client, told } = await start({ connector });
    const lm = await client();
    lm.send(put(), randomBytes(BYTES, 1));
    await told(1);
    const others = ['model@1@0@-274654dcc82ea3f3@bfloat16', 'org/model@2@0@-274654dcc82ea3f3@bfloat16', 'org/model@1@0@274654dcc82ea3f3@bfloat16', 'org/model@1@0@-274654dcc82ea3f3@half', `${KEY}@user%a`, `${KEY}@0`];
    for (const key of others) {
      expect(await lm.ask(exist(key))).toMatchObject({ code: 400 });
      expect(await lm.ask(get(key))).toMatchObject({ code: 400, length: 0 });
    }
    expect(await lm.ask(get())).toMatchObject({ code: 200 });
  });

  it('of one layer is another than that of a request with a tag that says so', async () => {
    const { client } = await start();
    const lm = await client();
    lm.send(put({ key: `${KEY}@3` }), randomBytes(BYTES, 1));
    lm.send(put({ key: `${KEY}@layer%3` }), randomBytes(BYTES, 2));
    expect((await lm.ask(get(`${KEY}@3`)))?.data).toEqual(randomBytes(BYTES, 1));
    expect((await lm.ask(get(`${KEY}@layer%3`)))?.data).toEqual(randomBytes(BYTES, 2));
  });
});

describe('requests', () => {
  it('are answered in order, also where they come in one piece and all at once', async () => {
    const { client } = await start();
    const lm = await client();
    lm.send({ command: COMMAND.health });
    lm.send(exist());
    lm.send(put(), randomBytes(BYTES, 1));
    lm.send(exist());
    lm.send({ command: COMMAND.list });
    const codes = [await lm.answer(), await lm.answer(), await lm.answer(), await lm.answer()].map((answer) => answer?.code);
    expect(codes).toEqual([200, 400, 200, 400]);
  });

  it('with a key that is none are refused and counted, and the connection goes on', async () => {
    const { client, told } = await start();
    const lm = await client();
    lm.send(put({ key: 'nothing' }), randomBytes(BYTES, 1));
    expect(await lm.ask(get('nothing'))).toMatchObject({ code: 400 });
    expect(await lm.ask(exist('m@1@1@ff@bfloat16'))).toMatchObject({ code: 400 });
    expect((await told(3)).map(({ outcome }) => outcome)).toEqual(['refused', 'refused', 'refused']);
    expect(await lm.ask({ command: COMMAND.health })).toMatchObject({ code: 200 });
  });

  it('to put what contradicts itself or is too large are refused, and their data are not taken for requests', async () => {
    const { client, told } = await start({ maxBytes: 1 << 20 });
    const lm = await client();
    for (const over of [{ shape: [2, 3, 9, 32] }, { dtype: 99 }, { format: 99 }, { shape: [-2, -3, 8, 32] }, { length: 0 }, { length: (1 << 20) + 64, shape: [2, 1, 1, ((1 << 20) + 64) / 4] }]) {
      const request = put(over);
      lm.send(request, new Uint8Array(request.length ?? 0));
    }
    expect(await lm.ask(exist())).toMatchObject({ code: 400 });
    expect((await told(7)).map(({ outcome }) => outcome)).toEqual([...Array<string>(6).fill('refused'), 'miss']);
  });

  it('with a key that may have been cut are refused: two tenants may have the same', async () => {
    const { client, told } = await start();
    const lm = await client();
    const key = `m@1@0@abc@bfloat16@user%${'é'.repeat(80)}`;
    expect(await lm.ask(get(key.slice(0, 87)))).toMatchObject({ code: 400 });
    expect((await told(1))[0]).toMatchObject({ outcome: 'refused', reason: expect.stringContaining('cut') });
  });
});

describe('a client that misbehaves', () => {
  it.each([
    ['an unknown command', put({ command: 99 })],
    ['a negative length', put({ length: -1 })],
  ])('by %s is dropped, and others go on', async (_, request) => {
    const { client, lost } = await start();
    const [bad, good] = [await client(), await client()];
    good.send(put(), randomBytes(BYTES, 1));
    bad.send(request);
    await bad.closed();
    expect(lost).toHaveLength(1);
    expect(await good.ask(get())).toMatchObject({ code: 200 });
  });

  it('by leaving in the middle of a put stores nothing, and others go on', async () => {
    const { client, server, lost } = await start();
    const [bad, good] = [await client(), await client()];
    bad.send(put(), randomBytes(BYTES / 2, 1));
    bad.socket.end();
    await bad.closed();
    await expect.poll(() => server.clients).toBe(1);
    expect(lost).toHaveLength(1);
    expect(await good.ask(exist())).toMatchObject({ code: 400 });
  });

  it('by coming as one too many is sent away, until another goes', async () => {
    const { client, server } = await start({ maxClients: 1 });
    const first = await client();
    expect(await first.ask({ command: COMMAND.health })).toMatchObject({ code: 200 });
    await (await client()).closed();
    first.close();
    await expect.poll(() => server.clients).toBe(0);
    expect(await (await client()).ask({ command: COMMAND.health })).toMatchObject({ code: 200 });
  });
});

interface Gated extends StorageConnector {
  /** What a verb waits for before it does its work. */
  putGate: Promise<unknown>;
  getGate: Promise<unknown>;
  failure: Error | undefined;
}

/** A connector that can be held up or made to fail. */
function gated(): Gated {
  const inner = memory();
  const connector: Gated = {
    ...inner,
    putGate: Promise.resolve(),
    getGate: Promise.resolve(),
    failure: undefined,
    async put(key, value, options) {
      await connector.putGate;
      if (connector.failure !== undefined) throw connector.failure;
      return inner.put(key, value, options);
    },
    async get(key, options) {
      await Promise.race([connector.getGate, rejected(options?.signal)]);
      if (connector.failure !== undefined) throw connector.failure;
      return inner.get(key, options);
    },
  };
  return connector;
}

function rejected(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true }));
}

describe('a store that fails', () => {
  it('makes a get a miss and a put a failure, both counted', async () => {
    const connector = gated();
    connector.failure = new KvError('KV_CONNECTOR_UNAVAILABLE', 'the store is gone');
    const { client, told } = await start({ connector });
    const lm = await client();
    lm.send(put(), randomBytes(BYTES, 1));
    expect(await lm.ask(get())).toMatchObject({ code: 400 });
    expect(await told(2)).toMatchObject([
      { command: 'put', outcome: 'failed', code: 'KV_CONNECTOR_UNAVAILABLE', reason: 'the store is gone' },
      { command: 'get', outcome: 'failed', reason: 'the store is gone' },
    ]);
    connector.failure = undefined;
    lm.send(put(), randomBytes(BYTES, 1));
    expect(await lm.ask(get())).toMatchObject({ code: 200 });
  });

  it('by not answering makes a get a miss by its deadline', async () => {
    const connector = gated();
    const { client } = await start({ connector, deadlineMs: 100 });
    connector.getGate = new Promise(() => undefined);
    const begin = performance.now();
    expect(await (await client()).ask(get())).toMatchObject({ code: 400 });
    expect(performance.now() - begin).toBeLessThan(2000);
  });

  it('by being slow holds up neither gets of other chunks nor other clients', async () => {
    const connector = gated();
    const { client, told } = await start({ connector });
    const lm = await client();
    lm.send(put({ key: 'm@1@0@1@bfloat16' }), randomBytes(BYTES, 1));
    await told(1);
    let open: () => void = () => undefined;
    connector.putGate = new Promise<void>((resolve) => (open = resolve));
    lm.send(put({ key: 'm@1@0@2@bfloat16' }), randomBytes(BYTES, 2));
    expect((await lm.ask(get('m@1@0@1@bfloat16')))?.code).toBe(200);
    open();
    expect((await lm.ask(get('m@1@0@2@bfloat16')))?.data).toEqual(randomBytes(BYTES, 2));
  });
});

describe('stopping', () => {
  it('finishes the puts that were received', async () => {
    const connector = memory();
    const { client, server, told } = await start({ connector });
    const lm = await client();
    lm.send(put(), randomBytes(BYTES, 1));
    expect(await lm.ask({ command: COMMAND.health })).toMatchObject({ code: 200 });
    await server.close();
    expect((await told(1))[0]).toMatchObject({ outcome: 'stored', model: 'org/model', rung: 'exact', rawBytes: BYTES });
    await lm.closed();
    expect(await storedLayouts(connector)).toHaveLength(1);
    await server.close();
  });
});

describe('options', () => {
  it.each([
    [{ port: 70000 }, /`port`/],
    [{ quality: 'fine' }, /`quality`/],
    [{ maxBytes: 2 ** 31 }, /`maxBytes`/],
    [{ geometry: { kvHeads: 0, headDim: 64 } }, /kvHeads/],
    [{ prot: 1 }, /unknown option `prot`/],
  ])('that cannot be are refused: %o', async (options, message) => {
    await expect(start(options as Partial<LmServerOptions>)).rejects.toThrow(message);
  });

  it('that were left out mean this machine alone', async () => {
    const { server } = await start();
    const other = connect(server.port, '127.0.0.2');
    const [error] = (await once(other, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNREFUSED');
  });
});
