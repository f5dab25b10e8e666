import { CreateMultipartUploadCommand, GetObjectCommand, HeadObjectCommand, ListMultipartUploadsCommand, ListObjectsV2Command, PutObjectCommand, UploadPartCommand } from '@aws-sdk/client-s3';
import fc from 'fast-check';
import { randomUUID } from 'node:crypto';
import dns from 'node:dns';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { s3, type S3Credentials, type S3Options } from '../../connectors/storage/s3.js';
import { keyOfName, namePrefix, objectName } from '../../connectors/storage/s3/object-name.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import { expectSameBytes, listed, patternBytes, storageConnectorContract } from '../contract/storage-connector.js';
import { startHttpProxy, type HttpProxy, type Twist } from '../faults/http-proxy.js';
import { provideServers, PROVIDE_TIMEOUT_MS } from '../servers/provide.js';
import { BUCKET, DOMAIN, OWNER, READER, startSeaweed, type SeaweedServer } from '../servers/seaweedfs.js';

const MIB = 1024 * 1024;

let server: SeaweedServer;
let proxy: HttpProxy;
let prefix = '';

beforeAll(async () => {
  server = await startSeaweed((await provideServers()).seaweedfs);
  proxy = await startHttpProxy(server.endpoint);
}, PROVIDE_TIMEOUT_MS);

afterAll(async () => {
  await proxy.close();
  await server.stop();
});

beforeEach(() => void (prefix = randomUUID()));

/** A connector under this test's prefix, closed with the test. */
function connect(options: Partial<S3Options> = {}): StorageConnector {
  const connector = s3({ endpoint: server.endpoint, bucket: BUCKET, prefix, credentials: OWNER, ...options });
  onTestFinished(() => connector.close());
  return connector;
}

storageConnectorContract('s3', {
  make: () => s3({ endpoint: server.endpoint, bucket: BUCKET, prefix: randomUUID(), credentials: OWNER }),
  unreachable: () => s3({ endpoint: 'http://127.0.0.1:9', bucket: BUCKET, credentials: OWNER }),
  stall: () => {
    server.pause();
    return () => server.resume();
  },
});

describe('objects', () => {
  it('have the key as their name after the prefix, the value as their bytes, and its length beside it', async () => {
    await connect().put('chunks/0123abcd/feed', patternBytes(1000));
    const object = await server.client.send(new GetObjectCommand({ Bucket: BUCKET, Key: `${prefix}/chunks/0123abcd/feed` }));
    expectSameBytes(await object.Body?.transformToByteArray(), patternBytes(1000));
    expect(object).toMatchObject({ Metadata: { 'kvreel-bytes': '1000' }, ContentType: 'application/octet-stream' });
  });

  it('that somebody else put are given whole and by range', async () => {
    await server.client.send(new PutObjectCommand({ Bucket: BUCKET, Key: `${prefix}/foreign`, Body: patternBytes(500) }));
    expectSameBytes(await connect().get('foreign'), patternBytes(500));
    expectSameBytes(await connect().get('foreign', { range: { offset: 490, length: 100 } }), patternBytes(500).slice(490));
  });

  it('that no key has the name of are not listed', async () => {
    for (const name of ['kept', '=not-base64!', '=YQ', 'odd name', `${'x'.repeat(201)}`]) {
      await server.client.send(new PutObjectCommand({ Bucket: BUCKET, Key: `${prefix}/${name}`, Body: 'x' }));
    }
    await server.client.send(new PutObjectCommand({ Bucket: BUCKET, Key: `${prefix}-beside/key`, Body: 'x' }));
    expect(await listed(connect(), '')).toEqual([{ key: 'kept', bytes: 1 }]);
  });

  it('are listed with the time of their last put', async () => {
    const connector = connect();
    await connector.put('key', patternBytes(1));
    for await (const { storedAtMs = 0 } of connector.list('key')) expect(Math.abs(storedAtMs - Date.now())).toBeLessThan(5000);
    expect.assertions(1);
  });

  it('are listed by their names, whether the server encodes them in a listing or not', async () => {
    const keys = ['a%b', 'a+b', 'a&b', "it's", 'model@8@0'];
    for (const key of keys) await connect().put(key, patternBytes(1));
    const all = keys.sort().map((key) => ({ key, bytes: 1 }));
    expect(await listed(connect(), '')).toEqual(all);
    proxy.set(async ({ forward, send }) => {
      const answer = await forward();
      const plain = answer.body.toString().replace(/<EncodingType>url<\/EncodingType>/, '');
      const body = Buffer.from(plain.replace(/<Key>(.*?)<\/Key>/g, (_, name: string) => `<Key>${decodeURIComponent(name).replaceAll('&', '&amp;')}</Key>`));
      send({ ...answer, headers: { ...answer.headers, 'content-length': body.byteLength }, body });
    });
    expect(await listed(connect({ endpoint: proxy.endpoint }), '')).toEqual(all);
    proxy.set(undefined);
  });

  it('are listed over several pages', async () => {
    const connector = connect();
    const keys = Array.from({ length: 1003 }, (_, i) => `key/${String(i).padStart(4, '0')}`);
    await Promise.all(keys.map((key) => connector.put(key, patternBytes(1))));
    expect(await listed(connector, 'key/')).toEqual(keys.map((key) => ({ key, bytes: 1 })));
  });

  it('of a key and of keys under it do not disturb each other, whichever comes first and goes first', async () => {
    const connector = connect();
    for (const [first, second] of [['a', 'a/b'], ['b/c', 'b']] as const) {
      await connector.put(first, patternBytes(10, 1));
      expect(await connector.has(second)).toBe(false);
      expect(await connector.get(second)).toBeUndefined();
      await connector.put(second, patternBytes(20, 2));
      await connector.delete(first);
      expect(await connector.has(first)).toBe(false);
      expectSameBytes(await connector.get(second), patternBytes(20, 2));
    }
  });
});

