import { isIP } from 'node:net';
import { checkLimit } from '../../../lib/store/time-limit.js';
import { checkFields } from '../arguments.js';
import { isOrdinaryName } from './object-name.js';

/** Keys that sign requests; the last two only for temporary ones. */
export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  /** When they end. They are asked for again five minutes before. */
  readonly expiration?: Date;
}

export interface S3Options {
  /** The bucket, which must exist. */
  readonly bucket: string;
  /** What object names start with: segments joined by `/`, 200 bytes at most. Default: nothing, and the bucket is for this store alone. */
  readonly prefix?: string;
  /** The server: `http:` or `https:`, a host and perhaps a port, nothing else. Default: AWS in `region`. */
  readonly endpoint?: string;
  /** Region that requests are signed for. Default `us-east-1`, which servers other than AWS expect. */
  readonly region?: string;
  /** Whether the bucket stands in the path or before the host's name. Default: `path` with an endpoint, `virtual-host` with AWS. */
  readonly addressing?: 'path' | 'virtual-host';
  /** Keys, or a function that gives them anew when they end. Default: the AWS SDK's chain (environment, files, web identity, instance). */
  readonly credentials?: S3Credentials | (() => Promise<S3Credentials>);
  /** Certificates beside those that Node trusts: `ca` for the server's, `cert` and `key` for a client's own; PEM texts. */
  readonly tls?: { readonly ca?: string | readonly string[]; readonly cert?: string; readonly key?: string };
  /** Milliseconds that a call may take, retries included; it then rejects with KV_CONNECTOR_TIMEOUT. Default 30,000. */
  readonly timeoutMs?: number;
  /** Largest value taken or given, in bytes. Default 1 GiB, at most 4 GiB. */
  readonly maxValueBytes?: number;
  /** Values above this many bytes go in parts of this size. Default 64 MiB; S3 allows 5 MiB to 5 GiB and 10,000 parts. */
  readonly partBytes?: number;
  /** Most connections at once for gets, as many for puts, and as many for all else; further calls wait. Default 32. */
  readonly maxConnections?: number;
}

/** Options after the check. */
export interface S3Settings {
  readonly bucket: string;
  /** Empty, or ends in `/`. */
  readonly prefix: string;
  /** The server without the bucket, as the SDK wants it. */
  readonly endpoint: URL;
  /** Scheme, host and port that requests go to. */
  readonly origin: URL;
  /** `/bucket` or empty. */
  readonly bucketPath: string;
  readonly isPathStyle: boolean;
  readonly region: string;
  readonly credentials: S3Options['credentials'];
  /** As Node's TLS takes it. */
  readonly tls: { readonly ca?: string[]; readonly cert?: string; readonly key?: string };
  readonly timeoutMs: number;
  readonly maxValueBytes: number;
  readonly partBytes: number;
  readonly maxConnections: number;
}

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const FIELDS = ['bucket', 'prefix', 'endpoint', 'region', 'addressing', 'credentials', 'tls', 'timeoutMs', 'maxValueBytes', 'partBytes', 'maxConnections'];

/** Throws a TypeError or RangeError for options that cannot be meant. Never says a secret. */
export function checkOptions(options: S3Options): S3Settings {
  checkFields(options, FIELDS);
  const { bucket, prefix = '', region = 'us-east-1', credentials, tls = {}, timeoutMs = 30_000 } = options;
  const { maxValueBytes = GIB, partBytes = 64 * MIB, maxConnections = 32 } = options;
  if (typeof bucket !== 'string' || !/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket) || bucket.includes('..') || isIP(bucket) !== 0) {
    throw new TypeError(`expected \`bucket\` to be a bucket's name (3 to 63 of a-z, 0-9, dot and dash), got ${JSON.stringify(bucket)}`);
  }
  checkPrefixOption(prefix);
  if (typeof region !== 'string' || !/^[A-Za-z0-9-]{1,64}$/.test(region)) throw new TypeError(`expected \`region\` to be a region's name, got ${JSON.stringify(region)}`);
  checkCredentials(credentials);
  checkTls(tls);
  checkLimit('timeoutMs', timeoutMs);
  checkWhole('maxValueBytes', maxValueBytes, 1, 4 * GIB);
  checkWhole('partBytes', partBytes, 5 * MIB, 5 * GIB);
  checkWhole('maxConnections', maxConnections, 1, 1024);

  const endpoint = checkEndpoint(options.endpoint ?? `https://s3.${region}.amazonaws.com`);
  const isPathStyle = checkAddressing(options);
  if (!isPathStyle && isIP(endpoint.hostname.replace(/^\[|\]$/g, '')) !== 0) throw new TypeError('expected an `endpoint` with a name for `addressing` virtual-host, got an address; use path');
  const origin = new URL(isPathStyle ? endpoint : `${endpoint.protocol}//${bucket}.${endpoint.host}`);
  const { ca, ...ownCertificate } = tls;
  const cleanPrefix = prefix.replace(/\/$/, '');
  return {
    bucket,
    prefix: cleanPrefix === '' ? '' : `${cleanPrefix}/`,
    endpoint,
    origin,
    bucketPath: isPathStyle ? `/${bucket}` : '',
    isPathStyle,
    region,
    credentials,
    tls: { ...ownCertificate, ...(ca === undefined ? {} : { ca: [ca].flat() }) },
    timeoutMs,
    maxValueBytes,
    partBytes,
    maxConnections,
  };
}

