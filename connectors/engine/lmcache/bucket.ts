import { Buffer } from 'node:buffer';
import { GetObjectCommand, ListObjectsV2Command, PutObjectCommand, S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { KvError } from '../../../lib/errors.js';
import { MAX_OBJECT_BYTES, type Place } from './place.js';

const CONNECT_LIMIT_MS = 5_000;
const ANSWER_LIMIT_MS = 60_000;

/** Which bucket, and where. Credentials come from where the AWS SDK looks for them. */
export interface BucketOptions {
  readonly bucket: string;
  /** URL of the service; then buckets are named in the path. Default: AWS. */
  readonly endpoint?: string;
  /** Default: what the AWS SDK finds; us-east-1 with an endpoint. */
  readonly region?: string;
}

/** The objects of a bucket. LMCache keeps them at its top, so there is no prefix. */
export function bucketObjects({ bucket, endpoint, region }: BucketOptions): Place {
  const config: S3ClientConfig = {
    ...(endpoint !== undefined && { endpoint, forcePathStyle: true, region: 'us-east-1' }),
    ...(region !== undefined && { region }),
    requestHandler: { connectionTimeout: CONNECT_LIMIT_MS, requestTimeout: ANSWER_LIMIT_MS },
    // LMCache's own checks nothing either, and not every server knows the newer ones.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  };
  const client = new S3Client(config);
  const label = `s3://${bucket}`;

  const ask = async <T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (cause) {
      signal?.throwIfAborted();
      throw toKvError(cause, label);
    }
  };
  const callOf = (signal: AbortSignal | undefined): { abortSignal?: AbortSignal } => (signal ? { abortSignal: signal } : {});

  return {
    label,

    async *list({ signal }) {
      let token: string | undefined;
      do {
        const command = new ListObjectsV2Command({ Bucket: bucket, ...(token !== undefined && { ContinuationToken: token }) });
        const page = await ask(signal, () => client.send(command, callOf(signal)));
        for (const { Key } of page.Contents ?? []) if (Key !== undefined) yield Key;
        token = page.NextContinuationToken;
      } while (token !== undefined);
    },

    get: (name, { signal }) =>
      ask(signal, async () => {
        const { Body, ContentLength = 0 } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: name }), callOf(signal)).catch(unlessMissing);
        if (Body === undefined) return undefined;
        if (ContentLength > MAX_OBJECT_BYTES) throw new KvError('KV_UNSUPPORTED', `it has ${ContentLength} bytes, more than LMCache stores in one object`);
        return Body.transformToByteArray();
      }),

    async put(name, pieces, { signal }) {
      const [first] = pieces;
      const body = pieces.length === 1 && first !== undefined ? first : Buffer.concat(pieces);
      // As LMCache's connector sends it.
      const command = new PutObjectCommand({ Bucket: bucket, Key: name, Body: body, ContentType: 'application/octet-stream' });
      await ask(signal, () => client.send(command, callOf(signal)));
    },

    async close() {
      client.destroy();
    },
  };
}

function unlessMissing(cause: unknown): { Body?: undefined; ContentLength?: undefined } {
  if (cause instanceof Error && cause.name === 'NoSuchKey') return {};
  throw cause;
}

function toKvError(cause: unknown, label: string): unknown {
  if (!(cause instanceof Error) || cause instanceof KvError) return cause;
  const status = '$metadata' in cause ? (cause.$metadata as { httpStatusCode?: number }).httpStatusCode : undefined;
  if (cause.name === 'TimeoutError') return new KvError('KV_CONNECTOR_TIMEOUT', `${label} did not answer within ${ANSWER_LIMIT_MS} ms`, { cause });
  if (status !== undefined && status < 500) return new KvError('KV_CONNECTOR_REFUSED', `${label} refused (${cause.name}, ${status}); check bucket, credentials and region`, { cause });
  if (cause.name === 'CredentialsProviderError') return new KvError('KV_CONNECTOR_REFUSED', 'no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile', { cause });
  return new KvError('KV_CONNECTOR_UNAVAILABLE', `${label} cannot be reached; check endpoint and server`, { cause });
}
