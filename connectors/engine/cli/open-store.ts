import { filesystem } from '../../storage/filesystem.js';
import type { StorageConnector } from '../../../lib/store/connector.js';
import { UsageError } from './command.js';

const OPENERS: Readonly<Record<string, (url: URL) => StorageConnector>> = {
  'fs:': (url) => filesystem({ path: pathOf(url) }),
};

/** The storage connector that a URL names. Throws a UsageError for a URL of another form. */
export function openStore(text: string): StorageConnector {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const open = url && OPENERS[url.protocol];
  if (url === undefined || open === undefined) {
    const forms = Object.keys(OPENERS).map((scheme) => `${scheme}//...`);
    throw new UsageError(`expected --store to be a URL of the form ${forms.join(', ')}, got ${JSON.stringify(text)}`);
  }
  return open(url);
}

/** Lends the connector to `work` and closes it. */
export async function withStore<T>(text: string, work: (connector: StorageConnector) => Promise<T>): Promise<T> {
  const connector = openStore(text);
  try {
    return await work(connector);
  } finally {
    await connector.close();
  }
}

function pathOf(url: URL): string {
  if (url.host !== '' || url.search !== '' || url.hash !== '' || url.pathname.length < 2) {
    throw new UsageError(`expected --store to be fs:// and an absolute path, as in fs:///var/cache/kv, got ${url.href}`);
  }
  try {
    return decodeURIComponent(url.pathname);
  } catch (cause) {
    throw new UsageError(`expected the path of --store to be percent-encoded text, got ${url.pathname}`, { cause });
  }
}
