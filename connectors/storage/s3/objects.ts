// Objects over signed requests of our own: the way of the bytes, and of what must be quick.
import type { ByteRange, GetOptions } from '../../../lib/store/connector.js';
import { placeRead } from '../arguments.js';
import { errorCode, failureOf, LENGTH_HEADER, valueBytes } from './answer.js';
import type { UploadedPart } from './control.js';
import { notS3 } from './failure.js';
import type { S3Settings } from './options.js';
import { CHECKSUM_HEADER, NO_PAYLOAD, partHeaders, payloadHeaders } from './payload.js';
import type { PlainRequest, Signer } from './signer.js';
import { collectStart, Fill, type Sink } from './sink.js';
import type { Answer, Receive, Transport } from './transport.js';

/** Where one part of a value goes. */
export interface PartPlace {
  readonly uploadId: string;
  /** From 1. */
  readonly partNumber: number;
}

/** Verbs on objects of one bucket, each one request or two. They reject with S3Failure, a RangeError (`into`) or the signal's reason. */
export interface Objects {
  /** Undefined if there is none. */
  get(name: string, options: GetOptions, signal: AbortSignal | undefined): Promise<Uint8Array | undefined>;
  put(name: string, value: Uint8Array, signal: AbortSignal | undefined): Promise<void>;
  putPart(name: string, part: PartPlace, bytes: Uint8Array, signal: AbortSignal | undefined): Promise<UploadedPart>;
  /** Size in bytes, undefined if there is none. */
  size(name: string, signal: AbortSignal | undefined): Promise<number | undefined>;
  delete(name: string, signal: AbortSignal | undefined): Promise<void>;
}

const ERROR_TEXT_BYTES = 64 << 10;

/** GETs, values that are put, and all else have connections of their own, so none of them waits for another kind. */
export interface Ways {
  readonly gets: Transport;
  readonly puts: Transport;
  readonly others: Transport;
}

/** Verbs on the bucket of the settings. */
export function objects(settings: S3Settings, sign: Signer, ways: Ways): Objects {
  const { maxValueBytes, origin } = settings;
  const isEncrypted = origin.protocol === 'https:';
  let isBucketSeen = false;

  async function send(request: PlainRequest, receive: Receive, signal: AbortSignal | undefined): Promise<Answer> {
    const { exchange } = ways[request.method === 'GET' ? 'gets' : request.method === 'PUT' ? 'puts' : 'others'];
    return exchange(await sign(request, signal), receive, signal);
  }

  /** Whether the answer says that there is no such object, but a bucket. */
  function isMiss({ status, body }: Answer): boolean {
    if (status !== 404 || errorCode(body) !== 'NoSuchKey') return false;
    return (isBucketSeen = true);
  }

  async function size(name: string, signal: AbortSignal | undefined): Promise<number | undefined> {
    let total = 0;
    const receive: Receive = (head) => {
      if (head.status === 200) total = valueBytes(head, undefined, Infinity);
      return collectStart(ERROR_TEXT_BYTES);
    };
    const answer = await send({ method: 'HEAD', name, headers: NO_PAYLOAD }, receive, signal);
    if (answer.status === 200) {
      isBucketSeen = true;
      return total;
    }
    if (answer.status === 404 && isBucketSeen) return undefined;
    // An answer to HEAD has no body, so it cannot say why: no such key, no such bucket, a clock that is wrong. GET can.
    if (answer.status < 500) return explain(name, signal);
    throw failureOf(answer);
  }

  async function explain(name: string, signal: AbortSignal | undefined): Promise<number | undefined> {
    const range = { offset: 0, length: 1 };
    let total = 0;
    const answer = await send(rangeRequest(name, range), (head) => {
      if (head.status !== 206) return collectStart(ERROR_TEXT_BYTES);
      total = valueBytes(head, range, Infinity);
      return new Fill(new Uint8Array(1));
    }, signal);
    if (answer.status === 206) return total; // put in this moment
    if (isMiss(answer)) return undefined;
    throw failureOf(answer);
  }

  return {
    size,

    async get(name, options, signal) {
      const { range } = options;
      if (range?.length === 0) return (await size(name, signal)) === undefined ? undefined : placeRead(0, options).target;
      const isData = (status: number): boolean => status >= 200 && status < 300;
      const receive = (head: Parameters<Receive>[0]): Sink => {
        if (!isData(head.status)) return collectStart(ERROR_TEXT_BYTES);
        const total = valueBytes(head, range, maxValueBytes);
        return new Fill(placeRead(total, options).target);
      };
      const request = range === undefined ? { method: 'GET' as const, name, headers: NO_PAYLOAD } : rangeRequest(name, range);
      const answer = await send(request, receive, signal);
      if (isData(answer.status)) {
        isBucketSeen = true;
        return answer.body;
      }
      if (isMiss(answer)) return undefined;
      if (answer.status !== 416 || range === undefined) throw failureOf(answer);
      // It may be missing by now, and a server that is wrong about its own objects is not believed.
      const total = await size(name, signal);
      if (total === undefined) return undefined;
      if (total > range.offset) throw notS3('refuses a range that the object has');
      return placeRead(0, options).target;
    },

    async put(name, value, signal) {
      const headers = { ...payloadHeaders(value, isEncrypted), 'content-type': 'application/octet-stream', [LENGTH_HEADER]: String(value.byteLength) };
      await sendBytes({ method: 'PUT', name, headers, body: value }, signal);
    },

    async putPart(name, { uploadId, partNumber }, bytes, signal) {
      const headers = partHeaders(bytes);
      const etag = await sendBytes({ method: 'PUT', name, query: { partNumber: String(partNumber), uploadId }, headers, body: bytes }, signal);
      return { etag, sha256: headers[CHECKSUM_HEADER] };
    },

    async delete(name, signal) {
      const answer = await send({ method: 'DELETE', name, headers: NO_PAYLOAD }, () => collectStart(ERROR_TEXT_BYTES), signal);
      if (answer.status !== 204 && answer.status !== 200 && !isMiss(answer)) throw failureOf(answer);
    },
  };

  /** Gives the ETag, without which no S3 has stored anything. */
  async function sendBytes(request: PlainRequest, signal: AbortSignal | undefined): Promise<string> {
    const answer = await send(request, () => collectStart(ERROR_TEXT_BYTES), signal);
    const { etag } = answer.headers;
    if (answer.status !== 200) throw failureOf(answer);
    if (typeof etag !== 'string' || etag === '') throw notS3('has no ETag');
    isBucketSeen = true;
    return etag;
  }
}

function rangeRequest(name: string, { offset, length }: ByteRange): PlainRequest {
  const last = Math.min(offset + length - 1, Number.MAX_SAFE_INTEGER);
  return { method: 'GET', name, headers: NO_PAYLOAD, range: `bytes=${offset}-${last}` };
}