describe('object names', () => {
  const key = fc.oneof(
    fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 512 }).map((text) => text.replace(/[^\x20-\x7e]/g, '/')),
    fc.array(fc.constantFrom('a', 'B', '.', '/', '=', '%2e', '\\', 'k'.repeat(200)), { minLength: 1, maxLength: 12 }).map((parts) => parts.join('').slice(0, 512)),
  );

  it.each(['chunks/0af3/99', 'runs/a', 'model@8@0@-12ab@bfloat16', 'with@tag%value', 'a', 'CON', "it's(1)"])('of ordinary keys like %s are the keys', (ordinary) => {
    expect(objectName(ordinary)).toBe(ordinary);
  });

  it.each([
    ['a/../b', 'a/=Li4vYg'],
    ['a//b', 'a/=L2I'],
    ['a b/c', '=YSBiL2M'],
    ['/', '=Lw'],
    ['trailing/', 'trailing/='],
    ['.hidden', '=LmhpZGRlbg'],
    ['a%2fb', '=YSUyZmI'],
  ])('of an odd key, %s, are base64url from the first odd segment on', (odd, name) => {
    expect(objectName(odd)).toBe(name);
    expect(keyOfName(name)).toBe(odd);
  });

  it('lead back to the key, are short and plain, and start with the prefix that a list asks for', () => {
    fc.assert(
      fc.property(key, fc.nat(512), (key, cut) => {
        const name = objectName(key);
        expect(keyOfName(name)).toBe(key);
        expect(name.length).toBeLessThanOrEqual(700);
        expect(name.split('/').every((segment) => segment.length > 0 && segment.length <= 201 && !segment.startsWith('.'))).toBe(true);
        expect(name.startsWith(namePrefix(key.slice(0, cut)))).toBe(true);
      }),
      { seed: 1, numRuns: 3000 },
    );
  });

  it('that are no key\'s name give no key', () => {
    fc.assert(
      fc.property(key, (text) => {
        const found = keyOfName(text);
        if (found !== undefined) expect(objectName(found)).toBe(text);
      }),
      { seed: 2, numRuns: 3000 },
    );
  });
});

