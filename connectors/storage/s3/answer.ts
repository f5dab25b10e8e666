// What an answer must be before it is believed. AWS SDK and HTTP clients take a short 200, an ignored range, a wrong Content-Range,
// a decoded body or an HTML page for data.
import type { ByteRange } from '../../../lib/store/connector.js';
import { failedAnswer, notS3, S3Failure, tooLarge } from './failure.js';
import { retryAfterMs } from './retry.js';
import type { Answer, AnswerHead } from './transport.js';

/** The header with a value's length as it was put: a copy that was cut short on its way to or in the storage is noticed. */
export const LENGTH_HEADER = 'x-amz-meta-kvreel-bytes';

/** Size in bytes of the whole value that a 200 or, for a range, 206 is about. Throws an S3Failure for an answer that is not believed. */
export function valueBytes(head: AnswerHead, range: ByteRange | undefined, maxValueBytes: number): number {
  const { status, headers } = head;
  if (status !== (range === undefined ? 200 : 206)) throw notS3(`has status ${status} to a request ${range === undefined ? 'without' : 'with'} a range`);
  if (!isPlain(headers['content-encoding'])) throw notS3('has a content-encoding');
  if (/html|xml/i.test(headers['content-type'] ?? '')) throw notS3(`is ${headers['content-type']} and no value`);
  if (typeof headers.etag !== 'string') throw notS3('has no ETag');
  const bodyBytes = wholeNumber(headers['content-length']);
  if (bodyBytes === undefined) throw notS3('does not say its length');
  const total = range === undefined ? bodyBytes : totalOfRange(headers['content-range'], range, bodyBytes);
  const putBytes = headers[LENGTH_HEADER];
  if (putBytes !== undefined && wholeNumber(putBytes) !== total) {
    throw new S3Failure('KV_CORRUPT_OBJECT', `the object has ${total} bytes and was put with ${String(putBytes)}; delete its key or put it again`);
  }
  if (total > maxValueBytes) throw tooLarge(total, maxValueBytes);
  return total;
}

/** The S3Failure for an answer that is no success. */
export function failureOf({ status, headers, body }: Answer): S3Failure {
  return failedAnswer(status, errorCode(body), retryAfterMs(headers['retry-after'], Date.now()));
}

/** What S3 names the failure in the XML of its answer; undefined if the body is none. The rest of the body may hold what was signed. */
export function errorCode(body: Uint8Array): string | undefined {
  const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('latin1');
  return /<Error(?:\s[^>]*)?>[^]*?<Code>([A-Za-z0-9.]{1,64})<\/Code>/.exec(text)?.[1];
}

/** Total size from `Content-Range: bytes <first>-<last>/<total>`, which must be the range asked for, cut at the end. */
function totalOfRange(header: unknown, { offset, length }: ByteRange, bodyBytes: number): number {
  const [, first, last, total] = typeof header === 'string' ? (/^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16})$/.exec(header) ?? []).map(Number) : [];
  if (first === undefined || last === undefined || total === undefined) throw notS3('has no Content-Range that says which bytes these are');
  const isAsked = first === offset && last === Math.min(offset + length, total) - 1;
  if (!isAsked || last < first || bodyBytes !== last - first + 1) throw notS3('is of another range than was asked for');
  return total;
}

function wholeNumber(header: unknown): number | undefined {
  return typeof header === 'string' && /^\d{1,15}$/.test(header) ? Number(header) : undefined;
}

function isPlain(encoding: unknown): boolean {
  return encoding === undefined || encoding === '' || encoding === 'identity';
}
