// What a client sends to the daemon. An input is a line `METHOD PATH TYPE`, then the body; how that is cut on its way comes from its length.
import { Duplex } from 'node:stream';
import { byteBudget } from '../../../connectors/engine/daemon/byte-budget.js';
import { makeCore } from '../../../connectors/engine/daemon/core.js';
import { allOf } from '../../../connectors/engine/daemon/events.js';
import { FRAME_TYPE } from '../../../connectors/engine/daemon/frames.js';
import { httpServer } from '../../../connectors/engine/daemon/http-server.js';
import { makeSegments } from '../../../connectors/engine/daemon/segments.js';
import { contentRoutes } from '../../../connectors/engine/daemon/verbs/contents.js';
import { fetchRoutes } from '../../../connectors/engine/daemon/verbs/fetch.js';
import { lookRoutes } from '../../../connectors/engine/daemon/verbs/looks.js';
import { segmentRoutes } from '../../../connectors/engine/daemon/verbs/segments.js';
import { spaceRoutes } from '../../../connectors/engine/daemon/verbs/spaces.js';
import { storeRoutes } from '../../../connectors/engine/daemon/verbs/store.js';
import { memory } from '../../../connectors/storage/memory.js';
import { framesBody, framesOf } from '../../daemon/client.js';
import { mutateValue } from '../mutate.js';
import { randomOf, type Random } from '../random.js';
import { expectThat, type FuzzTarget } from '../target.js';

const LINE = /^([A-Z]{1,8}) (\/[\x21-\x7e]{0,200}) ([\x21-\x7e]{1,60})\n/;
const SPACE = { model: 'fuzzed', geometry: { order: 'split', dtype: 'bf16', layers: 2, kv_heads: 1, head_dim: 4 } };
/** Digest of that space, which is registered. */
const DIGEST = '7c4ef5e4d5f1cbd3cd0f6dd9e0a5e4a4';
const TOKEN_BYTES = 2 * 2 * 4 * 2;
const JSON_TYPE = 'application/json';
const CODES = /^KV_[A-Z_]+$/;

const tensor = new Uint8Array(3 * TOKEN_BYTES).map((_, i) => i);

const ask = (method: string, path: string, body: unknown, type = JSON_TYPE): Uint8Array =>
  Buffer.concat([Buffer.from(`${method} ${path} ${type}\n`), body instanceof Uint8Array ? body : Buffer.from(body === undefined ? '' : JSON.stringify(body))]);

let daemon: ReturnType<typeof start> | undefined;

function start() {
  const core = makeCore({ connector: memory({ maxBytes: 1 << 24 }), coding: {}, events: allOf([{ notice: ({ level, message }) => void (level === 'error' && faults.push(message)) }]) });
  const faults: string[] = [];
  const moving = { core, budget: byteBudget(1 << 24), segments: makeSegments({ leaseMs: 1000, maxBytes: 1 << 20 }), defaultDeadlineMs: 2000 };
  const digest = core.spaces.register({ model: SPACE.model, geometry: { order: 'split', dtype: 'bf16', layers: 2, kvHeads: 1, headDim: 4 }, quality: 'exact' }).digest;
  const routes = [...spaceRoutes(core, 'exact'), ...lookRoutes(core, 2000), ...fetchRoutes(moving), ...storeRoutes(moving), ...contentRoutes(core, undefined), ...segmentRoutes(moving.segments)];
  return { digest, faults, server: httpServer({ routes, events: core.events, isStopping: () => false, stopping: new AbortController().signal }) };
}

export const daemonWire: FuzzTarget = {
  name: 'daemon',

  seeds: () => ({
    space: ask('POST', '/v1/spaces', SPACE),
    lookup: ask('POST', '/v1/lookup', { space: DIGEST, hashes: ['aa', 'bb'], wait_ms: 1 }),
    exists: ask('POST', '/v1/exists', { space: DIGEST, hashes: ['aa', 'bb'], deadline_ms: 100 }),
    fetch: ask('POST', '/v1/fetch', { space: DIGEST, entries: [{ hash: 'aa', bytes: tensor.length }, { hash: 'bb', bytes: 1 }], deadline_ms: 100 }),
    layers: ask('POST', '/v1/fetch', { space: DIGEST, entries: [{ hash: 'aa', bytes: tensor.length / 2 }], layers: [0, 1] }),
    store: ask('POST', '/v1/store', framesBody({ space: DIGEST, entries: [{ hash: 'aa', bytes: tensor.length, start: 5 }, { hash: 'bb', bytes: 2 * TOKEN_BYTES }] }, [tensor, tensor.subarray(0, 2 * TOKEN_BYTES)]), FRAME_TYPE),
    'store-segments': ask('POST', '/v1/store', { space: DIGEST, entries: [{ hash: 'aa', bytes: tensor.length, segment: 'ab', generation: 1, offset: 0 }] }),
    prefetch: ask('POST', '/v1/prefetch', { space: DIGEST, hashes: ['aa'] }),
    delete: ask('POST', '/v1/delete', { space: DIGEST, hashes: ['cc'] }),
    keys: ask('GET', `/v1/keys?space=${DIGEST}&limit=2&cursor=aa`, undefined),
    usage: ask('GET', '/v1/usage', undefined),
    segment: ask('POST', '/v1/segments', { path: '/dev/shm/none' }),
    renew: ask('POST', '/v1/segments/ab/renew', { generation: 1 }),
    release: ask('DELETE', '/v1/segments/ab', undefined),
  }),

  reshape(input, random) {
    const parts = partsOf(input);
    if (parts === undefined) return undefined;
    if (parts.type === FRAME_TYPE) return reshapeFrames(parts, random);
    try {
      return ask(parts.method, parts.path, mutateValue(JSON.parse(Buffer.from(parts.body).toString()), random), parts.type);
    } catch {
      return undefined;
    }
  },

  async meet(input) {
    const parts = partsOf(input);
    if (parts === undefined) return 'no request';
    daemon ??= start();
    // The corpus names one space; it is the one that is there.
    const body = Buffer.from(Buffer.from(parts.body).toString('latin1').replaceAll(DIGEST, daemon.digest), 'latin1');
    const answer = await exchange(daemon.server, { ...parts, path: parts.path.replaceAll(DIGEST, daemon.digest), body });
    expectThat(daemon.faults.length === 0, `nothing is a fault of the daemon: ${daemon.faults.join()}`);
    return outcomeOf(answer);
  },
};

