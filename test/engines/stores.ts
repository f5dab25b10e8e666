// The stores that engines are tested with.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { provideServers } from '../servers/provide.js';
import { startRedis } from '../servers/redis.js';
import { BUCKET, OWNER, startSeaweed } from '../servers/seaweedfs.js';

/** A store that a daemon can be started over. */
export interface Store {
  readonly name: string;
  readonly url: string;
  /** Keys to it, for the daemon's environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Of the server; 0 without one. */
  readonly port: number;
  stop(): Promise<void>;
}

/** An empty directory. */
export function filesystemStore(): Store {
  const directory = mkdtempSync(join(tmpdir(), 'kvreel-engines-store-'));
  return { name: 'filesystem', url: `fs://${directory}`, env: {}, port: 0, stop: async () => rmSync(directory, { recursive: true, force: true }) };
}

/** A Redis. */
export async function redisStore(): Promise<Store> {
  const { redis7, redis6 } = await provideServers();
  const server = await startRedis(redis7 ?? redis6);
  return { name: 'Redis', url: `redis://127.0.0.1:${server.port}`, env: {}, port: server.port, stop: () => server.stop() };
}

/** A bucket of SeaweedFS. */
export async function s3Store(): Promise<Store> {
  const { seaweedfs } = await provideServers();
  const server = await startSeaweed(seaweedfs);
  return {
    name: 'SeaweedFS (S3)',
    url: `s3://${BUCKET}/engines?endpoint=${encodeURIComponent(server.endpoint)}&region=us-east-1`,
    env: { AWS_ACCESS_KEY_ID: OWNER.accessKeyId, AWS_SECRET_ACCESS_KEY: OWNER.secretAccessKey },
    port: server.port,
    stop: () => server.stop(),
  };
}
