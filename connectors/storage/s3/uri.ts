/** An object name as it stands in a path: all but A-Z, a-z, 0-9, `-`, `_`, `.`, `~` and `/` encoded, as Signature Version 4 wants it. */
export function encodePath(name: string): string {
  return name.split('/').map(encode).join('/');
}

/** Path and query of a request. A parameter that has no value is `null`. */
export function withQuery(path: string, query: Readonly<Record<string, string | readonly string[] | null>>): string {
  const parameters = Object.entries(query).flatMap(([field, value]) => [value ?? ''].flat().map((one) => `${encode(field)}=${encode(one)}`));
  return parameters.length === 0 ? path : `${path}?${parameters.join('&')}`;
}

function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}