interface Parts {
  readonly method: string;
  readonly path: string;
  readonly type: string;
  readonly body: Uint8Array;
}

function partsOf(input: Uint8Array): Parts | undefined {
  const match = LINE.exec(Buffer.from(input.subarray(0, 300)).toString('latin1'));
  if (match === null) return undefined;
  const [line, method = '', path = '', type = ''] = match;
  return { method, path, type, body: input.subarray(line.length) };
}

// The call in the first frame changed, and announced as long as it is.
function reshapeFrames({ method, path, body, type }: Parts, random: Random): Uint8Array | undefined {
  if (body.length < 16) return undefined;
  const length = Number(new DataView(body.buffer, body.byteOffset).getBigUint64(8, true));
  try {
    const head: unknown = JSON.parse(Buffer.from(body.subarray(16, 16 + length)).toString());
    return ask(method, path, Buffer.concat([framesBody(mutateValue(head, random), []), body.subarray(16 + length)]), type);
  } catch {
    return undefined;
  }
}

/** Puts a request through the server, over a connection that is none of the system's. */
async function exchange(server: ReturnType<typeof start>['server'], { method, path, type, body }: Parts): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const connection = new Duplex({
    read: () => undefined,
    write(piece: Buffer, _encoding, done) {
      pieces.push(Buffer.from(piece));
      done();
    },
  });
  Object.assign(connection, { setTimeout: () => connection }); // a socket has it
  const closed = new Promise<void>((resolve) => connection.once('close', () => resolve()));
  const ended = new Promise<void>((resolve) => connection.once('finish', () => resolve()));
  server.emit('connection', connection);
  const request = Buffer.concat([Buffer.from(`${method} ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: ${type}\r\ncontent-length: ${body.length}\r\n\r\n`, 'latin1'), body]);
  const random = randomOf(request.length, 0);
  for (let at = 0; at < request.length; ) connection.push(request.subarray(at, (at += 1 + random.below(random.oneIn(3) ? 20 : 4096))));
  await Promise.race([closed, ended]);
  connection.destroy();
  await closed;
  return Buffer.concat(pieces);
}

function outcomeOf(answer: Buffer): string {
  const end = answer.indexOf('\r\n\r\n');
  const head = answer.subarray(0, end).toString('latin1');
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1]);
  const body = /transfer-encoding: chunked/i.test(head) ? unchunked(answer.subarray(end + 4)) : answer.subarray(end + 4);
  if (status === 400 && body.length === 0) return 'no HTTP'; // Node's own answer
  expectThat(status < 500 || status === 507, `the daemon finds no fault in itself: ${status} ${body.toString().slice(0, 200)}`);
  if (head.includes(FRAME_TYPE)) {
    const { frames, end: summary } = framesOf(body);
    const indexes = frames.map(({ index }) => index);
    expectThat(new Set(indexes).size === indexes.length, 'no entry is answered twice');
    for (const { status: outcome, payload } of frames) if (outcome === 2) expectThat(CODES.test((JSON.parse(payload.toString()) as { code: string }).code), 'a failed entry has a code');
    return summary === undefined ? 'broken off' : 'accepted';
  }
  const json = JSON.parse(body.toString()) as { error?: { code: string } };
  if (status < 300) return 'accepted';
  expectThat(CODES.test(json.error?.code ?? ''), 'a refusal has a code');
  return `${status} ${json.error?.code}`;
}

function unchunked(body: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < body.length; ) {
    const line = body.indexOf('\r\n', at);
    if (line === -1) break;
    const length = Number.parseInt(body.subarray(at, line).toString(), 16);
    parts.push(body.subarray(line + 2, line + 2 + length));
    at = line + 2 + length + 2;
  }
  return Buffer.concat(parts);
}