describe('options', () => {
  const good = { bucket: 'bucket', endpoint: 'http://localhost:8333', credentials: OWNER };

  it.each([
    [{ bucket: 'Upper' }, 'expected `bucket` to be a bucket\'s name'],
    [{ bucket: 'a' }, 'expected `bucket` to be a bucket\'s name'],
    [{ bucket: '10.0.0.1' }, 'expected `bucket` to be a bucket\'s name'],
    [{ bucket: 'a/../b' }, 'expected `bucket` to be a bucket\'s name'],
    [{ prefix: '../up' }, 'expected `prefix` to be letters'],
    [{ prefix: '/' }, 'expected `prefix` to be letters'],
    [{ prefix: 'p'.repeat(201) }, 'expected `prefix` to be letters'],
    [{ endpoint: 'localhost' }, 'expected `endpoint` to be a URL'],
    [{ endpoint: 'file:///etc/passwd' }, 'to start with http: or https:, got file:'],
    [{ endpoint: 'http://user:hush@host' }, 'expected no user and password'],
    [{ endpoint: 'http://host/path' }, 'to end after the host and port, got /path'],
    [{ endpoint: 'http://host/?x=y' }, 'to end after the host and port'],
    [{ endpoint: 'http://host:0' }, 'expected a port from 1 to 65535'],
    [{ endpoint: 'http://host:65536' }, 'expected `endpoint` to be a URL'],
    [{ endpoint: 'http://169.254.169.254' }, 'not to be a link-local address'],
    [{ endpoint: 'http://2852039166' }, 'not to be a link-local address'],
    [{ endpoint: 'http://[fe80::1]' }, 'not to be a link-local address'],
    [{ endpoint: 'http://[::ffff:169.254.169.254]' }, 'not to be a link-local address'],
    [{ endpoint: 'http://[fd00:ec2::254]' }, 'not to be a link-local address'],
    [{ endpoint: 'http://127.0.0.1:1', addressing: 'virtual-host' }, 'expected an `endpoint` with a name'],
    [{ addressing: 'dns' }, 'expected `addressing` to be path or virtual-host'],
    [{ region: 'eu west' }, 'expected `region` to be'],
    [{ credentials: { accessKeyId: 'a', secretAccessKey: '' } }, 'expected `credentials.secretAccessKey`'],
    [{ tls: { cert: 'x' } }, 'expected `tls.cert` and `tls.key` together'],
    [{ tls: { rejectUnauthorized: false } }, 'expected only the options ca, cert, key'],
    [{ timeoutMs: 0 }, 'expected `timeoutMs`'],
    [{ maxValueBytes: 0 }, 'expected `maxValueBytes`'],
    [{ partBytes: MIB }, 'expected `partBytes`'],
    [{ maxConnections: 1e9 }, 'expected `maxConnections`'],
    [{ retries: 3 }, 'expected only the options bucket, prefix'],
  ])('%j is refused without a word of what is secret', (wrong, message) => {
    const make = () => s3({ ...good, ...wrong } as S3Options);
    expect(make).toThrow(message);
    expect(make).toThrow(expect.not.stringMatching(/hush/));
  });

  it('maxValueBytes bounds what is put and what is read, by range too', async () => {
    const connector = connect({ maxValueBytes: 1000 });
    const refused = { code: 'KV_CONNECTOR_REFUSED', message: expect.stringContaining('maxValueBytes') };
    await expect(connector.put('key', patternBytes(1001))).rejects.toMatchObject(refused);
    await connect().put('key', patternBytes(1001));
    await expect(connector.get('key')).rejects.toMatchObject(refused);
    await expect(connector.get('key', { range: { offset: 0, length: 1 } })).rejects.toMatchObject(refused);
    await connector.put('key', patternBytes(1000));
    expectSameBytes(await connector.get('key'), patternBytes(1000));
  });
});

