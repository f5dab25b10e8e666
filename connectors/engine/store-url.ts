// A store named by one URL: the same in the library, on the command line and in whatever else is configured by text. A connector's code is
// loaded when its scheme is asked for. A URL may carry a password: no message repeats more of it than scheme, host and path.
import type { StorageConnector } from '../../lib/store/connector.js';
import type { S3Options } from '../storage/s3.js';

/** What a URL need not say. */
export interface StoreUrlDefaults {
  /** Password for Redis where the URL has none. Better than in the URL, which other users of the machine may see. */
  readonly redisPassword?: string;
  /** Region for S3 where the URL has none. */
  readonly s3Region?: string;
  /** Keys for S3, which no URL has. Default: the AWS SDK's chain (environment, files, web identity, instance). */
  readonly s3Credentials?: NonNullable<S3Options['credentials']>;
}

type Opener = (url: URL, defaults: StoreUrlDefaults) => Promise<StorageConnector>;

const OPENERS: Readonly<Record<string, Opener>> = {
  'fs:': openFilesystem,
  'redis:': openRedis,
  'rediss:': openRedis,
  'redis+unix:': openRedis,
  's3:': openS3,
};

const S3_PARAMETERS = ['endpoint', 'region', 'addressing'];

/**
 * The storage connector that a URL names:
 *
 *     fs:///path
 *     redis://[user:password@]host[:port][/database][?cluster=true&prefix=...]   rediss://... with TLS
 *     redis+unix:///path/of/socket[?database=N&prefix=...]
 *     s3://bucket[/prefix][?endpoint=URL&region=NAME&addressing=path|virtual-host]
 *
 * Nothing is connected to yet. Rejects with a TypeError or RangeError, which repeats no secret, for a URL of another form.
 */
export async function openStoreUrl(text: string, defaults: StoreUrlDefaults = {}): Promise<StorageConnector> {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const open = url && OPENERS[url.protocol];
  if (url === undefined || open === undefined) {
    throw new TypeError(`expected a URL that begins with ${Object.keys(OPENERS).join('//, ')}//, got ${redactedUrl(text)}`);
  }
  return open(url, defaults);
}

/** A URL as messages may show it: without user, password, query and fragment. */
export function redactedUrl(text: string): string {
  if (!URL.canParse(text)) return 'something that is no URL';
  const { protocol, host, pathname } = new URL(text);
  return JSON.stringify(`${protocol}//${host}${pathname}`);
}

async function openFilesystem(url: URL): Promise<StorageConnector> {
  if (url.host !== '' || url.username !== '' || url.search !== '' || url.hash !== '' || url.pathname.length < 2) {
    throw new TypeError(`expected fs:// and an absolute path, as in fs:///var/cache/kv, got ${redactedUrl(url.href)}`);
  }
  const { filesystem } = await import('../storage/filesystem.js');
  return filesystem({ path: pathOf(url) });
}

async function openRedis(url: URL, { redisPassword }: StoreUrlDefaults): Promise<StorageConnector> {
  const { redis } = await import('../storage/redis.js');
  const hasPassword = url.password !== '';
  return redis({ url: url.href, ...(!hasPassword && redisPassword !== undefined && { password: redisPassword }) });
}

async function openS3(url: URL, { s3Region, s3Credentials }: StoreUrlDefaults): Promise<StorageConnector> {
  if (url.username !== '' || url.password !== '') throw new TypeError('expected no keys in an s3:// URL: they come from the environment or the files of the AWS SDK');
  if (url.port !== '' || url.hash !== '') throw new TypeError(`expected s3://bucket/prefix, the server as ?endpoint=, got ${redactedUrl(url.href)}`);
  const unknown = [...url.searchParams.keys()].find((name) => !S3_PARAMETERS.includes(name));
  if (unknown !== undefined) throw new TypeError(`expected only ${S3_PARAMETERS.join(', ')} after the ? of an s3:// URL, got ${JSON.stringify(unknown)}`);
  const given = (name: string): string | undefined => url.searchParams.get(name) ?? undefined;
  const [endpoint, region, addressing, prefix] = [given('endpoint'), given('region') ?? s3Region, given('addressing'), pathOf(url).slice(1)];
  if (addressing !== undefined && addressing !== 'path' && addressing !== 'virtual-host') throw new TypeError('expected `addressing` in an s3:// URL to be path or virtual-host');
  const { s3 } = await import('../storage/s3.js');
  return s3({
    bucket: url.hostname,
    ...(prefix !== '' && { prefix }),
    ...(endpoint !== undefined && { endpoint }),
    ...(region !== undefined && { region }),
    ...(addressing !== undefined && { addressing }),
    ...(s3Credentials !== undefined && { credentials: s3Credentials }),
  });
}

function pathOf(url: URL): string {
  try {
    return decodeURIComponent(url.pathname);
  } catch (cause) {
    throw new TypeError(`expected the path to be percent-encoded text, got ${redactedUrl(url.href)}`, { cause });
  }
}