function checkPrefixOption(prefix: string): void {
  if (typeof prefix !== 'string') throw new TypeError(`expected \`prefix\` to be a string, got ${typeof prefix}`);
  if (prefix === '') return;
  if (prefix.length > 200 || !isOrdinaryName(prefix.replace(/\/$/, ''))) {
    throw new TypeError(`expected \`prefix\` to be letters, digits and -_.@ in segments joined by /, 200 bytes at most, got ${JSON.stringify(prefix)}`);
  }
}

function checkAddressing({ addressing, endpoint, bucket }: S3Options): boolean {
  if (addressing !== undefined && addressing !== 'path' && addressing !== 'virtual-host') {
    throw new TypeError(`expected \`addressing\` to be path or virtual-host, got ${JSON.stringify(addressing)}`);
  }
  if (addressing !== undefined) return addressing === 'path';
  // A certificate for *.s3.amazonaws.com does not cover a bucket with a dot.
  return endpoint !== undefined || bucket.includes('.');
}

/** The endpoint is the operator's word, and still must not make this process ask where no S3 can be. */
function checkEndpoint(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined) throw new TypeError('expected `endpoint` to be a URL such as https://s3.example.org');
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw new TypeError(`expected \`endpoint\` to start with http: or https:, got ${url.protocol}`);
  if (url.username !== '' || url.password !== '') throw new TypeError('expected no user and password in `endpoint`; use `credentials`');
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') throw new TypeError(`expected \`endpoint\` to end after the host and port, got ${url.pathname}`);
  if (url.port === '0') throw new TypeError('expected a port from 1 to 65535 in `endpoint`, got 0');
  if (isLinkLocal(url.hostname)) {
    throw new TypeError(`expected \`endpoint\` not to be a link-local address, got ${url.hostname}: clouds give out credentials there, and nobody keeps S3 there`);
  }
  return url;
}

/** 169.254.0.0/16 (also as IPv4 in IPv6), fe80::/10, and the metadata address of AWS in IPv6. A URL has these in one spelling only. */
function isLinkLocal(hostname: string): boolean {
  return /^169\.254\.|^\[fe[89ab][0-9a-f]:|^\[::ffff:a9fe:|^\[fd00:ec2::254\]$/.test(hostname);
}

function checkCredentials(credentials: S3Options['credentials']): void {
  if (credentials === undefined || typeof credentials === 'function') return;
  for (const field of ['accessKeyId', 'secretAccessKey'] as const) {
    if (typeof credentials[field] !== 'string' || credentials[field] === '') throw new TypeError(`expected \`credentials.${field}\` to be a text that is not empty`);
  }
}

function checkTls(tls: NonNullable<S3Options['tls']>): void {
  checkFields(tls, ['ca', 'cert', 'key']);
  if ((tls.cert === undefined) !== (tls.key === undefined)) throw new TypeError('expected `tls.cert` and `tls.key` together');
}

function checkWhole(name: string, value: number, least: number, most: number): void {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return;
  throw new RangeError(`expected \`${name}\` to be a whole number from ${least} to ${most}, got ${value}`);
}
