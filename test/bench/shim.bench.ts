// What the daemon adds: bulk bytes through shared memory and through bodies beside a copy and a plain server, and lookups of a whole prefix.
// The daemon and the plain server run in processes of their own, as they do beside an engine.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, request, type IncomingMessage, type RequestOptions } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'tsup';
import { table } from '../../connectors/engine/cli/table.js';
import { FRAME_TYPE } from '../../connectors/engine/daemon/frames.js';
import { openSharedFile } from '../../connectors/engine/daemon/shared-file.js';
import { clientOf, framesBody, type Client } from '../daemon/client.js';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { KvStore } from '../../lib/index.js';
import { captureTensor, spread, spreadText, type BenchContext, type BenchResult, type Spread } from './bench.js';
import { latencyOf, latencyOfRounds, latencyTable, msOf, type Latency } from './latency.js';

const ROOT = join(import.meta.dirname, '../..');
const MIB = 2 ** 20;
const SIZES = [16 * MIB, 64 * MIB];
const ENTRIES = 4;
/** What each sample moves, in one call or several: one of some milliseconds says little here. */
const SAMPLE_BYTES = 256 * MIB;
const LOOKUPS = 1000;
const HASHES = 1000;
const HITS = 200;

const GEOMETRY = { order: 'split', dtype: 'bf16', layers: 32, kv_heads: 8, head_dim: 128 };
const TOKEN_BYTES = 32 * 2 * 8 * 128 * 2;

interface Row {
  readonly what: string;
  readonly entryBytes: number;
  readonly GBps: Spread;
  /** Of the memcpy or the plain server of the same run. */
  readonly share: number;
}

