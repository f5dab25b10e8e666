// How the server learns whether a value arrived as it was sent. The checksum stands in a header of its own, because SeaweedFS does
// not look at the hash that the signature covers.
import { createHash } from 'node:crypto';
import * as zlib from 'node:zlib';

/** For requests without a body. */
export const NO_PAYLOAD = { 'x-amz-content-sha256': createHash('sha256').digest('hex') } as const;

/**
 * Headers by which the server checks `body` before it stores it. Over TLS a CRC-32 is enough, and costs a quarter of a SHA-256. In
 * the clear the signature covers the body's SHA-256, so that nobody between can put another value under it.
 */
export function payloadHeaders(body: Uint8Array, isEncrypted: boolean): Record<string, string> & { readonly 'x-amz-content-sha256': string } {
  // Node has zlib.crc32 since 20.15.
  if (!isEncrypted || !('crc32' in zlib)) return partHeaders(body);
  return { 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD', 'x-amz-checksum-crc32': crc32Base64(body) };
}

/** The same for a part of an upload, which is begun with one algorithm: always by SHA-256. */
export function partHeaders(body: Uint8Array): { readonly 'x-amz-content-sha256': string; readonly [CHECKSUM_HEADER]: string } {
  const digest = createHash('sha256').update(body).digest();
  return { 'x-amz-content-sha256': digest.toString('hex'), [CHECKSUM_HEADER]: digest.toString('base64') };
}

/** Carries a part's SHA-256 in base64, which is to be named again when the parts are published. */
export const CHECKSUM_HEADER = 'x-amz-checksum-sha256';

function crc32Base64(body: Uint8Array): string {
  const crc = Buffer.alloc(4);
  crc.writeUInt32BE(zlib.crc32(body));
  return crc.toString('base64');
}