describe('where the bucket stands', () => {
  it('before the host\'s name, if asked', async () => {
    const lookup = vi.spyOn(dns, 'lookup').mockImplementation(((name: string, options: dns.LookupOptions, done: (...found: unknown[]) => void) => {
      expect(name).toBe(`${BUCKET}.${DOMAIN}`);
      return options.all === true ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4);
    }) as typeof dns.lookup);
    onTestFinished(() => lookup.mockRestore());
    const connector = connect({ endpoint: `http://${DOMAIN}:${server.port}`, addressing: 'virtual-host' });
    await connector.put('a b', patternBytes(1000));
    expectSameBytes(await connector.get('a b', { range: { offset: 10, length: 10 } }), patternBytes(1000).slice(10, 20));
    expect(await listed(connector, '')).toEqual([{ key: 'a b', bytes: 1000 }]);
    expect(await connector.delete('a b')).toBe(true);
    expect(await connect().has('a b')).toBe(false);
  });
});

describe('TLS', () => {
  it('gives and takes bytes with the server\'s certificate as `ca`, and refuses the server without', async () => {
    const encrypted = await startSeaweed((await provideServers()).seaweedfs, { tls: true });
    onTestFinished(() => encrypted.stop());
    const connector = connect({ endpoint: encrypted.endpoint, tls: { ca: encrypted.certificate() }, partBytes: 5 * MIB });
    for (const bytes of [0, 1, 100_000, 4 * MIB + 1, 6 * MIB]) {
      await connector.put('key', patternBytes(bytes));
      expectSameBytes(await connector.get('key'), patternBytes(bytes));
    }
    await Promise.all(Array.from({ length: 16 }, async (_, i) => {
      const range = { offset: i * 100_000, length: 300_000 };
      expectSameBytes(await connector.get('key', { range }), patternBytes(6 * MIB).slice(range.offset, range.offset + range.length));
    }));
    expect(await listed(connector, '')).toEqual([{ key: 'key', bytes: 6 * MIB }]);
    // The checksum that stands for the signature over TLS, as the server computed it.
    await connector.put('small', patternBytes(10));
    const head = await encrypted.client.send(new HeadObjectCommand({ Bucket: BUCKET, Key: `${prefix}/small`, ChecksumMode: 'ENABLED' }));
    expect(head.ChecksumCRC32).toMatch(/^[A-Za-z0-9+/]{6}==$/);
    await expect(connect({ endpoint: encrypted.endpoint }).get('key')).rejects.toMatchObject({ code: 'KV_PERMISSION', message: expect.stringContaining('tls.ca') });
    await expect(connect({ endpoint: encrypted.endpoint.replace('https', 'http') }).get('key')).rejects.toMatchObject({ name: 'KvError' });
  });
});

