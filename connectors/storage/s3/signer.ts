import type { CredentialSource } from './credentials.js';
import type { S3Credentials, S3Settings } from './options.js';
import { NO_PAYLOAD } from './payload.js';
import { authorizeFor } from './signature.js';
import type { WireRequest } from './transport.js';
import { encodePath, withQuery } from './uri.js';

/** A request before it is signed. */
export interface PlainRequest {
  readonly method: WireRequest['method'];
  /** Object name with the connector's prefix. */
  readonly name: string;
  readonly query?: Readonly<Record<string, string>>;
  /** In lower case. */
  readonly headers: Readonly<Record<string, string>> & { readonly 'x-amz-content-sha256': string };
  /**
   * Value of the `range` header. It is not signed (S3 wants that of `host` and `x-amz-*` alone), so that the sections of an object
   * that are read in one second have one signature.
   */
  readonly range?: string;
  readonly body?: Uint8Array;
}

/** Signs a request with the credentials of the moment. Rejects with the signal's reason when they do not come before. */
export type Signer = (request: PlainRequest, signal?: AbortSignal) => Promise<WireRequest>;

/** Signed requests of the second that runs, with the same credentials. */
interface Kept {
  readonly second: number;
  readonly keys: S3Credentials;
  readonly requests: Map<string, WireRequest>;
}

const MAX_KEPT = 256;

/** Signs for one bucket. */
export function signer({ origin, region, bucketPath }: S3Settings, credentials: CredentialSource): Signer {
  const { host } = origin;
  const authorize = authorizeFor(region);

  function sign({ method, name, query = {}, headers, body }: PlainRequest, keys: S3Credentials): WireRequest {
    const path = withQuery(`${bucketPath}/${encodePath(name)}`, query);
    const time = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
    const token = keys.sessionToken ? { 'x-amz-security-token': keys.sessionToken } : {};
    const signed = { ...headers, host, 'x-amz-date': time, ...token };
    const authorization = authorize({ method, path, headers: signed }, keys);
    return { method, path, headers: { ...signed, authorization }, ...(body === undefined ? {} : { body }) };
  }

  let kept: Kept | undefined;
  /** A signature says the second it was made in and nothing finer. */
  function signedNow(request: PlainRequest, keys: S3Credentials): WireRequest {
    if (request.headers !== NO_PAYLOAD || request.query !== undefined) return sign(request, keys);
    const second = Math.floor(Date.now() / 1000);
    if (kept?.second !== second || kept.keys !== keys) kept = { second, keys, requests: new Map() };
    const what = `${request.method} ${request.name}`;
    const before = kept.requests.get(what);
    if (before !== undefined) return before;
    const signed = sign(request, keys);
    if (kept.requests.size < MAX_KEPT) kept.requests.set(what, signed);
    return signed;
  }

  return async (request, signal) => {
    const signed = signedNow(request, await credentials(signal));
    return request.range === undefined ? signed : { ...signed, range: request.range };
  };
}
