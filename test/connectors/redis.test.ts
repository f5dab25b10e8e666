// The contract on every server that the redis connector is for, each started once.
import { afterAll, beforeAll, describe, it } from 'vitest';
import { redis, type RedisOptions } from '../../connectors/storage/redis.js';
import { storageConnectorContract } from '../contract/storage-connector.js';
import { freePort } from '../servers/server.js';
import { provideServers } from '../servers/provide.js';
import { startRedis, startRedisCluster, type RedisServer, type RedisServerOptions } from '../servers/redis.js';

interface Farm {
  readonly servers: readonly RedisServer[];
  stop(): Promise<void>;
}

interface Setting {
  readonly name: string;
  start(): Promise<Farm>;
  options(server: RedisServer): RedisOptions;
  /** The database that `options` names. */
  readonly database?: number;
  readonly needsTls?: boolean;
}

const { redis6, redis7, valkey8, valkey9 } = await provideServers();

const PASSWORD = 'p@ss:w%rd/{}#';
/** Exactly what docs/connectors.md tells to allow. */
const ALLOWED = ['echo', 'get', 'set', 'getrange', 'strlen', 'exists', 'unlink', 'scan', 'multi', 'exec'];
const USER = ['user', 'kv', 'on', `>${PASSWORD}`, '~store:*', ...ALLOWED.map((command) => `+${command}`)];

const SETTINGS: readonly Setting[] = [
  { name: 'Redis 7', start: () => one(redis7 ?? redis6), options: ({ port }) => ({ port }) },
  { name: 'Redis 6.2', start: () => one(redis6), options: ({ port }) => ({ url: `redis://localhost:${port}/3` }), database: 3 },
  { name: 'Valkey 8', start: () => one(valkey8), options: ({ port }) => ({ url: `redis://127.0.0.1:${port}?prefix=tenant/` }) },
  { name: 'Valkey 9', start: () => one(valkey9), options: ({ port }) => ({ port, connections: 1, prefix: 'one*[of]?\\{tenants}/' }) },
  { name: 'Valkey 9 on a Unix socket', start: () => one(valkey9), options: ({ socketPath }) => ({ socketPath }) },
  { name: 'a cluster of Valkey 9', start: () => startRedisCluster(valkey9), options: ({ port }) => ({ port, cluster: true }) },
  {
    name: 'Redis 7 over TLS, as a user with few rights',
    start: () => one(redis7 ?? redis6, { tls: true, config: [USER] }),
    options: (server) => ({ host: 'localhost', port: server.port, tls: { ca: server.certificate() }, username: 'kv', password: () => PASSWORD, prefix: 'store:' }),
    needsTls: true,
  },
];

async function one(program: string, options?: RedisServerOptions): Promise<Farm> {
  const server = await startRedis(program, options);
  return { servers: [server], stop: () => server.stop() };
}

describe.each(SETTINGS)('$name:', ({ name, start, options, database = 0, needsTls = false }) => {
  // The wheels of Redis 6.2 and Valkey 9 have no TLS.
  if (needsTls && redis7 === undefined) return it.skip('needs a redis-server on the PATH');

  let farm: Farm;

  beforeAll(async () => {
    farm = await start();
  });

  afterAll(() => farm.stop());

  const first = (): RedisServer => {
    const [server] = farm.servers;
    if (server === undefined) throw new Error('no server was started');
    return server;
  };
  const everywhere = (...command: string[]) => Promise.all(farm.servers.map((server) => server.command(...command)));

  storageConnectorContract(`redis on ${name}`, {
    async make() {
      await everywhere('FLUSHALL');
      return redis(options(first()));
    },
    unreachable: async () => redis({ port: await freePort() }),
    advanceClock: async (ms) => void (await everywhere('EVAL', SHORTEN_LIVES, '0', String(ms), String(database))),
    stall: () => {
      for (const server of farm.servers) server.pause();
      return () => farm.servers.forEach((server) => server.resume());
    },
  });
});

/** Time passes for every key at once, as if a clock had been moved. */
const SHORTEN_LIVES = `
  redis.call('SELECT', ARGV[2])
  for _, key in ipairs(redis.call('KEYS', '*')) do
    local left = redis.call('PTTL', key)
    if left >= 0 then redis.call('PEXPIRE', key, left - ARGV[1]) end
  end
  return 1`;