describe('credentials', () => {
  const forbidden = { code: 'KV_PERMISSION', retryable: false };
  const verbs = (connector: StorageConnector): Record<string, () => Promise<unknown>> => ({
    get: () => connector.get('key'),
    range: () => connector.get('key', { range: { offset: 0, length: 1 } }),
    put: () => connector.put('key', patternBytes(10)),
    has: () => connector.has('key'),
    delete: () => connector.delete('key'),
    list: () => listed(connector, ''),
    sweep: () => connector.sweep?.() ?? Promise.resolve(),
  });

  it.each([
    ['secret', { ...OWNER, secretAccessKey: 'wrong-hush-hush' }],
    ['key id', { ...OWNER, accessKeyId: 'nobody' }],
    ['session token', { ...OWNER, sessionToken: 'hush-hush-token' }],
  ])('with a wrong %s make every verb reject with KV_PERMISSION', async (_, credentials) => {
    await connect().put('key', patternBytes(10));
    const connector = connect({ credentials });
    for (const [name, call] of Object.entries(verbs(connector))) await expect(call(), name).rejects.toMatchObject(forbidden);
    expectSameBytes(await connect().get('key'), patternBytes(10));
  });

  it('that may only read do that, and puts and deletes reject with KV_PERMISSION', async () => {
    await connect().put('key', patternBytes(10));
    const reader = connect({ credentials: READER });
    expectSameBytes(await reader.get('key'), patternBytes(10));
    expect(await reader.has('key')).toBe(true);
    expect(await listed(reader, '')).toEqual([{ key: 'key', bytes: 10 }]);
    await expect(reader.put('key', patternBytes(20))).rejects.toMatchObject(forbidden);
    await expect(reader.delete('key')).rejects.toMatchObject(forbidden);
    expectSameBytes(await connect().get('key'), patternBytes(10));
  });

  it('for a bucket that is not there make every verb reject with KV_CONNECTOR_REFUSED and say so', async () => {
    const connector = connect({ bucket: 'no-such-bucket' });
    const refused = { code: 'KV_CONNECTOR_REFUSED', retryable: false, message: expect.stringContaining('there is no such bucket') };
    for (const [name, call] of Object.entries(verbs(connector))) if (name !== 'sweep') await expect(call(), name).rejects.toMatchObject(refused);
  });

  it('come from the environment through the SDK if none are given', async () => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', OWNER.accessKeyId);
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', OWNER.secretAccessKey);
    onTestFinished(() => void vi.unstubAllEnvs());
    const connector = s3({ endpoint: server.endpoint, bucket: BUCKET, prefix });
    await connector.put('key', patternBytes(10));
    expectSameBytes(await connector.get('key'), patternBytes(10));
    expect(await listed(connector, '')).toEqual([{ key: 'key', bytes: 10 }]);
    await connector.close();
  });

  /** An environment in which the SDK looks nowhere but in `configFile`, until the test ends. */
  function stubChain(configFile: string): void {
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_PROFILE']) vi.stubEnv(name, '');
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', '/nonexistent');
    vi.stubEnv('AWS_CONFIG_FILE', configFile);
    vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true');
    onTestFinished(() => void vi.unstubAllEnvs());
  }

  it('that are not found anywhere make every verb reject with KV_PERMISSION, which says where they come from', async () => {
    stubChain('/nonexistent');
    const connector = s3({ endpoint: proxy.endpoint, bucket: BUCKET, prefix, partBytes: 5 * MIB });
    proxy.set(undefined);
    const all = { ...verbs(connector), 'put in parts': () => connector.put('key', patternBytes(6 * MIB)) };
    for (const [name, call] of Object.entries(all)) await expect(call(), name).rejects.toMatchObject({ ...forbidden, message: expect.stringContaining('AWS_ACCESS_KEY_ID') });
    expect(proxy.requests).toEqual([]);
    await connector.close();
  });

  it('from a program of the chain that fails reject with KV_PERMISSION without what it said', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'kvreel-s3-'));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const program = join(directory, 'credentials.sh');
    writeFileSync(program, '#!/bin/sh\necho \'{"Version":1,"SecretAccessKey":"hush-hush"\'\necho hush-hush >&2\nexit 1\n', { mode: 0o700 });
    writeFileSync(join(directory, 'config'), `[default]\ncredential_process = ${program}\n`);
    stubChain(join(directory, 'config'));
    const connector = s3({ endpoint: server.endpoint, bucket: BUCKET, prefix });
    for (const [name, call] of Object.entries(verbs(connector))) {
      const error: unknown = await call().catch((cause: unknown) => cause);
      expect(error, name).toMatchObject(forbidden);
      expect(inspect(error, { depth: 20, showHidden: true }), name).not.toContain('hush-hush');
    }
    await connector.close();
  });

  it('that never come end each verb by its time limit, and hold up neither close() nor later calls', async () => {
    let asked = 0;
    const connector = connect({ timeoutMs: 200, credentials: () => (asked++ === 0 ? new Promise(() => undefined) : Promise.resolve(OWNER)) });
    const hanging = connect({ timeoutMs: 200, credentials: () => new Promise(() => undefined) });
    for (const [name, call] of Object.entries(verbs(hanging))) await expect(call(), name).rejects.toMatchObject({ code: 'KV_CONNECTOR_TIMEOUT' });
    const running = expect(hanging.get('key')).rejects.toMatchObject({ code: 'KV_CONNECTOR_TIMEOUT' });
    await hanging.close();
    await running;
    await expect(connector.get('key')).rejects.toMatchObject({ code: 'KV_CONNECTOR_TIMEOUT' });
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 11_000 });
    onTestFinished(() => void vi.useRealTimers());
    expect(await connector.get('key')).toBeUndefined();
    expect(asked).toBe(2);
  });

  it('from a function are asked for once, and again within five minutes of their end', async () => {
    const given: S3Credentials[] = [];
    const inMinutes = (minutes: number) => new Date(Date.now() + minutes * 60_000);
    let expiration = inMinutes(60);
    const connector = connect({
      credentials: async () => {
        given.push({ ...OWNER, expiration });
        return { ...OWNER, expiration };
      },
    });
    await Promise.all([connector.put('key', patternBytes(1)), connector.has('key'), listed(connector, '')]);
    await connector.get('key');
    expect(given).toHaveLength(1);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 56 * 60_000 });
    expiration = inMinutes(60);
    // The server refuses the clock; what counts here is that it was asked with new credentials.
    await Promise.allSettled([connector.get('key'), connector.has('key')]);
    vi.useRealTimers();
    expect(given).toHaveLength(2);
  });

  it.each(['rejects', 'throws'])('from a function that %s reject with KV_PERMISSION without what it said, and are asked for again', async (how) => {
    let isDown = true;
    const credentials = (): Promise<S3Credentials> => {
      const failure = new Error('vault says hush-hush');
      if (isDown && how === 'throws') throw failure;
      return isDown ? Promise.reject(failure) : Promise.resolve(OWNER);
    };
    const connector = connect({ credentials });
    const error: unknown = await connector.get('key').catch((cause: unknown) => cause);
    expect(error).toMatchObject(forbidden);
    expect(inspect(error, { depth: 10, showHidden: true })).not.toContain('hush-hush');
    isDown = false;
    expect(await connector.get('key')).toBeUndefined();
  });

  it('that are temporary send their token, signed', async () => {
    proxy.set(({ send }) => send({ status: 403, headers: {}, body: Buffer.from('') }));
    await expect(connect({ endpoint: proxy.endpoint, credentials: { ...OWNER, sessionToken: 'token' } }).get('key')).rejects.toMatchObject(forbidden);
    expect(proxy.requests[0]?.headers).toMatchObject({ 'x-amz-security-token': 'token', authorization: expect.stringMatching(/SignedHeaders=[^,]*x-amz-security-token/) });
  });

  it('stand in no error and on no stream, whatever the server answers', async () => {
    const secrets = { accessKeyId: OWNER.accessKeyId, secretAccessKey: 'hush-hush-secret', sessionToken: 'hush-hush-token' };
    const printed: string[] = [];
    for (const stream of [process.stdout, process.stderr]) {
      const spy = vi.spyOn(stream, 'write').mockImplementation((text) => printed.push(String(text)) > 0);
      onTestFinished(() => spy.mockRestore());
    }
    const echo = (headers: object): Buffer => Buffer.from(`<Error><Code>SignatureDoesNotMatch</Code><StringToSign>${JSON.stringify(headers)}</StringToSign></Error>`);
    const answers: readonly Twist[] = [
      ...[301, 400, 403, 404, 418, 500, 503].map((status): Twist => ({ request, send }) => {
        const headers = { 'content-type': 'application/xml', location: `http://127.0.0.1/?${request.headers.authorization}` };
        send({ status, headers, body: echo(request.headers) });
      }),
      ({ socket }) => void socket.destroy(),
      () => undefined,
    ];
    for (const [i, answer] of answers.entries()) {
      proxy.set(answer);
      const connector = connect({ endpoint: proxy.endpoint, credentials: secrets, timeoutMs: 200 });
      for (const [name, call] of Object.entries(verbs(connector))) {
        const error: unknown = await call().then(
          () => 'nothing',
          (cause: unknown) => cause,
        );
        expect(error, name).toMatchObject({ name: 'KvError' });
        expect(inspect(error, { depth: 20, showHidden: true }), `${name}, answer ${i}`).not.toMatch(/hush-hush|Signature=|AWS4-HMAC|Credential=/);
      }
    }
    expect(printed.join('')).not.toMatch(/hush-hush|Signature=|AWS4-HMAC|Credential=/);
  });
});

