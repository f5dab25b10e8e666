// The stores that a soak runs on: one of each kind, on servers of its own, or those that URLs name.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStoreUrl } from '../../connectors/engine/store-url.js';
import { bounded } from '../../connectors/storage/bounded.js';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { redis } from '../../connectors/storage/redis.js';
import { s3 } from '../../connectors/storage/s3.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import { provideServers } from '../servers/provide.js';
import { startRedis } from '../servers/redis.js';
import { BUCKET, OWNER, startSeaweed } from '../servers/seaweedfs.js';
import type { SoakStore } from './soak.js';

export interface SoakStores {
  readonly stores: readonly SoakStore[];
  /** Closes the connectors; a place that was given is left empty. */
  close(): Promise<void>;
  /** Stops what was started for them. */
  stop(): Promise<void>;
}

/** A directory, a Redis, a Valkey and a SeaweedFS. */
export async function ownStores(maxBytes: number): Promise<SoakStores> {
  const { redis7, redis6, valkey9, seaweedfs } = await provideServers();
  const directory = mkdtempSync(join(tmpdir(), 'kvreel-soak-'));
  const [one, other, seaweed] = await Promise.all([startRedis(redis7 ?? redis6), startRedis(valkey9), startSeaweed(seaweedfs)]);
  const open: Readonly<Record<string, () => StorageConnector>> = {
    filesystem: () => filesystem({ path: directory }),
    redis: () => redis({ port: one.port }),
    valkey: () => redis({ socketPath: other.socketPath }),
    s3: () => s3({ endpoint: seaweed.endpoint, bucket: BUCKET, prefix: 'soak', credentials: OWNER }),
  };
  return {
    ...storesOf(Object.entries(open).map(([name, make]) => ({ name, inner: make(), behind: make() })), maxBytes),
    async stop() {
      await Promise.all([one, other, seaweed].map((server) => server.stop()));
      rmSync(directory, { recursive: true });
    },
  };
}

/** The stores at these URLs. Rejects if one holds anything: the soak would evict it. */
export async function storesAt(urls: readonly string[], maxBytes: number): Promise<SoakStores> {
  const opened = await Promise.all(
    urls.map(async (url) => {
      const behind = await openStoreUrl(url);
      for await (const _ of behind.list('')) throw new Error('expected --store to name an empty place: what is there would be evicted');
      return { name: new URL(url).protocol, inner: await openStoreUrl(url), behind };
    }),
  );
  const { stores, close } = storesOf(opened, maxBytes);
  return {
    stores,
    async close() {
      for (const { behind } of stores) for await (const { key } of behind.list('soak/')) await behind.delete(key);
      await close();
    },
    stop: async () => undefined,
  };
}

function storesOf(opened: readonly { readonly name: string; readonly inner: StorageConnector; readonly behind: StorageConnector }[], maxBytes: number): Omit<SoakStores, 'stop'> {
  const stores = opened.map(({ name, inner, behind }) => ({ name, connector: bounded(inner, { maxBytes }), behind }));
  return {
    stores,
    close: async () => void (await Promise.all(stores.flatMap(({ connector, behind }) => [connector.close(), behind.close()]))),
  };
}
