// Our signer and the SDK's give the same signature, whatever is signed.
import { createHash, createHmac, type BinaryLike, type Hash, type Hmac } from 'node:crypto';
import { SignatureV4 } from '@smithy/signature-v4';
import fc from 'fast-check';
import { afterEach, expect, it, vi } from 'vitest';
import { checkOptions, type S3Credentials } from '../../connectors/storage/s3/options.js';
import { NO_PAYLOAD } from '../../connectors/storage/s3/payload.js';
import { signer, type PlainRequest } from '../../connectors/storage/s3/signer.js';
import { encodePath } from '../../connectors/storage/s3/uri.js';

type Source = string | ArrayBuffer | ArrayBufferView;

class Sha256 {
  readonly #hash: Hash | Hmac;
  constructor(secret?: Source) {
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', secret as BinaryLike);
  }
  update(data: Source): void {
    this.#hash.update(data as BinaryLike);
  }
  digest(): Promise<Uint8Array> {
    return Promise.resolve(this.#hash.digest());
  }
}

const text = (maxLength: number) => fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength });
const header = fc.array(fc.constantFrom('a', 'Z', '9', '"', ',', ' ', '  ', ' /'), { maxLength: 12 }).map((parts) => parts.join(''));
const headers = fc.record({ 'content-type': header, 'x-amz-meta-x': header, 'x-amz-meta': header }, { requiredKeys: [] });
/** One signature may serve several of these in a second. */
const read: fc.Arbitrary<PlainRequest> = fc.record({ method: fc.constantFrom('GET', 'HEAD'), name: fc.constantFrom('a', 'b c'), headers: fc.constant(NO_PAYLOAD) });
const any: fc.Arbitrary<PlainRequest> = fc.record({
  method: fc.constantFrom('GET', 'PUT', 'HEAD', 'DELETE', 'POST'),
  name: text(60),
  query: fc.dictionary(text(10).filter((field) => field !== '__proto__'), text(20), { maxKeys: 4 }),
  headers: headers.map((others) => ({ ...others, 'x-amz-content-sha256': createHash('sha256').digest('hex') })),
});
const credentials: fc.Arbitrary<S3Credentials> = fc.record({ accessKeyId: text(20), secretAccessKey: text(40), sessionToken: text(80) }, { requiredKeys: ['accessKeyId', 'secretAccessKey'] });
const request = fc.oneof(read, any);
const someTime = fc.date({ min: new Date('2000-01-01'), max: new Date('2099-12-31'), noInvalidDate: true });
const time = fc.oneof(someTime, fc.constantFrom(0, 999, 1000).map((ms) => new Date(Date.UTC(2026, 0, 1) + ms)));
const place = fc.constantFrom({ region: 'us-east-1' }, { region: 'eu-north-1', endpoint: 'http://127.0.0.1:8333' }, { region: 'x', endpoint: 'https://s3.test', addressing: 'virtual-host' as const });

afterEach(() => void vi.useRealTimers());

it('signs as the SDK does, with keys and on days that change', async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  const step = fc.record({ request, credentials, time, isSameKeys: fc.boolean() });
  const property = fc.asyncProperty(place, fc.array(step, { minLength: 1, maxLength: 6 }), async (options, steps) => {
    const settings = checkOptions({ bucket: 'bucket', ...options });
    let keys: S3Credentials | undefined;
    const sign = signer(settings, async () => keys ?? { accessKeyId: '', secretAccessKey: '' });
    for (const { request, credentials, time, isSameKeys } of steps) {
      keys = isSameKeys && keys !== undefined ? keys : credentials;
      vi.setSystemTime(time);
      const { protocol, hostname, host } = settings.origin;
      const theirs = new SignatureV4({ service: 's3', region: settings.region, credentials: keys, sha256: Sha256, uriEscapePath: false, applyChecksum: false });
      const { method, name, query = {}, headers } = request;
      const path = `${settings.bucketPath}/${encodePath(name)}`;
      const signed = await theirs.sign({ method, protocol, hostname, path, query: { ...query }, headers: { ...headers, host } });
      expect((await sign(request)).headers).toEqual(signed.headers);
    }
  });
  await fc.assert(property, { numRuns: 500 });
});

it('sends the range beside what is signed', async () => {
  const sign = signer(checkOptions({ bucket: 'bucket' }), async () => ({ accessKeyId: 'id', secretAccessKey: 'secret' }));
  const { headers, range } = await sign({ method: 'GET', name: 'a', headers: NO_PAYLOAD, range: 'bytes=0-9' });
  expect(range).toBe('bytes=0-9');
  expect(headers).not.toHaveProperty('range');
  expect(headers.authorization).not.toContain('range');
});