describe('an answer that is no HTTP', () => {
  it('is told as such, without what it repeats of the request', async () => {
    proxy.set(({ request, socket }) => void socket.write(`HTTP/1.1 200 OK\r\nno header\0 ${request.headers.authorization}`));
    onTestFinished(() => proxy.set(undefined));
    const error: unknown = await connect({ endpoint: proxy.endpoint }).get('key').catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE', message: expect.stringContaining('HTTP/1.1 protocol') });
    expect(inspect(error, { depth: 20, showHidden: true })).not.toMatch(/Signature=|AWS4-HMAC|Credential=/);
  });
});

describe('values above `partBytes`', () => {
  const value = patternBytes(12 * MIB + 5);
  const openUploads = async () => (await server.client.send(new ListMultipartUploadsCommand({ Bucket: BUCKET, Prefix: `${prefix}/` }))).Uploads ?? [];
  const objectsThere = async () => (await server.client.send(new ListObjectsV2Command({ Bucket: BUCKET, Prefix: `${prefix}/` }))).Contents ?? [];

  afterEach(() => proxy.set(undefined));

  it('go in parts and come back whole and by range', async () => {
    const connector = connect({ partBytes: 5 * MIB, endpoint: proxy.endpoint });
    proxy.set(undefined);
    await connector.put('key', value);
    expect(proxy.requests.map(({ method }) => method)).toEqual(['POST', 'PUT', 'PUT', 'PUT', 'POST']);
    expectSameBytes(await connector.get('key'), value);
    expectSameBytes(await connector.get('key', { range: { offset: 5 * MIB - 3, length: 10 } }), value.slice(5 * MIB - 3, 5 * MIB + 7));
    expect(await listed(connector, '')).toEqual([{ key: 'key', bytes: value.byteLength }]);
    expect(await openUploads()).toEqual([]);
  });

  it('are not there before the last part is', async () => {
    const connector = connect({ partBytes: 5 * MIB, endpoint: proxy.endpoint });
    const seen: unknown[] = [];
    proxy.set(async ({ forward, send }) => {
      seen.push(await connect().has('key'), (await objectsThere()).length);
      send(await forward());
    });
    await connector.put('key', value);
    expect(seen).toEqual([false, 0, false, 0, false, 0, false, 0, false, 0]);
    expect(await connector.has('key')).toBe(true);
  });

  it.each(['second part', 'publication'])('that fail at the %s leave the old value and no part', async (step) => {
    await connect().put('key', patternBytes(10));
    proxy.set(async ({ request, forward, send }) => {
      const isIt = step === 'publication' ? request.method === 'POST' && !request.path.includes('uploads') : request.path.includes('partNumber=2');
      send(isIt ? { status: 400, headers: {}, body: Buffer.from('<Error><Code>InvalidRequest</Code></Error>') } : await forward());
    });
    await expect(connect({ partBytes: 5 * MIB, endpoint: proxy.endpoint }).put('key', value)).rejects.toMatchObject({ code: 'KV_CONNECTOR_REFUSED' });
    expectSameBytes(await connect().get('key'), patternBytes(10));
    expect(await openUploads()).toEqual([]);
  });

  it('that S3 refuses in a 200 are not stored', async () => {
    proxy.set(async ({ request, forward, send }) => {
      const isPublication = request.method === 'POST' && !request.path.includes('uploads');
      send(isPublication ? { status: 200, headers: { 'content-type': 'application/xml' }, body: Buffer.from('<Error><Code>InternalError</Code></Error>') } : await forward());
    });
    await expect(connect({ partBytes: 5 * MIB, endpoint: proxy.endpoint }).put('key', value)).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE', retryable: true });
    expect(await openUploads()).toEqual([]);
    expect(await objectsThere()).toEqual([]);
  });

  it('that are aborted leave no part', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    proxy.set(async ({ request, forward, send }) => {
      if (request.path.includes('partNumber=2')) controller.abort(reason);
      send(await forward());
    });
    const connector = connect({ partBytes: 5 * MIB, endpoint: proxy.endpoint });
    await expect(connector.put('key', value, { signal: controller.signal })).rejects.toBe(reason);
    await connector.close(); // it waits for the clearing up
    expect(await openUploads()).toEqual([]);
    expect(await objectsThere()).toEqual([]);
  });
});

