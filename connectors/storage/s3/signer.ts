import { createHash, createHmac, type BinaryLike, type Hash, type Hmac } from 'node:crypto';
import { SignatureV4 } from '@smithy/signature-v4';
import type { CredentialSource } from './credentials.js';
import type { S3Settings } from './options.js';
import type { WireRequest } from './transport.js';
import { encodePath, withQuery } from './uri.js';

/** A request before it is signed. */
export interface PlainRequest {
  readonly method: WireRequest['method'];
  /** Object name with the connector's prefix. */
  readonly name: string;
  readonly query?: Readonly<Record<string, string>>;
  /** Lower case, with `x-amz-content-sha256`. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
}

/** Signs a request with the credentials of the moment. */
export type Signer = (request: PlainRequest) => Promise<WireRequest>;

/** Signs for one bucket by AWS Signature Version 4. */
export function signer({ origin, region, bucketPath }: S3Settings, credentials: CredentialSource): Signer {
  const signature = new SignatureV4({ service: 's3', region, credentials, sha256: NodeSha256, uriEscapePath: false, applyChecksum: false });
  const { protocol, hostname, host } = origin;
  return async ({ method, name, query = {}, headers, body }) => {
    const path = `${bucketPath}/${encodePath(name)}`;
    const signed = await signature.sign({ method, protocol, hostname, path, query: { ...query }, headers: { ...headers, host } });
    return { method, path: withQuery(path, query), headers: signed.headers, ...(body === undefined ? {} : { body }) };
  };
}

/** The hash that the signer makes its steps with. */
class NodeSha256 {
  readonly #hash: Hash | Hmac;

  constructor(secret?: SourceData) {
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', secret as BinaryLike);
  }

  update(data: SourceData): void {
    this.#hash.update(data as BinaryLike);
  }

  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }
}

type SourceData = string | ArrayBuffer | ArrayBufferView;