export async function shimBench({ rounds, note }: BenchContext): Promise<BenchResult> {
  const folder = mkdtempSync(join(tmpdir(), 'kvreel-shim-'));
  const socket = join(folder, 'daemon.sock');
  const plainSocket = join(folder, 'plain.sock');
  const children: ChildProcess[] = [];
  try {
    const built = join(ROOT, '.cache/bench-shim');
    await build({ config: false, silent: true, entry: { 'engine/cli': join(ROOT, 'connectors/engine/cli.ts'), plain: join(import.meta.dirname, 'plain-server.ts') }, format: ['esm'], target: 'node20', outDir: built, noExternal: ['p-queue'] });
    children.push(await started([join(built, 'engine/cli.js'), 'serve', '--store', `fs://${folder}/store`, '--socket', socket, '--memory-bytes', '1GiB', '--codec', 'raw']));
    children.push(await started([join(built, 'plain.js'), plainSocket, String(Math.max(...SIZES))]));
    const client = clientOf({ socketPath: socket });
    const { json } = await client.json('POST', '/v1/spaces', { model: 'bench', geometry: GEOMETRY });
    const space = String(json.space);
    const rows: Row[] = [];
    for (const bytes of SIZES) {
      note(`shim: ${bytes / MIB} MiB`);
      rows.push(...(await transfers({ client, space, socket, plainSocket, bytes, rounds })));
    }
    note('shim: lookups');
    const lookup = await lookups({ client, space, sockets: [socket, plainSocket], rounds });
    client.close();
    note('shim: hits');
    const hits = await hitTimes(folder, children);
    const cells = rows.map(({ what, entryBytes, GBps, share }) => [what, `${entryBytes / MIB} MiB`, spreadText(GBps, 2), share.toFixed(2)]);
    const text = [table(['WHAT', 'ENTRY', 'GB/S', 'OF THE PLAIN ONE'], cells), '', latencyTable([...lookup, ...hits])].join('\n');
    return { rows: [...rows, ...lookup, ...hits], text };
  } finally {
    for (const child of children) {
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    rmSync(folder, { recursive: true, force: true });
  }
}

async function started(args: readonly string[]): Promise<ChildProcess> {
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await Promise.race([
    once(child.stdout, 'data'),
    once(child, 'exit').then(() => {
      throw new Error(`${args[0]} ended before it listened`);
    }),
  ]);
  return child;
}

interface TransferBench {
  readonly client: Client;
  readonly space: string;
  readonly socket: string;
  readonly plainSocket: string;
  readonly bytes: number;
  readonly rounds: number;
}

async function transfers({ client, space, socket, plainSocket, bytes, rounds }: TransferBench): Promise<Row[]> {
  if (bytes % TOKEN_BYTES !== 0) throw new Error('the size is no whole number of tokens');
  const { json } = await client.json('POST', '/v1/segments', { bytes: ENTRIES * bytes });
  const { segment, generation, path } = json as { segment: string; generation: number; path: string };
  const file = openSharedFile(path);
  const memory = await file.range(0, ENTRIES * bytes);
  for (let i = 0; i < memory.length; i += 8) memory[i] = (i * 31) >> 3;
  const source = new Uint8Array(memory);
  const target = new Uint8Array(ENTRIES * bytes);
  const hashOf = (index: number): string => `${bytes.toString(16)}0${index}`;
  const inSegment = (index: number): object => ({ hash: hashOf(index), bytes, segment, generation, offset: index * bytes });
  const all = Array.from({ length: ENTRIES }, (_, index) => index);
  const stored = await client.frames('/v1/store', { space, entries: all.map(inSegment) });
  if (stored.summary?.hits !== ENTRIES) throw new Error(`the entries were not stored: ${JSON.stringify(stored.summary)}`);
  const bodyCall = JSON.stringify({ space, entries: all.map((index) => ({ hash: hashOf(index), bytes })) });
  let stores = 0;
  const agents = { daemon: new Agent({ keepAlive: true, maxSockets: 1 }), plain: new Agent({ keepAlive: true, maxSockets: 1 }) };
  const contenders: readonly { readonly what: string; readonly beside?: string; run(): Promise<void> }[] = [
    { what: 'memcpy', run: async () => all.forEach((index) => target.set(source.subarray(index * bytes, (index + 1) * bytes), index * bytes)) },
    {
      what: 'fetch, shared memory',
      beside: 'memcpy',
      async run() {
        const { summary } = await client.frames('/v1/fetch', { space, entries: all.map(inSegment) });
        if (summary?.hits !== ENTRIES) throw new Error('not all were hits');
      },
    },
    { what: 'plain server, answer', run: () => received({ socketPath: plainSocket, agent: agents.plain, method: 'GET', path: `/${ENTRIES * bytes}` }, undefined, target) },
    { what: 'fetch, body', beside: 'plain server, answer', run: () => received({ socketPath: socket, agent: agents.daemon, method: 'POST', path: '/v1/fetch' }, bodyCall, target) },
    { what: 'plain server, request', run: () => received({ socketPath: plainSocket, agent: agents.plain, method: 'POST', path: '/' }, source, target) },
    {
      what: 'store, body',
      beside: 'plain server, request',
      async run() {
        stores++;
        const body = framesBody({ space, entries: all.map((index) => ({ hash: `${hashOf(index)}${stores.toString(16)}ff`, bytes })) }, all.map((index) => source.subarray(index * bytes, (index + 1) * bytes)));
        await received({ socketPath: socket, agent: agents.daemon, method: 'POST', path: '/v1/store', headers: { 'content-type': FRAME_TYPE } }, body, target);
      },
    },
  ];
  const samples = new Map<string, number[]>(contenders.map(({ what }) => [what, []]));
  for (let round = 0; round <= rounds; round++) {
    for (const { what, run } of contenders) {
      const begin = performance.now();
      for (let moved = 0; moved < SAMPLE_BYTES; moved += ENTRIES * bytes) await run();
      if (round > 0) samples.get(what)?.push(SAMPLE_BYTES / 1e6 / (performance.now() - begin));
    }
  }
  agents.daemon.destroy();
  agents.plain.destroy();
  if (Buffer.compare(memory, source) !== 0) throw new Error('the segment holds other bytes than were stored');
  file.close();
  await client.json('DELETE', `/v1/segments/${segment}`);
  const medians = new Map([...samples].map(([what, values]) => [what, spread(values).median]));
  return contenders.map(({ what, beside }) => ({
    what,
    entryBytes: bytes,
    GBps: spread(samples.get(what) ?? []),
    share: (medians.get(what) ?? NaN) / (medians.get(beside ?? what) ?? NaN),
  }));
}

/** Makes a call and takes the answer into memory that is used again, as a client with `recv_into` does. */
async function received(options: RequestOptions, body: Uint8Array | string | undefined, target: Uint8Array): Promise<void> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const call = request({ ...options, headers: { ...options.headers, ...(body !== undefined && { 'content-length': Buffer.byteLength(body) }) } }, resolve);
    call.on('error', reject);
    call.end(body);
  });
  let at = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    target.set(piece.subarray(0, target.length - at), at);
    at = (at + piece.length) % target.length;
  }
  if (response.statusCode !== 200) throw new Error(`the server answered ${response.statusCode}`);
}

interface LookupBench {
  readonly client: Client;
  readonly space: string;
  /** Of the daemon and of the plain server. */
  readonly sockets: readonly [string, string];
  readonly rounds: number;
}

