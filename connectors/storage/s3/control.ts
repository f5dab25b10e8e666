// What the AWS SDK does: credentials, listing, and the frame around an upload in parts. It is loaded when one of these is needed
// first. Its requests take the way of all others, so that one place keeps to the server, its certificates and the time limit.
import type * as sdk from '@aws-sdk/client-s3';
import { abortable } from '../abortable.js';
import { failureOf, LENGTH_HEADER } from './answer.js';
import { failedAnswer, notS3, S3Failure } from './failure.js';
import type { S3Credentials, S3Settings } from './options.js';
import { collect } from './sink.js';
import type { Transport, WireRequest } from './transport.js';
import { withQuery } from './uri.js';

/** An object, as the server lists it. */
export interface ListedObject {
  readonly name: string;
  readonly bytes: number;
  readonly storedAtMs: number;
}

/** An upload in parts that was begun and not ended. */
export interface OpenUpload {
  readonly name: string;
  readonly uploadId: string;
  readonly begunAtMs: number;
}

/** What is to be said of a part when the parts are published. */
export interface UploadedPart {
  readonly etag: string;
  /** In base64. */
  readonly sha256: string;
}

/** One page of a listing, and where the next one starts. */
export interface Page<Item, Place> {
  readonly items: readonly Item[];
  readonly next: Place | undefined;
}

/** Where a page of uploads starts. */
export interface UploadPlace {
  readonly keyMarker: string;
  readonly uploadIdMarker: string;
}

/** Control of one bucket. All reject with S3Failure or the signal's reason. */
export interface Control {
  list(prefix: string, from: string | undefined, signal: AbortSignal | undefined): Promise<Page<ListedObject, string>>;
  listUploads(prefix: string, from: UploadPlace | undefined, signal: AbortSignal | undefined): Promise<Page<OpenUpload, UploadPlace>>;
  /** What the first 1,000 parts of an upload take. */
  uploadBytes(name: string, uploadId: string, signal: AbortSignal | undefined): Promise<number>;
  /** Begins an upload in parts of a value of `bytes` bytes; gives its id. */
  beginUpload(name: string, bytes: number, signal: AbortSignal | undefined): Promise<string>;
  /** Publishes the parts, given in order. */
  finishUpload(name: string, uploadId: string, parts: readonly UploadedPart[], signal: AbortSignal | undefined): Promise<void>;
  /** Forgets an upload and its parts; one that is gone is no failure. */
  dropUpload(name: string, uploadId: string, signal: AbortSignal | undefined): Promise<void>;
  /** Credentials from the SDK's chain, which keeps them until shortly before their end. */
  readonly chain: () => Promise<S3Credentials>;
  close(): Promise<void>;
}

/** A page of 1,000 names of 1,024 bytes, every one of them encoded, with what stands around each. */
const PAGE_BYTES = 8 << 20;

