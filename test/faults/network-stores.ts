// The stores that are reached over a network: a real server, and connectors to it by whatever way a test puts before it.
import { redis } from '../../connectors/storage/redis.js';
import { s3 } from '../../connectors/storage/s3.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import { provideServers } from '../servers/provide.js';
import { startRedis } from '../servers/redis.js';
import { BUCKET, OWNER, startSeaweed } from '../servers/seaweedfs.js';

/** A running server of such a store. */
export interface NetworkStore {
  /** The port of 127.0.0.1 that its connectors talk to. */
  readonly port: number;
  /** A connector to its values under `prefix`, which reaches it through `port`: its own, or that of a proxy. */
  connect(port: number, prefix: string): StorageConnector;
  stop(): Promise<void>;
}

/** Starts the server of each, by the connector's name. */
export const NETWORK_STORES: Readonly<Record<'redis' | 's3', () => Promise<NetworkStore>>> = {
  async redis() {
    const { redis7, redis6 } = await provideServers();
    const { port, stop } = await startRedis(redis7 ?? redis6);
    return { port, stop, connect: (through, prefix) => redis({ port: through, prefix: `${prefix}/`, timeoutMs: 5000 }) };
  },
  async s3() {
    const { port, stop } = await startSeaweed((await provideServers()).seaweedfs);
    return { port, stop, connect: (through, prefix) => s3({ endpoint: `http://127.0.0.1:${through}`, bucket: BUCKET, prefix, credentials: OWNER, timeoutMs: 5000 }) };
  },
};
