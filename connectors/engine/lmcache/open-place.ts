import { folders } from './folders.js';
import { FORMS, type Form } from './forms.js';
import type { Place } from './place.js';

/** A place, and how objects stand in it. */
export interface OpenedPlace {
  readonly place: Place;
  readonly form: Form;
}

// The forms that a place can have; the first is meant unless one is named.
const FORMS_OF: Readonly<Record<string, readonly string[]>> = {
  'fs:': ['fs', 'fs-raw', 'mp-fs'],
  'redis:': ['redis', 'resp', 'mp-resp'],
  'rediss:': ['redis', 'resp', 'mp-resp'],
  'resp:': ['resp', 'mp-resp'],
  'valkey:': ['resp', 'mp-resp'],
  's3:': ['s3', 'mp-s3'],
};

/** What a place's text leaves open. */
export interface PlaceOptions {
  /** Name of the form. Default: what the place suggests. */
  readonly format?: string | undefined;
  /** Credentials of a Redis whose URL has none. */
  readonly username?: string | undefined;
  readonly password?: string | undefined;
}

/**
 * Opens a place from what a user calls it: a folder or several with commas between them, or a URL. Rejects with a TypeError that says what was
 * expected for other text, and for a form that the place cannot have; the text itself is not repeated, for it may hold a password.
 */
export async function openPlace(text: string, options: PlaceOptions = {}): Promise<OpenedPlace> {
  const { format } = options;
  const url = urlOf(text);
  const protocol = url?.protocol ?? 'fs:';
  const names = FORMS_OF[protocol];
  if (names === undefined) throw new TypeError(`expected a folder, or a URL of ${Object.keys(FORMS_OF).map((name) => `${name}//`).join(', ')}, got ${protocol}//`);
  const form = FORMS.find(({ name }) => name === (format ?? names[0]));
  if (form === undefined || !names.includes(form.name)) throw new TypeError(`expected the format of ${protocol}// to be one of ${names.join(', ')}, got ${format}`);
  return { form, place: await openOf(protocol, url, { ...options, text }) };
}

// Clients are loaded where they are needed: the command line starts without them.
async function openOf(protocol: string, url: URL | undefined, { text, username, password }: PlaceOptions & { readonly text: string }): Promise<Place> {
  if (url === undefined) return folders(pathsOf(text));
  if (protocol === 'fs:') return folders(pathsOf(pathOf(url)));
  if (protocol === 's3:') {
    const bucket = bucketOf(url);
    const { bucketObjects } = await import('./bucket.js');
    return bucketObjects(bucket);
  }
  const { redisKeys } = await import('./redis-keys.js');
  return redisKeys(url, { username, password });
}

// What looks like a URL is none of a folder's names.
function urlOf(text: string): URL | undefined {
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) return undefined;
  if (!URL.canParse(text)) throw new TypeError('expected a folder or a URL, got a URL that is not well-formed; a password in it has to be percent-encoded');
  return new URL(text);
}

function pathOf(url: URL): string {
  try {
    return decodeURIComponent(url.pathname);
  } catch (cause) {
    throw new TypeError('expected the path of fs:// to be percent-encoded text', { cause });
  }
}

function pathsOf(text: string): string[] {
  const paths = text.split(',').map((path) => path.trim());
  if (paths.includes('')) throw new TypeError('expected folders with commas between them, got an empty name');
  return paths;
}

function bucketOf(url: URL): { bucket: string; endpoint?: string; region?: string } {
  const { endpoint, region, ...others } = Object.fromEntries(url.searchParams);
  const [unknown] = Object.keys(others);
  if (url.hostname === '' || url.username !== '' || !/^\/?$/.test(url.pathname) || unknown !== undefined || (endpoint !== undefined && !URL.canParse(endpoint))) {
    throw new TypeError('expected s3://BUCKET?endpoint=URL&region=REGION, both optional: LMCache keeps its objects at the top of a bucket, and credentials do not belong in a URL');
  }
  return { bucket: url.hostname, ...(endpoint !== undefined && { endpoint }), ...(region !== undefined && { region }) };
}
