// AWS Signature Version 4 in a header, for S3, of requests whose headers say the hash of their body. The SDK's signer gives the same
// (test/connectors/s3-signature.test.ts) and takes more than twice the processor time: `npm run bench -- connectors`, gets of 1 MiB.
import { createHash, createHmac } from 'node:crypto';
import type { S3Credentials } from './options.js';

/** What a signature covers. */
export interface SignedRequest {
  readonly method: string;
  /** Path and query as they are sent: encoded, each parameter with a `=`. */
  readonly path: string;
  /** In lower case, all that are signed. */
  readonly headers: Readonly<Record<string, string>> & { readonly 'x-amz-date': string; readonly 'x-amz-content-sha256': string };
}

/** Gives the `authorization` header of a request. */
export type Authorize = (request: SignedRequest, credentials: S3Credentials) => string;

const ALGORITHM = 'AWS4-HMAC-SHA256';

/** Signs for one region. */
export function authorizeFor(region: string): Authorize {
  const keyOf = keptKey(region);
  return ({ method, path, headers }, { accessKeyId, secretAccessKey }) => {
    const time = headers['x-amz-date'];
    const day = time.slice(0, 8);
    const scope = `${day}/${region}/s3/aws4_request`;
    const names = Object.keys(headers).sort();
    const signed = names.join(';');
    const lines = names.map((name) => `${name}:${oneSpaced(headers[name] ?? '')}\n`).join('');
    const [place, query = ''] = path.split('?');
    const request = `${method}\n${place}\n${inOrder(query)}\n${lines}\n${signed}\n${headers['x-amz-content-sha256']}`;
    const digest = createHash('sha256').update(request).digest('hex');
    const signature = hmac(keyOf(secretAccessKey, day), `${ALGORITHM}\n${time}\n${scope}\n${digest}`).toString('hex');
    return `${ALGORITHM} Credential=${accessKeyId}/${scope}, SignedHeaders=${signed}, Signature=${signature}`;
  };
}

/** The key that signs on one day, kept until the day or the secret is another. */
function keptKey(region: string): (secret: string, day: string) => Buffer {
  let kept: { readonly secret: string; readonly day: string; readonly key: Buffer } | undefined;
  return (secret, day) => {
    if (kept?.secret !== secret || kept.day !== day) {
      const key = [region, 's3', 'aws4_request'].reduce(hmac, hmac(`AWS4${secret}`, day));
      kept = { secret, day, key };
    }
    return kept.key;
  };
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

/** Parameters in the order of their names. */
function inOrder(query: string): string {
  const named = query.split('&').map((parameter) => ({ parameter, name: parameter.slice(0, parameter.indexOf('=')) }));
  return named.sort((a, b) => (a.name < b.name ? -1 : 1)).map(({ parameter }) => parameter).join('&');
}

function oneSpaced(value: string): string {
  return value.trim().replace(/ +/g, ' ');
}
