// What an S3 server answers: the head of an answer to GET, the page of an error, the page of a listing. An input is the status, then header
// lines, an empty line and the body; the status of a listing is 299.
import { failureOf, valueBytes } from '../../../connectors/storage/s3/answer.js';
import { control } from '../../../connectors/storage/s3/control.js';
import { S3Failure } from '../../../connectors/storage/s3/failure.js';
import { checkOptions } from '../../../connectors/storage/s3/options.js';
import type { Answer } from '../../../connectors/storage/s3/transport.js';
import { expectThat, type FuzzTarget } from '../target.js';

const MAX_VALUE_BYTES = 1 << 30;
const RANGE = { offset: 100, length: 50 };
const LISTING = 299;

const answer = (status: number, headers: readonly string[], body = ''): Uint8Array => Buffer.from([status, ...headers, '', body].join('\n'));
const xml = (root: string, inside: string): string => `<?xml version="1.0" encoding="UTF-8"?>\n<${root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${inside}</${root}>`;
const listed = (key: string, size: number): string => `<Contents><Key>${key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>${size}</Size><StorageClass>STANDARD</StorageClass></Contents>`;

export const s3: FuzzTarget = {
  name: 's3',

  seeds: () => ({
    whole: answer(200, ['content-length: 5000', 'etag: "abc"', 'content-type: application/octet-stream', 'x-amz-meta-kvreel-bytes: 5000']),
    part: answer(206, ['content-length: 50', 'content-range: bytes 100-149/5000', 'etag: "abc"', 'x-amz-meta-kvreel-bytes: 5000']),
    'short-part': answer(206, ['content-length: 20', 'content-range: bytes 100-119/120', 'etag: "abc"']),
    missing: answer(404, ['content-type: application/xml'], xml('Error', '<Code>NoSuchKey</Code><Message>gone</Message><Key>k</Key>')),
    busy: answer(503, ['retry-after: 3'], xml('Error', '<Code>SlowDown</Code>')),
    page: answer(200, ['content-type: text/html'], '<html>no bucket</html>'),
    listing: answer(LISTING, ['content-type: application/xml'], xml('ListBucketResult', `<Name>bucket</Name><Prefix></Prefix><KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>next</NextContinuationToken>${listed('chunks%2Fab', 10)}${listed('runs/cd', 0)}`)),
    empty: answer(LISTING, [], xml('ListBucketResult', '<Name>bucket</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated>')),
  }),

  async meet(input) {
    const parsed = parse(input);
    try {
      return parsed.status === LISTING ? await meetListing({ ...parsed, status: 200 }) : meetAnswer(parsed);
    } catch (error) {
      if (!(error instanceof S3Failure)) throw error;
      return error.code;
    }
  },
};

function meetAnswer(parsed: Answer): string {
  const { status } = parsed;
  if (status !== 200 && status !== 206) return failureOf(parsed).code;
  const total = valueBytes(parsed, status === 206 ? RANGE : undefined, MAX_VALUE_BYTES);
  expectThat(Number.isSafeInteger(total) && total >= 0 && total <= MAX_VALUE_BYTES, 'the size of a value is one');
  return 'accepted';
}

async function meetListing(parsed: Answer): Promise<string> {
  const settings = checkOptions({ bucket: 'bucket', endpoint: 'http://127.0.0.1:1', credentials: { accessKeyId: 'a', secretAccessKey: 'b' } });
  const exchange = { exchange: async () => parsed, close: async () => undefined };
  const listing = control(settings, exchange, async () => ({ accessKeyId: 'a', secretAccessKey: 'b' }));
  try {
    const { items } = await listing.list('', undefined, undefined);
    for (const { name, bytes, storedAtMs } of items) {
      expectThat(typeof name === 'string' && Number.isSafeInteger(bytes) && bytes >= 0 && Number.isFinite(storedAtMs), 'a listed object has a name, a size and a time');
    }
    return 'accepted';
  } finally {
    await listing.close();
  }
}

function parse(input: Uint8Array): Answer {
  const text = Buffer.from(input.buffer, input.byteOffset, input.byteLength).toString('latin1');
  const end = text.includes('\n\n') ? text.indexOf('\n\n') : text.length;
  const [first = '', ...lines] = text.slice(0, end).split('\n');
  const headers = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]));
  return { status: Number.parseInt(first, 10) || 0, headers, body: input.subarray(end + 2) };
}
