import type { StorageConnector } from '../../lib/index.js';

/** Calls that went through to a connector. */
export interface Counted extends StorageConnector {
  readonly puts: { readonly key: string; readonly bytes: number }[];
  readonly gets: string[];
}

/** Notes what is put into another connector and got from it. */
export function counting(inner: StorageConnector): Counted {
  const puts: Counted['puts'] = [];
  const gets: string[] = [];
  return {
    ...inner,
    puts,
    gets,
    put(key, value, options) {
      puts.push({ key, bytes: value.length });
      return inner.put(key, value, options);
    },
    get(key, options) {
      gets.push(key);
      return inner.get(key, options);
    },
  };
}
