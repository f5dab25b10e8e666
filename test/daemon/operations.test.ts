import { AsyncLocalStorage } from 'node:async_hooks';
import { context, propagation, ROOT_CONTEXT, SpanStatusCode, trace, type Context, type Span, type SpanContext, type Tracer } from '@opentelemetry/api';
import { afterEach, describe, expect, it } from 'vitest';
import { makeLogger, loggingObserver } from '../../connectors/engine/daemon/logging.js';
import type { Stats } from '../../connectors/engine/daemon/stats.js';
import { statsRecorder } from '../../connectors/engine/daemon/stats.js';
import { storeHealth, type StoreHealth } from '../../connectors/engine/daemon/store-health.js';
import { memory } from '../../connectors/storage/memory.js';
import { KvError } from '../../lib/errors.js';
import { CHUNK_BYTES, MODEL, operatedDaemon, TOKEN, type OperatedDaemon } from './operated-daemon.js';

let operated: OperatedDaemon | undefined;

afterEach(async () => {
  await operated?.stop();
  operated = undefined;
});

/** A daemon that stored three chunks and was asked for five. */
async function busy(): Promise<OperatedDaemon> {
  operated = await operatedDaemon();
  const space = await operated.register();
  await operated.store(space, ['a1', 'a2', 'a3']);
  await operated.store(space, ['a3']);
  await operated.fetch(space, ['a1', 'a2', 'a3', 'b1']);
  await operated.fetch(space, ['a1'], CHUNK_BYTES / 2);
  await operated.post('/v1/lookup', { space, hashes: ['a1', 'a2', 'b1'], wait_ms: 1000 });
  return operated;
}

const statsOf = async (daemon: OperatedDaemon): Promise<Stats> => (await (await daemon.get('/v1/stats')).json()) as Stats;

describe('GET /v1/stats', () => {
  it('counts hits, misses by cause, bytes raw and stored, rungs and spaces', async () => {
    const stats = await statsOf(await busy());
    expect(stats).toMatchObject({
      version: '1.2.3',
      store_name: 'memory',
      hits: 3,
      misses: { absent: 1, other_length: 1, damaged: 0 },
      failures: {},
      lookups: { calls: 1, asked: 3, hits: 2, unknown: 0 },
      fetched: { chunks: 3, raw_bytes: 3 * CHUNK_BYTES },
      stored: { chunks: 3, raw_bytes: 3 * CHUNK_BYTES },
      present: 1,
      spaces: [{ model: MODEL, rung: 'exact', hits: 3, misses: 2, stored: 4 }],
      store: { state: 'ok', in_flight: 0, failures: {} },
    });
    expect(stats.rungs.exact?.stored).toEqual(stats.stored);
    expect(stats.stored.stored_bytes).toBeGreaterThan(1000);
    expect(stats.stored.stored_bytes).toBeLessThan(stats.stored.raw_bytes);
    expect(stats.times.fetch).toMatchObject({ calls: 5 });
    expect(stats.seconds).toHaveLength(60);
  });

  it('wants the token', async () => {
    operated = await operatedDaemon();
    expect((await operated.get('/v1/stats', '')).status).toBe(401);
    expect((await operated.get('/metrics', 'wrong')).status).toBe(401);
  });

  it('counts lm:// where it is spoken', async () => {
    operated = await operatedDaemon();
    expect((await statsOf(operated)).lm).toBeUndefined();
    operated.operations.lmEvents.onRequest({ command: 'put', outcome: 'stored', rawBytes: 10, storedBytes: 5, ms: 1, model: 'm', rung: 'q4' });
    operated.operations.lmEvents.onRequest({ command: 'get', outcome: 'miss', rawBytes: 0, storedBytes: 0, ms: 1, model: 'm' });
    operated.operations.lmEvents.onClientLost('it was slow');
    expect(await statsOf(operated)).toMatchObject({
      lm: { requests: { put: { stored: 1 }, get: { miss: 1 } }, put_bytes: 10, got_bytes: 0, clients_lost: 1 },
      misses: { absent: 1 },
      rungs: { q4: { stored: { chunks: 1, raw_bytes: 10, stored_bytes: 5 } } },
      spaces: [{ model: 'm (lm)', rung: 'q4', hits: 0, misses: 1, stored: 1 }],
    });
  });
});