/** `credentials` are those of the options, or of `chain`. */
export function control(settings: S3Settings, { exchange }: Transport, credentials: () => Promise<S3Credentials>): Control {
  const { bucket: Bucket, endpoint, origin, region, isPathStyle } = settings;
  let loaded: Promise<{ readonly client: sdk.S3Client; readonly commands: typeof sdk }> | undefined;

  async function load(): Promise<{ readonly client: sdk.S3Client; readonly commands: typeof sdk }> {
    const commands = await import('@aws-sdk/client-s3');
    const client = new commands.S3Client({
      endpoint: endpoint.origin,
      region,
      forcePathStyle: isPathStyle,
      maxAttempts: 1,
      requestHandler: { metadata: { handlerProtocol: 'http/1.1' }, handle },
      ...(settings.credentials === undefined ? {} : { credentials }), // else the chain that it has by itself
    });
    return { client, commands };
  }

  async function handle(request: SdkRequest, options: { abortSignal?: unknown } = {}): Promise<{ response: SdkResponse }> {
    const asked = `${request.protocol}//${request.hostname}${request.port === undefined ? '' : `:${request.port}`}`;
    if (new URL(asked).origin !== origin.origin) throw notS3('sends the SDK to another host');
    const signal = options.abortSignal instanceof AbortSignal ? options.abortSignal : undefined;
    const wire: WireRequest = {
      method: request.method as WireRequest['method'],
      path: withQuery(request.path, request.query ?? {}),
      headers: request.headers,
      ...(request.body === undefined || request.body === null ? {} : { body: Buffer.from(request.body) }),
    };
    const answer = await exchange(wire, () => collect(PAGE_BYTES), signal);
    if (answer.status < 200 || answer.status >= 300) throw failureOf(answer);
    const headers = Object.fromEntries(Object.entries(answer.headers).map(([name, value]) => [name, String(value)]));
    return { response: { statusCode: answer.status, headers, body: answer.body } };
  }

  async function run<T>(work: (client: sdk.S3Client, commands: typeof sdk) => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const sent = async (): Promise<T> => {
      const { client, commands } = await (loaded ??= load());
      // Asked for before the SDK does, which would tell a failure as one of the server.
      await credentials();
      signal?.throwIfAborted();
      return work(client, commands);
    };
    try {
      return await abortable(sent(), signal); // credentials may never come
    } catch (cause) {
      signal?.throwIfAborted();
      throw withoutSecrets(cause);
    }
  }

  return {
    chain: async () => (await (loaded ??= load())).client.config.credentials(),

    list: (Prefix, from, signal) =>
      run(async (client, { ListObjectsV2Command }) => {
        const page = await client.send(new ListObjectsV2Command({ Bucket, Prefix, EncodingType: 'url', ...(from === undefined ? {} : { ContinuationToken: from }) }), abortBy(signal));
        const items = (page.Contents ?? []).map(({ Key, Size, LastModified }) => {
          if (Key === undefined) throw notS3('lists an object without a name');
          return { name: plainName(Key, page.EncodingType), bytes: listedBytes(Size), storedAtMs: listedMs(LastModified) };
        });
        return { items, next: nextPlace(page.IsTruncated, page.NextContinuationToken, from) };
      }, signal),

    listUploads: (Prefix, from, signal) =>
      run(async (client, { ListMultipartUploadsCommand }) => {
        const place = from === undefined ? {} : { KeyMarker: from.keyMarker, UploadIdMarker: from.uploadIdMarker };
        const page = await client.send(new ListMultipartUploadsCommand({ Bucket, Prefix, EncodingType: 'url', ...place }), abortBy(signal));
        const items = (page.Uploads ?? []).map(({ Key, UploadId, Initiated }) => {
          if (Key === undefined || UploadId === undefined) throw notS3('lists an upload without name or id');
          return { name: plainName(Key, page.EncodingType), uploadId: UploadId, begunAtMs: listedMs(Initiated) };
        });
        const { NextKeyMarker: keyMarker, NextUploadIdMarker: uploadIdMarker = '' } = page;
        return { items, next: nextPlace(page.IsTruncated, keyMarker === undefined ? undefined : { keyMarker, uploadIdMarker }, from) };
      }, signal),

    uploadBytes: (Key, UploadId, signal) =>
      run(async (client, { ListPartsCommand }) => {
        try {
          const { Parts = [] } = await client.send(new ListPartsCommand({ Bucket, Key, UploadId }), abortBy(signal));
          return Parts.reduce((sum, { Size }) => sum + listedBytes(Size), 0);
        } catch (cause) {
          return whenGone(cause, 0);
        }
      }, signal),

    beginUpload: (Key, bytes, signal) =>
      run(async (client, { CreateMultipartUploadCommand }) => {
        const Metadata = { [LENGTH_HEADER.replace('x-amz-meta-', '')]: String(bytes) };
        const begin = new CreateMultipartUploadCommand({ Bucket, Key, Metadata, ContentType: 'application/octet-stream', ChecksumAlgorithm: 'SHA256' });
        const { UploadId } = await client.send(begin, abortBy(signal));
        if (UploadId === undefined || UploadId === '') throw notS3('has no UploadId');
        return UploadId;
      }, signal),

    finishUpload: (Key, UploadId, parts, signal) =>
      run(async (client, { CompleteMultipartUploadCommand }) => {
        const Parts = parts.map(({ etag: ETag, sha256: ChecksumSHA256 }, i) => ({ ETag, ChecksumSHA256, PartNumber: i + 1 }));
        const { ETag } = await client.send(new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload: { Parts } }), abortBy(signal));
        if (ETag === undefined) throw notS3('has no ETag');
      }, signal),

    dropUpload: (Key, UploadId, signal) =>
      run(async (client, { AbortMultipartUploadCommand }) => {
        try {
          await client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }), abortBy(signal));
        } catch (cause) {
          whenGone(cause, undefined);
        }
      }, signal),

    async close() {
      const opened = await loaded?.catch(() => undefined);
      opened?.client.destroy();
    },
  };
}

/** The parts of the SDK's request that are sent. */
interface SdkRequest {
  readonly method: string;
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number;
  readonly path: string;
  readonly query?: Record<string, string | string[] | null>;
  readonly headers: Record<string, string>;
  readonly body?: string | Uint8Array | null;
}

interface SdkResponse {
  readonly statusCode: number;
  readonly headers: Record<string, string>;
  readonly body: Uint8Array;
}

function abortBy(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}

/** The SDK gives NaN for a size that is no number, and what is a fraction or below 0 as it is. */
function listedBytes(size = NaN): number {
  if (!Number.isSafeInteger(size) || size < 0) throw notS3('lists a size that is no whole number from 0');
  return size;
}

/** Milliseconds since 1970. */
function listedMs(time: Date | undefined): number {
  const ms = time?.getTime() ?? NaN;
  if (Number.isNaN(ms)) throw notS3('lists a time that is none');
  return ms;
}

/** A page that neither ends nor leads on would be read for ever. */
function nextPlace<Place>(isTruncated: boolean | undefined, next: Place | undefined, from: Place | undefined): Place | undefined {
  if (isTruncated === undefined) throw notS3('is no listing');
  if (!isTruncated) return undefined;
  if (next === undefined || JSON.stringify(next) === JSON.stringify(from)) throw notS3('is a page that does not say where the next one starts');
  return next;
}

/** `value` if somebody else ended the upload meanwhile. */
function whenGone<T>(cause: unknown, value: T): T {
  if (cause instanceof S3Failure && cause.errorCode === 'NoSuchUpload') return value;
  throw cause;
}

/** Names are asked for as in URLs, because XML cannot carry all that others may have put there; not every server does so. */
function plainName(name: string, encoding: string | undefined): string {
  if (encoding !== 'url') return name;
  try {
    return decodeURIComponent(name.replaceAll('+', ' '));
  } catch {
    throw notS3('lists a name that is not encoded as it says');
  }
}

/** An error of the SDK holds what the server sent, and that may be what was signed. */
function withoutSecrets(cause: unknown): unknown {
  if (cause instanceof S3Failure) return cause;
  const { name, $fault, $metadata } = cause as { name?: unknown; $fault?: unknown; $metadata?: { httpStatusCode?: number } };
  // What is no failure of the server is one of the SDK, over an answer that it cannot read.
  if ($fault === undefined || typeof name !== 'string' || !/^[A-Za-z0-9]{1,64}$/.test(name)) return notS3('cannot be read');
  const status = $metadata?.httpStatusCode ?? 500;
  return failedAnswer(status < 300 ? 500 : status, name);
}