/** Lookups of a whole prefix, beside a plain server that takes the same request and says nothing: medians of the rounds, each of so many. */
async function lookups({ client, space, sockets, rounds }: LookupBench): Promise<Latency[]> {
  const hashes = Array.from({ length: HASHES }, (_, i) => `a${i.toString(16).padStart(63, '0')}`);
  const look = JSON.stringify({ space, hashes });
  const [daemon, plain] = [await bareClient(sockets[0]), await bareClient(sockets[1])];
  const [ours, theirs]: [number[][], number[][]] = [[], []];
  for (let round = 0; round <= rounds; round++) {
    // What is absent is forgotten after some seconds and looked for again.
    await client.json('POST', '/v1/lookup', { space, hashes, wait_ms: 10_000 });
    const [lookupMs, plainMs]: [number[], number[]] = [[], []];
    for (let i = 0; i < LOOKUPS; i++) {
      lookupMs.push(await msOf(() => daemon.post('/v1/lookup', look)));
      plainMs.push(await msOf(() => plain.post('/', look)));
    }
    if (round === 0) continue; // it warms up
    ours.push(lookupMs);
    theirs.push(plainMs);
  }
  daemon.close();
  plain.close();
  return [latencyOfRounds(`lookup of ${HASHES} hashes`, ours), latencyOfRounds('the same request to a plain server', theirs)];
}

/** A client that costs next to nothing, so that the server is measured: one request at a time over one connection, whose answers say their length. */
async function bareClient(socketPath: string): Promise<{ post(path: string, json: string): Promise<void>; close(): void }> {
  const socket = connect(socketPath);
  await once(socket, 'connect');
  let [answer, done] = ['', (): void => undefined];
  socket.on('data', (piece) => {
    answer += piece.toString('latin1');
    const end = answer.indexOf('\r\n\r\n') + 4;
    if (end < 4 || answer.length < end + Number(/^content-length: (\d+)/im.exec(answer)?.[1])) return;
    if (!answer.startsWith('HTTP/1.1 200')) throw new Error(`the server answered ${answer.slice(0, 100)}`);
    answer = '';
    done();
  });
  return {
    post: (path, json) =>
      new Promise((resolve) => {
        done = resolve;
        socket.write(`POST ${path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(json)}\r\n\r\n${json}`);
      }),
    close: () => socket.destroy(),
  };
}

/** Hits of one chunk in files: by a daemon into shared memory, and by the library in this process. */
async function hitTimes(folder: string, children: ChildProcess[]): Promise<Latency[]> {
  const [path, socket] = [join(folder, 'hits'), join(folder, 'hits.sock')];
  children.push(await started([join(ROOT, '.cache/bench-shim/engine/cli.js'), 'serve', '--store', `fs://${path}`, '--socket', socket]));
  const client = clientOf({ socketPath: socket });
  const capture = await captureTensor(join(ROOT, 'fixtures/captures/smollm2-gpl3-t0-256.safetensors'));
  const { order, dtype, layers, kvHeads, headDim } = capture.layout;
  const namespace = { model: 'hits', geometry: { order, dtype, layers, kvHeads, headDim } };
  const { json } = await client.json('POST', '/v1/spaces', { model: 'hits', geometry: { order, dtype, layers, kv_heads: kvHeads, head_dim: headDim } });
  const space = String(json.space);
  const { byteLength: bytes } = capture.data;
  const { summary } = await client.storeFrames({ space, entries: [{ hash: 'aa', bytes }] }, [capture.data]);
  if (summary?.hits !== 1) throw new Error(`the chunk was not stored: ${JSON.stringify(summary)}`);
  const { json: made } = await client.json('POST', '/v1/segments', { bytes });
  const entry = { hash: 'aa', bytes, segment: made.segment, generation: made.generation };
  const connector = filesystem({ path });
  const store = new KvStore({ connector, namespace });
  const into = new Uint8Array(bytes);
  const [daemon, inProcess]: [number[], number[]] = [[], []];
  for (let i = 0; i < HITS; i++) {
    daemon.push(await msOf(async () => expectHit((await client.frames('/v1/fetch', { space, entries: [entry] })).summary?.hits === 1)));
    inProcess.push(await msOf(async () => expectHit((await store.fetch('aa', { into })) !== undefined)));
  }
  await store.close();
  await connector.close();
  client.close();
  return [latencyOf(`hit of ${(bytes / MIB).toFixed(1)} MiB in files, by the daemon`, daemon), latencyOf('the same in process', inProcess)];
}

function expectHit(isHit: boolean): void {
  if (!isHit) throw new Error('the chunk was not found');
}