describe('a recorder', () => {
  const idle: StoreHealth = storeHealth().read();
  const hit = { space: 's', rawBytes: 1000, storedBytes: 500, ms: 2 };

  it('tells goodput of the last ten seconds and counts of each of the last sixty', () => {
    let nowMs = 0;
    const recorder = statsRecorder({ version: '', storeName: '', describe: () => undefined, nowMs: () => nowMs });
    recorder.observer.hit?.(hit);
    nowMs = 5_000;
    recorder.observer.hit?.(hit);
    nowMs = 12_000;
    const stats = recorder.read(idle);
    expect(stats.goodput_bytes_per_s).toBe(100); // the first is longer ago
    expect(stats.seconds.map(({ hits }) => hits)).toEqual([...Array<number>(48).fill(0), 1, 0, 0, 0, 0, 1, ...Array<number>(6).fill(0)]);
    nowMs = 500_000;
    expect(recorder.read(idle).seconds.every(({ hits }) => hits === 0)).toBe(true);
    expect(recorder.read(idle).hits).toBe(2);
  });

  it('tells how long the last calls took', () => {
    const recorder = statsRecorder({ version: '', storeName: '', describe: () => undefined });
    for (let ms = 1; ms <= 100; ms++) recorder.observer.hit?.({ ...hit, ms });
    expect(recorder.read(idle).times.fetch).toEqual({ calls: 100, p50_ms: 50, p90_ms: 90, p99_ms: 99 });
  });

  it('remembers only the spaces used last, and rungs of all', () => {
    const recorder = statsRecorder({ version: '', storeName: '', describe: (space) => ({ model: space, geometry: {} as never, quality: Number(space) % 2 === 0 ? 'exact' : 'lossy' }) });
    for (let space = 0; space < 100; space++) recorder.observer.hit?.({ ...hit, space: String(space) });
    const { spaces, rungs } = recorder.read(idle);
    expect(spaces.map(({ model }) => model)).toEqual(Array.from({ length: 20 }, (_, i) => String(99 - i)));
    expect([rungs.exact?.fetched.chunks, rungs.q4?.fetched.chunks]).toEqual([50, 50]);
  });
});

describe('the health of a store', () => {
  const call = (health: ReturnType<typeof storeHealth>, outcome: 'hit' | 'timeout' | 'cancelled' | 'absent'): void =>
    health.sink.begin({ connector: 'x', verb: 'get' })({ outcome, durationMs: 5, bytes: outcome === 'hit' ? 7 : 0, ...(outcome === 'timeout' && { errorType: 'KV_CONNECTOR_TIMEOUT' }) });

  it('is failing after some failures in a row, and well again after one success', () => {
    const health = storeHealth();
    expect(health.read().state).toBe('idle');
    call(health, 'hit');
    for (let i = 0; i < 2; i++) call(health, 'timeout');
    expect(health.read()).toMatchObject({ state: 'ok', last_failure: { code: 'KV_CONNECTOR_TIMEOUT', verb: 'get' } });
    call(health, 'cancelled'); // says nothing
    call(health, 'timeout');
    expect(health.read()).toMatchObject({ state: 'failing', failures: { timeout: 3 }, calls: { get: 4 }, read_bytes: 7 });
    call(health, 'absent');
    expect(health.read().state).toBe('ok');
  });
});

describe('GET /metrics', () => {
  it('has the numbers of the daemon, its store and its process', async () => {
    const daemon = await busy();
    const answer = await daemon.get('/metrics');
    expect(answer.headers.get('content-type')).toContain('text/plain');
    const lines = (await answer.text()).split('\n');
    const value = (line: string): number => Number(lines.find((candidate) => candidate.startsWith(`${line} `))?.split(' ').at(-1));
    expect(value('kvreel_hits_total{rung="exact"}')).toBe(3);
    expect(value('kvreel_misses_total{cause="absent"}')).toBe(1);
    expect(value('kvreel_misses_total{cause="other_length"}')).toBe(1);
    expect(value('kvreel_stored_total{rung="exact",how="coded"}')).toBe(3);
    expect(value('kvreel_stored_total{rung="exact",how="present"}')).toBe(1);
    expect(value('kvreel_fetched_raw_bytes_total{rung="exact"}')).toBe(3 * CHUNK_BYTES);
    expect(value('kvreel_lookup_hashes_total{answer="hit"}')).toBe(2);
    expect(value('kvreel_http_requests_total{method="POST",route="/v1/fetch",status="200"}')).toBe(2);
    expect(value('kvreel_fetch_duration_seconds_count')).toBe(5);
    expect(value('kvreel_storage_calls_total{connector="memory",verb="put",outcome="done"}')).toBe(3);
    expect(lines.some((line) => line.startsWith('process_cpu_seconds_total'))).toBe(true);
    expect(lines.join('\n')).not.toContain('org/model');
  });

  it('makes no time series of what clients write', async () => {
    operated = await operatedDaemon();
    await fetch(`${operated.url}/nothing`, { method: 'PROPFIND', headers: { authorization: `Bearer ${TOKEN}` } });
    expect(await (await operated.get('/metrics')).text()).toContain('kvreel_http_requests_total{method="any",route="unknown",status="404"} 1');
  });

  it('counts for each daemon alone', async () => {
    const [one, other] = [await operatedDaemon(), await operatedDaemon()];
    await one.register();
    expect(await (await other.get('/metrics')).text()).not.toContain('/v1/spaces');
    await Promise.all([one.stop(), other.stop()]);
  });
});

