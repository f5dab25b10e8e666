import { SpanKind, SpanStatusCode, type Attributes, type Span, type SpanOptions, type SpanStatus, type Tracer } from '@opentelemetry/api';
import { Registry } from 'prom-client';
import { beforeEach, describe, expect, it } from 'vitest';
import { breaker } from '../../connectors/storage/breaker.js';
import { measured, type CallEnd, type MeasuredCall, type MeasuredSink } from '../../connectors/storage/measured.js';
import { openTelemetrySink } from '../../connectors/storage/measured/opentelemetry.js';
import { prometheusSink } from '../../connectors/storage/measured/prometheus.js';
import { memory } from '../../connectors/storage/memory.js';
import { KvError, type KvErrorCode } from '../../lib/errors.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import { KvStore } from '../../lib/store/store.js';
import { expectSameBytes, listed, patternBytes, storageConnectorContract } from '../contract/storage-connector.js';

let clock = 0;

storageConnectorContract('measured', {
  make: () => measured(memory({ now: () => clock }), prometheusSink(new Registry())),
  advanceClock: (ms) => void (clock += ms),
});

/** A sink that keeps what it is told. */
function recorder() {
  const running = new Set<MeasuredCall>();
  const ended: (MeasuredCall & CallEnd)[] = [];
  const sink: MeasuredSink = {
    begin(call) {
      running.add(call);
      return (end) => {
        expect(running.delete(call)).toBe(true);
        ended.push({ ...call, ...end });
      };
    },
    verifyFailure: () => undefined,
    breakerState: () => undefined,
  };
  const outcomes = () => ended.map(({ verb, outcome, bytes }) => [verb, outcome, bytes]);
  return { sink, running, ended, outcomes };
}

/** A connector whose gets, puts and lists reject with `error`. */
function failing(error: unknown): StorageConnector {
  const reject = () => Promise.reject(error);
  return {
    ...memory(),
    get: reject,
    put: reject,
    async *list() {
      yield { key: 'key', bytes: 1 };
      throw error;
    },
  };
}

