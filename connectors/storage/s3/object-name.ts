// Keys are any printable ASCII; object names are what every S3 server takes and keeps apart. A leading run of ordinary segments
// stays as it is, so `chunks/<hex>/<hex>` can be read in any S3 browser. From the first odd segment on, the rest of the key follows
// as `=` and base64url, cut into segments that a server on a file system can hold. Every key has one name, and at most 700 bytes.

/** Servers that keep segments as file names stop at 255 bytes. */
const SEGMENT_BYTES = 200;

/** No dot first: `.` and `..` are steps, and SeaweedFS keeps its uploads under `.uploads`. No `%2f`, which some servers decode twice. */
const ORDINARY = /^(?!\.)(?:[A-Za-z0-9!_.*'()@:,+$&~-]|%(?![0-9A-Fa-f]{2})){1,200}$/;

/** The object name of `key`, without the connector's own prefix. */
export function objectName(key: string): string {
  const segments = key.split('/');
  const odd = segments.findIndex((segment) => !ORDINARY.test(segment));
  if (odd === -1) return key;
  const head = segments.slice(0, odd).map((segment) => `${segment}/`).join('');
  const rest = `=${Buffer.from(key.slice(head.length), 'latin1').toString('base64url')}`;
  return head + (rest.match(new RegExp(`.{1,${SEGMENT_BYTES}}`, 'g')) ?? []).join('/');
}

/** The key whose object name this is; undefined for a name that no key has: an object that somebody else put there. */
export function keyOfName(name: string): string | undefined {
  const mark = /(?:^|\/)=/.exec(name);
  if (mark === null) return objectName(name) === name && name !== '' ? name : undefined;
  const at = mark.index + mark[0].length;
  const rest = Buffer.from(name.slice(at).replaceAll('/', ''), 'base64url').toString('latin1');
  const key = name.slice(0, at - 1) + rest;
  return objectName(key) === name ? key : undefined;
}

/** A beginning that the names of all keys starting with `prefix` share. Other names may have it too: look at the keys. */
export function namePrefix(prefix: string): string {
  const segments = prefix.split('/').slice(0, -1);
  const odd = segments.findIndex((segment) => !ORDINARY.test(segment));
  return (odd === -1 ? segments : segments.slice(0, odd)).map((segment) => `${segment}/`).join('');
}

/** Whether `text` is made of ordinary segments, and so may stand before object names. */
export function isOrdinaryName(text: string): boolean {
  return text.split('/').every((segment) => ORDINARY.test(segment));
}