describe('the log', () => {
  const lines: string[] = [];
  const logger = (level: 'debug' | 'warn' = 'debug') => makeLogger({ level, secrets: ['pass"word', 'token-1'], destination: { write: (line) => void lines.push(line) } });
  afterEach(() => void lines.splice(0));

  it('is one JSON object a line, with time and level', () => {
    logger().info({ a: 1 }, 'hello');
    expect(JSON.parse(lines[0] ?? '')).toEqual({ level: 'info', time: expect.stringMatching(/^\d{4}-.*Z$/), a: 1, msg: 'hello' });
  });

  it('holds no secret, wherever it comes from', () => {
    const log = logger();
    log.info({ deep: { url: 'redis://user:pw%40@host/0', header: 'Bearer abc.def' }, list: ['token-1'] }, 'with pass"word and https://u:p@h/x');
    log.error(new Error('token-1 is wrong'));
    expect(lines.join('')).not.toMatch(/pw%40|abc\.def|token-1|pass\\"word|u:p@/);
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({ deep: { url: 'redis://[redacted]@host/0', header: 'Bearer [redacted]' }, list: ['[redacted]'] });
  });

  it('tells a failure once for a while, and then how often', () => {
    let nowMs = 0;
    const observer = loggingObserver(logger('warn'), () => nowMs);
    const failed = { space: 's', verb: 'fetch' as const, code: 'KV_CONNECTOR_TIMEOUT', message: 'the store is slow', ms: 1 };
    for (let i = 0; i < 100; i++) observer.failed?.(failed);
    observer.failed?.({ ...failed, verb: 'store' });
    nowMs = 20_000;
    observer.failed?.(failed);
    expect(lines.map((line) => JSON.parse(line) as Record<string, unknown>)).toMatchObject([
      { level: 'warn', verb: 'fetch', code: 'KV_CONNECTOR_TIMEOUT', msg: 'fetch failed: the store is slow' },
      { verb: 'store' },
      { verb: 'fetch', repeated: 99 },
    ]);
  });

  it('has requests only where they are wanted, and warnings of the lm:// server', () => {
    const observer = loggingObserver(logger('warn'));
    observer.request?.({ method: 'GET', route: '/health', status: 200, ms: 1 });
    observer.onRequest({ command: 'get', outcome: 'hit', rawBytes: 1, storedBytes: 1, ms: 1 });
    observer.onRequest({ command: 'put', outcome: 'refused', rawBytes: 1, storedBytes: 0, ms: 1, reason: 'its key is none' });
    observer.onClientLost('it was slow');
    observer.onWarning('kept as bytes');
    expect(lines.map((line) => (JSON.parse(line) as { msg: string }).msg)).toEqual(['lm put refused: its key is none', 'lm client lost: it was slow', 'kept as bytes']);
  });

  it('of a daemon holds no token, also where a client sends a wrong path with it', async () => {
    operated = await operatedDaemon();
    await operated.get(`/${TOKEN}`);
    await operated.get('/v1/stats');
    expect(operated.log.length).toBeGreaterThan(1);
    expect(JSON.stringify(operated.log)).not.toContain(TOKEN);
  });

  it('tells that the store fails', async () => {
    const broken = { ...memory(), get: () => Promise.reject(new KvError('KV_CONNECTOR_UNAVAILABLE', 'the disk is gone')) };
    operated = await operatedDaemon({ connector: broken, level: 'warn' });
    await operated.fetch(await operated.register(), ['a1', 'a2', 'a3']);
    expect(operated.log).toMatchObject([{ level: 'warn', verb: 'fetch', code: 'KV_CONNECTOR_UNAVAILABLE' }]);
    expect(await statsOf(operated)).toMatchObject({ failures: { KV_CONNECTOR_UNAVAILABLE: 3 }, store: { state: 'failing', last_failure: { code: 'KV_CONNECTOR_UNAVAILABLE' } } });
  });
});

interface MadeSpan {
  readonly name: string;
  readonly parent: SpanContext | undefined;
  readonly context: SpanContext;
  readonly attributes: Record<string, unknown>;
  status?: SpanStatusCode;
  isEnded: boolean;
}

/** The least that an SDK has to be: keeps spans, and which one is active. */
function tinySdk(spans: MadeSpan[]): () => void {
  const storage = new AsyncLocalStorage<Context>();
  let ids = 0;
  const startSpan: Tracer['startSpan'] = (name, options = {}, from = context.active()) => {
    const parent = trace.getSpanContext(from);
    const made: MadeSpan = {
      name,
      parent,
      context: { traceId: parent?.traceId ?? 'f'.repeat(32), spanId: String(++ids).padStart(16, '0'), traceFlags: 1 },
      attributes: { ...options.attributes },
      isEnded: false,
    };
    spans.push(made);
    const span = {
      spanContext: () => made.context,
      setAttribute: (key: string, value: unknown) => Object.assign(made.attributes, { [key]: value }),
      setAttributes: (attributes: object) => Object.assign(made.attributes, attributes),
      setStatus: ({ code }: { code: SpanStatusCode }) => (made.status = code),
      end: () => (made.isEnded = true),
    };
    return span as unknown as Span;
  };
  const tracer = {
    startSpan,
    startActiveSpan(name: string, options: object, from: Context, work: (span: Span) => unknown) {
      const span = startSpan(name, options, from);
      return storage.run(trace.setSpan(from, span), () => work(span));
    },
  } as unknown as Tracer;
  const manager = {
    active: () => storage.getStore() ?? ROOT_CONTEXT,
    with: (active: Context, work: (...args: never[]) => unknown, self: unknown, ...args: never[]) => storage.run(active, () => work.apply(self, args)),
    bind: <T>(_: Context, target: T) => target,
    enable: () => manager,
    disable: () => manager,
  };
  context.setGlobalContextManager(manager as never);
  trace.setGlobalTracerProvider({ getTracer: () => tracer });
  propagation.setGlobalPropagator({
    inject: () => undefined,
    fields: () => ['traceparent'],
    extract(from, carrier) {
      const [, traceId, spanId] = String((carrier as Record<string, unknown>).traceparent ?? '').split('-');
      return traceId && spanId ? trace.setSpanContext(from, { traceId, spanId, traceFlags: 1, isRemote: true }) : from;
    },
  });
  return () => [trace, context, propagation].forEach((api) => api.disable());
}

describe('spans', () => {
  it('are made of each request, below the client’s, with those of the store below, and hold no keys', async () => {
    const spans: MadeSpan[] = [];
    const end = tinySdk(spans);
    try {
      operated = await operatedDaemon();
      const space = await operated.register();
      const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
      await (await operated.post('/v1/fetch', { space, entries: [{ hash: 'feedbeef', bytes: CHUNK_BYTES }] }, { traceparent })).arrayBuffer();
      const request = spans.find(({ name }) => name === 'POST /v1/fetch');
      expect(request).toMatchObject({ parent: { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16) }, isEnded: true, attributes: { 'http.route': '/v1/fetch', 'http.response.status_code': 200 } });
      expect(spans.find(({ name }) => name === 'kvreel.storage.get')?.parent).toEqual(request?.context);
      expect(JSON.stringify(spans)).not.toContain('feedbeef');
    } finally {
      end();
    }
  });

  it('tell of a request that was refused, and there are none of what is asked all the time', async () => {
    const spans: MadeSpan[] = [];
    const end = tinySdk(spans);
    try {
      operated = await operatedDaemon();
      await operated.post('/v1/lookup', { space: 'f'.repeat(32), hashes: ['a'] });
      for (const path of ['/health', '/metrics', '/v1/stats', '/']) await operated.get(path);
      expect(spans.filter(({ name }) => name.includes('/'))).toMatchObject([{ name: 'POST /v1/lookup', attributes: { 'http.response.status_code': 409, 'error.type': 'KV_UNKNOWN_SPACE' } }]);
    } finally {
      end();
    }
  });
});
