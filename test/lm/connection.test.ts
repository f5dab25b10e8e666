// What takes time: with limits that are over soon.
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { LmChunks } from '../../connectors/engine/lm/chunks.js';
import { serveClient } from '../../connectors/engine/lm/connection.js';
import type { LmEvent } from '../../connectors/engine/lm/events.js';
import { FIXED_LIMITS, type LmLimits } from '../../connectors/engine/lm/limits.js';
import { pendingPuts } from '../../connectors/engine/lm/pending-puts.js';
import { COMMAND, LmClient, packRequest, randomBytes } from './client.js';

const KEY = 'm@1@0@abc@uint8';

let server: Server | undefined;

afterEach(() => void server?.close());

const STORED = { storedBytes: 1, rung: 'exact' };
const nothing: LmChunks = { put: async () => STORED, get: async () => undefined, has: async () => false, close: async () => undefined };

async function serve(chunks: Partial<LmChunks>, limits: Partial<LmLimits>): Promise<{ client: LmClient; events: LmEvent[]; lost: string[]; served: Promise<void>; stop: AbortController }> {
  const [events, lost, stop] = [[] as LmEvent[], [] as string[], new AbortController()];
  server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const connected = once(server, 'connection');
  const client = await LmClient.to((server.address() as AddressInfo).port);
  const [socket] = await connected;
  const service = {
    chunks: { ...nothing, ...chunks },
    puts: pendingPuts(),
    events: { onRequest: (event: LmEvent) => void events.push(event), onClientLost: (reason: string) => void lost.push(reason), onWarning: () => undefined },
    limits: { ...FIXED_LIMITS, maxBytes: 1 << 28, deadlineMs: 1000, ...limits },
  };
  return { client, events, lost, served: serveClient(socket, service, stop.signal), stop };
}

const put = (length: number) => ({ command: COMMAND.put, length, dtype: 6, shape: [2, 1, 1, length / 2], key: KEY });

describe('a client that is slow', () => {
  it('with a request is dropped when its time is over', async () => {
    const { client, lost, served } = await serve({}, { transferMs: 50 });
    client.socket.write(packRequest(put(64)).subarray(0, 100));
    await served;
    expect(lost).toEqual([expect.stringContaining('a request of 186 bytes took more than 50 ms')]);
    await client.closed();
  });

  it('with a tensor is dropped when its time is over', async () => {
    const { client, lost, served } = await serve({}, { transferMs: 50 });
    client.send(put(1000), new Uint8Array(10));
    await served;
    expect(lost).toEqual([expect.stringContaining('a tensor of 1000 bytes took more than 51 ms')]);
  });

  it('in reading an answer is dropped when its time is over', async () => {
    const data = new Uint8Array(64 << 20);
    const metadata = { length: data.length, format: 'KV_2LTD' as const, groups: [{ dtype: 'uint8' as const, shape: [2, 1, 1, data.length / 2] }] };
    const { client, lost, served } = await serve({ get: async () => ({ metadata, data, ...STORED }) }, { transferMs: -(data.length / 1000) + 100 });
    client.socket.pause();
    client.socket.write(packRequest({ command: COMMAND.get, key: KEY }));
    await served;
    expect(lost).toEqual([expect.stringContaining('an answer of')]);
    client.close();
  });

  it('between requests is waited for', async () => {
    const { client, stop, served } = await serve({}, { transferMs: 20 });
    expect(await client.ask({ command: COMMAND.health })).toMatchObject({ code: 200 });
    await new Promise((resolve) => setTimeout(resolve, 100)); // longer than a message may take
    expect(await client.ask({ command: COMMAND.health })).toMatchObject({ code: 200 });
    stop.abort();
    await served;
  });
});

describe('a store that is slower than puts come', () => {
  it('makes puts dropped once so many bytes wait, after a time, and gets go on', async () => {
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const stored: number[] = [];
    const { client, events, stop, served } = await serve(
      {
        async put(_, { data }) {
          await gate;
          stored.push(data.length);
          return STORED;
        },
      },
      { pendingBytes: 100, roomWaitMs: 50 },
    );
    client.send(put(1000), randomBytes(1000, 1)); // one of any size
    client.send({ ...put(50), key: 'm@1@0@1@uint8' }, randomBytes(50, 1));
    expect(await client.ask({ command: COMMAND.exist, key: 'm@1@0@2@uint8' })).toMatchObject({ code: 400 });
    expect(events).toMatchObject([{ command: 'put', outcome: 'dropped', code: 'KV_OVERLOADED', rawBytes: 50 }, { command: 'exist' }]);
    open();
    await expect.poll(() => events.length).toBe(3);
    client.send({ ...put(50), key: 'm@1@0@1@uint8' }, randomBytes(50, 1));
    await expect.poll(() => stored).toEqual([1000, 50]);
    stop.abort();
    await served;
  });

  it('makes a get of a chunk that is being put a miss by its deadline', async () => {
    const { client, events, stop, served } = await serve({ put: () => new Promise(() => undefined) }, { deadlineMs: 50 });
    client.send(put(64), randomBytes(64, 1));
    expect(await client.ask({ command: COMMAND.get, key: KEY })).toMatchObject({ code: 400 });
    expect(events).toMatchObject([{ command: 'get', outcome: 'failed', code: 'KV_CONNECTOR_TIMEOUT' }]);
    stop.abort();
    await served;
  });
});

describe('puts of one chunk', () => {
  it('are stored in the order in which they came', async () => {
    const stored: number[] = [];
    let open: () => void = () => undefined;
    let gate: Promise<void> | undefined = new Promise<void>((resolve) => (open = resolve));
    const { client, stop, served } = await serve(
      {
        async put(_, { data }) {
          const wait = gate;
          gate = undefined;
          await wait;
          stored.push(data[0] ?? 0);
          return STORED;
        },
      },
      {},
    );
    client.send(put(64), new Uint8Array(64).fill(1));
    client.send(put(64), new Uint8Array(64).fill(2));
    expect(await client.ask({ command: COMMAND.health })).toMatchObject({ code: 200 });
    open();
    expect(await client.ask({ command: COMMAND.exist, key: KEY })).toMatchObject({ code: 400 });
    expect(stored).toEqual([1, 2]);
    stop.abort();
    await served;
  });
});