describe('a measured connector', () => {
  it('tells of each verb, its outcome and its bytes', async () => {
    const { sink, running, ended, outcomes } = recorder();
    const connector = measured(memory(), sink);
    await connector.put('key', patternBytes(100));
    await connector.get('key');
    await connector.get('key', { range: { offset: 90, length: 50 } });
    await connector.get('missing');
    await connector.has('key');
    await connector.has('missing');
    await listed(connector, '');
    await connector.delete('key');
    await connector.delete('key');
    expect(outcomes()).toEqual([
      ['put', 'done', 100],
      ['get', 'hit', 100],
      ['get', 'hit', 10],
      ['get', 'absent', 0],
      ['has', 'hit', 0],
      ['has', 'absent', 0],
      ['list', 'done', 0],
      ['delete', 'done', 0],
      ['delete', 'absent', 0],
    ]);
    expect(running.size).toBe(0);
    expect(ended.every(({ connector: name, durationMs }) => name === 'memory' && durationMs >= 0)).toBe(true);
  });

  it('is called as the connector in it is, and gives what that gives', async () => {
    const connector = measured(memory(), recorder().sink);
    expect(connector.name).toBe('memory');
    const into = new Uint8Array(200);
    await connector.put('key', patternBytes(100));
    expect((await connector.get('key', { into }))?.buffer).toBe(into.buffer);
  });

  it.each([
    ['KV_CORRUPT_OBJECT', 'corrupt'],
    ['KV_UNSUPPORTED', 'corrupt'],
    ['KV_UNSUPPORTED_VERSION', 'corrupt'],
    ['KV_CONNECTOR_TIMEOUT', 'timeout'],
    ['KV_CONNECTOR_UNAVAILABLE', 'unavailable'],
    ['KV_OVERLOADED', 'unavailable'],
    ['KV_CONNECTOR_REFUSED', 'refused'],
    ['KV_PERMISSION', 'refused'],
    ['KV_NO_SPACE', 'refused'],
    ['KV_CLOSED', 'cancelled'],
    ['KV_EXISTS', 'other'],
  ] as const)('counts %s as %s, and rejects as the connector does', async (code: KvErrorCode, outcome) => {
    const { sink, ended } = recorder();
    const error = new KvError(code, 'it happened');
    const connector = measured(failing(error), sink);
    await expect(connector.get('key')).rejects.toBe(error);
    await expect(connector.put('key', patternBytes(10))).rejects.toBe(error);
    await expect(listed(connector, '')).rejects.toBe(error);
    expect(ended).toHaveLength(3);
    for (const end of ended) expect(end).toMatchObject({ outcome, bytes: 0, errorType: code });
  });

  it('tells a caller who gave up from one whose time ran out', async () => {
    const { sink, outcomes } = recorder();
    const connector = measured(memory(), sink);
    const reasons = [new Error('changed my mind'), new KvError('KV_CONNECTOR_TIMEOUT', 'too late'), new DOMException('late', 'TimeoutError')];
    for (const reason of reasons) await expect(connector.get('key', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(outcomes().map(([, outcome]) => outcome)).toEqual(['cancelled', 'timeout', 'timeout']);
  });

  it("counts a caller's mistake as other", async () => {
    const { sink, ended } = recorder();
    await expect(measured(memory(), sink).get('')).rejects.toBeInstanceOf(TypeError);
    expect(ended).toMatchObject([{ outcome: 'other', errorType: 'TypeError' }]);
  });

  it('ends a list when its reader leaves half way', async () => {
    const { sink, running, outcomes } = recorder();
    const connector = measured(memory(), sink);
    for (const key of ['a', 'b', 'c']) await connector.put(key, patternBytes(1));
    for await (const _ of connector.list('')) {
      expect(running.size).toBe(1);
      break;
    }
    expect(running.size).toBe(0);
    expect(outcomes().at(-1)).toEqual(['list', 'done', 0]);
  });

  it('refuses a sink that is none', () => {
    expect(() => measured(memory(), {} as MeasuredSink)).toThrow(TypeError);
  });
});

/** A store on `connector` whose one object has been damaged, and the way to fetch it. */
async function damagedStore(connector: StorageConnector, sink: MeasuredSink) {
  const geometry = { order: 'mla', dtype: 'u8', layers: 1, kvHeads: 1, headDim: 16 } as const;
  const store = new KvStore({ connector, namespace: { model: 'm', geometry }, onCorrupt: (error) => sink.verifyFailure(connector.name, error) });
  await store.put('aa', { layout: { ...geometry, tokens: 16 }, data: patternBytes(256) });
  const [entry] = await listed(connector, '');
  const key = entry?.key ?? '';
  const bytes = (await connector.get(key)) ?? new Uint8Array();
  bytes[bytes.byteLength - 1] = (bytes[bytes.byteLength - 1] ?? 0) ^ 1;
  await connector.put(key, bytes);
  return { fetch: () => store.fetch('aa'), key };
}

describe('the Prometheus sink', () => {
  let register: Registry;
  let sink: MeasuredSink;

  beforeEach(() => {
    register = new Registry();
    sink = prometheusSink(register);
  });

  /** The exposition's samples that start with `name`, as `name{labels}` -> value. */
  async function samples(name: string): Promise<Record<string, number>> {
    const lines = (await register.metrics()).split('\n').filter((line) => line.startsWith(`kvreel_storage_${name}`));
    return Object.fromEntries(lines.map((line) => [line.slice('kvreel_storage_'.length, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
  }

  it('counts calls by outcome, and bytes', async () => {
    const connector = measured(memory(), sink);
    await connector.put('key', patternBytes(1000));
    for (let i = 0; i < 3; i++) await connector.get('key');
    await connector.get('missing');
    await connector.has('missing');
    await measured(failing(new KvError('KV_CONNECTOR_UNAVAILABLE', 'away')), sink).get('key').catch(() => undefined);
    expect(await samples('calls_total')).toEqual({
      'calls_total{connector="memory",verb="put",outcome="done"}': 1,
      'calls_total{connector="memory",verb="get",outcome="hit"}': 3,
      'calls_total{connector="memory",verb="get",outcome="absent"}': 1,
      'calls_total{connector="memory",verb="has",outcome="absent"}': 1,
      'calls_total{connector="memory",verb="get",outcome="unavailable"}': 1,
    });
    expect(await samples('read_bytes_total')).toEqual({ 'read_bytes_total{connector="memory"}': 3000 });
    expect(await samples('written_bytes_total')).toEqual({ 'written_bytes_total{connector="memory"}': 1000 });
  });

  it('keeps durations in seconds', async () => {
    sink.begin({ connector: 'redis', verb: 'get' })({ outcome: 'hit', durationMs: 20, bytes: 1 });
    const found = await samples('call_duration_seconds');
    expect(found['call_duration_seconds_sum{connector="redis",verb="get"}']).toBeCloseTo(0.02, 9);
    expect(found['call_duration_seconds_bucket{le="0.01",connector="redis",verb="get"}']).toBe(0);
    expect(found['call_duration_seconds_bucket{le="0.025",connector="redis",verb="get"}']).toBe(1);
    expect(found['call_duration_seconds_count{connector="redis",verb="get"}']).toBe(1);
  });

  it('knows what is in flight', async () => {
    const connector = measured(memory(), sink);
    const name = 'calls_in_flight{connector="memory",verb="get"}';
    const call = connector.get('key');
    expect((await samples('calls_in_flight'))[name]).toBe(1);
    await call;
    expect((await samples('calls_in_flight'))[name]).toBe(0);
  });

  it('shows the state of a breaker that is told to tell it', async () => {
    const connector = breaker(failing(new KvError('KV_CONNECTOR_UNAVAILABLE', 'away')), { failures: 1, onStateChange: ({ state }) => sink.breakerState('memory', state) });
    sink.breakerState('memory', connector.state().state);
    const states = async () => Object.entries(await samples('breaker_state')).filter(([, value]) => value === 1).map(([name]) => name);
    expect(await states()).toEqual(['breaker_state{connector="memory",state="closed"}']);
    await connector.get('key').catch(() => undefined);
    expect(await states()).toEqual(['breaker_state{connector="memory",state="open"}']);
    await connector.close();
  });

  it('counts objects that a store did not believe, and no metric holds a key', async () => {
    const { fetch, key } = await damagedStore(measured(memory(), sink), sink);
    expect(await fetch()).toBeUndefined();
    expect(await samples('verify_failures_total')).toEqual({ 'verify_failures_total{connector="memory",code="KV_CORRUPT_OBJECT"}': 1 });
    expect(await register.metrics()).not.toContain(key.slice(0, 20));
  });

  it('gives each metric a name with its unit, and help', async () => {
    await measured(memory(), sink).has('key');
    const text = await register.metrics();
    const names = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => `${name} ${type}`);
    expect(names.sort()).toEqual([
      'kvreel_storage_breaker_state gauge',
      'kvreel_storage_call_duration_seconds histogram',
      'kvreel_storage_calls_in_flight gauge',
      'kvreel_storage_calls_total counter',
      'kvreel_storage_read_bytes_total counter',
      'kvreel_storage_verify_failures_total counter',
      'kvreel_storage_written_bytes_total counter',
    ]);
    expect([...text.matchAll(/^# HELP \S+ \S/gm)]).toHaveLength(names.length);
  });
});

describe('the OpenTelemetry sink', () => {
  interface Recorded {
    readonly name: string;
    readonly kind: SpanKind | undefined;
    attributes: Attributes;
    status?: SpanStatus;
    ends: number;
  }

  /** A tracer that keeps its spans. */
  function recordingTracer() {
    const spans: Recorded[] = [];
    const tracer = {
      startSpan(name: string, options: SpanOptions = {}): Span {
        const recorded: Recorded = { name, kind: options.kind, attributes: { ...options.attributes }, ends: 0 };
        spans.push(recorded);
        const span = {
          setAttributes: (attributes: Attributes) => (Object.assign(recorded.attributes, attributes), span),
          setStatus: (status: SpanStatus) => ((recorded.status = status), span),
          end: () => void recorded.ends++,
        } as Span;
        return span;
      },
    } as Tracer;
    return { spans, tracer };
  }

  it('makes a span of each call, with its outcome', async () => {
    const { spans, tracer } = recordingTracer();
    const connector = measured(memory(), openTelemetrySink(tracer));
    await connector.put('key', patternBytes(100));
    expectSameBytes(await connector.get('key'), patternBytes(100));
    await connector.get('missing');
    const attributes = { 'kvreel.connector': 'memory', 'kvreel.verb': 'get' };
    expect(spans).toEqual([
      { name: 'kvreel.storage.put', kind: SpanKind.CLIENT, ends: 1, attributes: { ...attributes, 'kvreel.verb': 'put', 'kvreel.outcome': 'done', 'kvreel.bytes': 100 } },
      { name: 'kvreel.storage.get', kind: SpanKind.CLIENT, ends: 1, attributes: { ...attributes, 'kvreel.outcome': 'hit', 'kvreel.bytes': 100 } },
      { name: 'kvreel.storage.get', kind: SpanKind.CLIENT, ends: 1, attributes: { ...attributes, 'kvreel.outcome': 'absent', 'kvreel.bytes': 0 } },
    ]);
  });

  it('marks what failed, with its code, and not a caller who gave up', async () => {
    const { spans, tracer } = recordingTracer();
    const sink = openTelemetrySink(tracer);
    await measured(failing(new KvError('KV_CONNECTOR_TIMEOUT', 'late')), sink).get('key').catch(() => undefined);
    await measured(memory(), sink).get('key', { signal: AbortSignal.abort(new Error('changed my mind')) }).catch(() => undefined);
    expect(spans.map(({ status, attributes, ends }) => [status?.code, attributes['error.type'], ends])).toEqual([
      [SpanStatusCode.ERROR, 'KV_CONNECTOR_TIMEOUT', 1],
      [undefined, 'Error', 1],
    ]);
  });

  it('makes a span of each verify failure and each change of a breaker, and none holds a key', async () => {
    const { spans, tracer } = recordingTracer();
    const sink = openTelemetrySink(tracer);
    const { fetch, key } = await damagedStore(measured(memory(), sink), sink);
    expect(await fetch()).toBeUndefined();
    sink.breakerState('memory', 'open');
    const ofNoCall = spans.filter(({ attributes }) => attributes['kvreel.verb'] === undefined);
    expect(ofNoCall).toEqual([
      { name: 'kvreel.storage.verify_failure', kind: undefined, ends: 1, status: { code: SpanStatusCode.ERROR }, attributes: { 'kvreel.connector': 'memory', 'error.type': 'KV_CORRUPT_OBJECT' } },
      { name: 'kvreel.storage.breaker_change', kind: undefined, ends: 1, attributes: { 'kvreel.connector': 'memory', 'kvreel.breaker_state': 'open' } },
    ]);
    expect(JSON.stringify(spans)).not.toContain(key.slice(0, 20));
  });
});