describe('sweep', () => {
  afterEach(() => proxy.set(undefined));

  it('drops uploads that began a day ago, of ours only, and says what they took', async () => {
    const begin = async (name: string) => {
      const { UploadId } = await server.client.send(new CreateMultipartUploadCommand({ Bucket: BUCKET, Key: name }));
      await server.client.send(new UploadPartCommand({ Bucket: BUCKET, Key: name, UploadId, PartNumber: 1, Body: patternBytes(1000) }));
    };
    for (const name of ['old', 'young', 'no key\'s name']) await begin(`${prefix}/${name}`);
    await begin(`${prefix}-other/old`);
    // The server has no clock to set, so its answer is made to say that they began earlier.
    const aged = (xml: string): string => xml.replace(/<Upload>.*?<\/Upload>/gs, (upload) => (upload.includes('young') ? upload : upload.replace(/<Initiated>[^<]*/, '<Initiated>2020-01-01T00:00:00.000Z')));
    proxy.set(async ({ request, forward, send }) => {
      const answer = await forward();
      if (request.method !== 'GET' || !request.path.includes('?uploads')) return send(answer);
      const body = Buffer.from(aged(answer.body.toString()));
      send({ ...answer, headers: { ...answer.headers, 'content-length': body.byteLength }, body });
    });
    expect(await connect({ endpoint: proxy.endpoint }).sweep?.()).toEqual({ removed: 1, bytes: 1000 });
    const { Uploads = [] } = await server.client.send(new ListMultipartUploadsCommand({ Bucket: BUCKET }));
    const left = Uploads.map(({ Key }) => Key).filter((name) => name?.startsWith(prefix));
    expect(left.sort()).toEqual([`${prefix}-other/old`, `${prefix}/no key's name`, `${prefix}/young`]);
  });

  it('may take longer than one call', async () => {
    // Uploads of ours that began long ago; dropping what is not there is no failure.
    const old = Array.from({ length: 4 }, (_, i) => `<Upload><Key>${prefix}/old-${i}</Key><UploadId>${'0'.repeat(32)}</UploadId><Initiated>2020-01-01T00:00:00.000Z</Initiated></Upload>`);
    proxy.set(async ({ request, forward, send }) => {
      await setTimeout(150);
      if (!request.path.includes('?uploads')) return send(await forward());
      const isFirst = !request.path.includes('key-marker');
      const rest = isFirst ? '<IsTruncated>true</IsTruncated><NextKeyMarker>m</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>' : '<IsTruncated>false</IsTruncated>';
      send({ status: 200, headers: {}, body: Buffer.from(`<ListMultipartUploadsResult>${rest}${(isFirst ? old.slice(0, 2) : old.slice(2)).join('')}</ListMultipartUploadsResult>`) });
    });
    const start = performance.now();
    expect(await connect({ endpoint: proxy.endpoint, timeoutMs: 1000 }).sweep?.()).toEqual({ removed: 4, bytes: 0 });
    expect(performance.now() - start).toBeGreaterThan(1000);
  });

  it('leaves all uploads alone if the time of one is none', async () => {
    proxy.set(async ({ forward, send }) => {
      const body = Buffer.from(`<ListMultipartUploadsResult><IsTruncated>false</IsTruncated><Upload><Key>${prefix}/odd</Key><UploadId>u</UploadId></Upload></ListMultipartUploadsResult>`);
      send({ ...(await forward()), headers: {}, body });
    });
    await expect(connect({ endpoint: proxy.endpoint }).sweep?.()).rejects.toMatchObject({ code: 'KV_CONNECTOR_REFUSED' });
    expect(proxy.requests.map(({ method }) => method)).toEqual(['GET']);
  });

  it('leaves values and running puts alone', async () => {
    const connector = connect({ partBytes: 5 * MIB });
    await connector.put('kept', patternBytes(10));
    const put = connector.put('running', patternBytes(11 * MIB));
    expect(await connector.sweep?.()).toEqual({ removed: 0, bytes: 0 });
    await put;
    expectSameBytes(await connector.get('running'), patternBytes(11 * MIB));
    expect(await connector.has('kept')).toBe(true);
  });
});
