import type { CredentialSource } from './credentials.js';
import type { S3Settings } from './options.js';
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
  readonly body?: Uint8Array;
}

/** Signs a request with the credentials of the moment. */
export type Signer = (request: PlainRequest) => Promise<WireRequest>;

/** Signs for one bucket. */
export function signer({ origin, region, bucketPath }: S3Settings, credentials: CredentialSource): Signer {
  const { host } = origin;
  const authorize = authorizeFor(region);
  return async ({ method, name, query = {}, headers, body }) => {
    const keys = await credentials();
    const path = withQuery(`${bucketPath}/${encodePath(name)}`, query);
    const time = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
    const token = keys.sessionToken ? { 'x-amz-security-token': keys.sessionToken } : {};
    const signed = { ...headers, host, 'x-amz-date': time, ...token };
    const authorization = authorize({ method, path, headers: signed }, keys);
    return { method, path, headers: { ...signed, authorization }, ...(body === undefined ? {} : { body }) };
  };
}
