// Places where LMCache stores objects in a test: what is in them is read here by other means than those under test.
import { CreateBucketCommand, DeleteObjectCommand, GetObjectCommand, ListObjectsV2Command } from '@aws-sdk/client-s3';
import { Redis } from 'ioredis';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { RedisServer } from '../servers/redis.js';
import { DOMAIN, OWNER, type SeaweedServer } from '../servers/seaweedfs.js';

/** One place, empty at first. */
export interface StoredPlace {
  /** For LMCache. */
  readonly theirs: Readonly<Record<string, unknown>>;
  /** For our command line. */
  readonly ours: string;
  /** Name and digest of everything that is there. */
  contents(): Promise<Record<string, string>>;
  clear(): Promise<void>;
}

/** A folder. */
export function folderPlace(path: string): StoredPlace {
  return {
    theirs: { path },
    ours: path,
    contents: async () => Object.fromEntries((existsSync(path) ? readdirSync(path) : []).map((name) => [name, digest(readFileSync(join(path, name)))])),
    clear: async () => rmSync(path, { recursive: true, force: true }),
  };
}

/** A Redis. */
export function redisPlace(server: RedisServer, scheme: 'redis' | 'resp' | 'valkey'): StoredPlace {
  const withClient = async <T>(work: (client: Redis) => Promise<T>): Promise<T> => {
    const client = new Redis({ port: server.port });
    try {
      return await work(client);
    } finally {
      client.disconnect();
    }
  };
  return {
    theirs: { host: '127.0.0.1', port: server.port },
    ours: `${scheme}://127.0.0.1:${server.port}`,
    contents: () =>
      withClient(async (client) => {
        const entries: [string, string][] = [];
        for (const key of await client.keys('*')) entries.push([key, digest((await client.getBuffer(key)) ?? Buffer.alloc(0))]);
        return Object.fromEntries(entries);
      }),
    clear: () => withClient(async (client) => void (await client.flushall())),
  };
}

/** A bucket, which it makes. LMCache names it in the host: its requests reach the server only if that is set as their proxy. */
export async function bucketPlace(server: SeaweedServer, bucket: string): Promise<StoredPlace> {
  await server.client.send(new CreateBucketCommand({ Bucket: bucket }));
  const keys = async (): Promise<string[]> => ((await server.client.send(new ListObjectsV2Command({ Bucket: bucket }))).Contents ?? []).map(({ Key }) => Key ?? '');
  return {
    theirs: { endpoint: `${bucket}.${DOMAIN}:${server.port}`, access_key: OWNER.accessKeyId, secret_key: OWNER.secretAccessKey },
    ours: `s3://${bucket}?endpoint=${server.endpoint}`,
    async contents() {
      const entries: [string, string][] = [];
      for (const key of await keys()) {
        const { Body } = await server.client.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
        entries.push([key, digest((await Body?.transformToByteArray()) ?? new Uint8Array())]);
      }
      return Object.fromEntries(entries);
    },
    async clear() {
      for (const key of await keys()) await server.client.send(new DeleteObjectCommand({ Bucket: bucket, Key: key }));
    },
  };
}

/** SHA-256 of bytes. */
export function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
