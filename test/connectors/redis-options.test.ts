import { describe, expect, it } from 'vitest';
import { redis, type RedisOptions } from '../../connectors/storage/redis.js';
import { settingsOf } from '../../connectors/storage/redis/settings.js';

/** The settings as data. */
async function settings(options: RedisOptions): Promise<object> {
  const { access, ...rest } = settingsOf(options);
  return { ...rest, tls: access.tls, database: access.database, credentials: await access.credentials() };
}

const DEFAULTS = {
  address: { host: '127.0.0.1', port: 6379 },
  cluster: false,
  prefix: '',
  timeoutMs: 10_000,
  connections: 4,
  maxValueBytes: 512 * 1024 * 1024,
  tls: undefined,
  database: 0,
  credentials: undefined,
};

describe('the options of redis', () => {
  it('have defaults', async () => {
    expect(await settings({})).toEqual(DEFAULTS);
  });

  it.each<[string, object]>([
    ['redis://cache.example', { address: { host: 'cache.example', port: 6379 } }],
    ['redis://[::1]:7000/3', { address: { host: '::1', port: 7000 }, database: 3 }],
    ['redis://cache.example/?database=4&prefix=a%2Fb%20', { address: { host: 'cache.example', port: 6379 }, database: 4, prefix: 'a/b ' }],
    ['rediss://user:p%40ss%3Aw%2F%25@cache.example:6380', { address: { host: 'cache.example', port: 6380 }, tls: {}, credentials: { username: 'user', password: 'p@ss:w/%' } }],
    ['redis://:pw@cache.example', { address: { host: 'cache.example', port: 6379 }, credentials: { username: 'default', password: 'pw' } }],
    ['redis://cache.example?cluster=true', { address: { host: 'cache.example', port: 6379 }, cluster: true }],
    ['redis+unix:///run/redis/a%20b.sock?database=2', { address: { socketPath: '/run/redis/a b.sock' }, database: 2 }],
    ['redis+unix://user:pw@localhost/run/redis.sock', { address: { socketPath: '/run/redis.sock' }, credentials: { username: 'user', password: 'pw' } }],
  ])('are read from %s', async (url, expected) => {
    expect(await settings({ url })).toEqual({ ...DEFAULTS, ...expected });
  });

  it('given beside a url win over it', async () => {
    const options: RedisOptions = { url: 'rediss://user:pw@cache.example:6380/3', port: 7000, database: 1, password: () => 'other', tls: { ca: 'PEM', servername: 'name' } };
    expect(await settings(options)).toEqual({
      ...DEFAULTS,
      address: { host: 'cache.example', port: 7000 },
      database: 1,
      credentials: { username: 'user', password: 'other' },
      tls: { ca: 'PEM', servername: 'name' },
    });
  });

  it.each<[string, unknown]>([
    ['another scheme', { url: 'http://user:hush@cache.example' }],
    ['no url at all', { url: 'user:hush@cache.example' }],
    ['no host in a url', { url: 'redis://' }],
    ['a relative socket path', { url: 'redis+unix://run/redis.sock' }],
    ['no socket path', { url: 'redis+unix://' }],
    ['a stray % in a url', { url: 'redis://:hush%hush@cache.example' }],
    ['an unknown parameter in a url', { url: 'redis://:hush@cache.example?tsl=true' }],
    ['a database that is no number', { url: 'redis://:hush@cache.example/hush' }],
    ['a cluster that is neither true nor false', { url: 'redis://cache.example?cluster=1' }],
    ['an unknown field', { hots: 'cache.example' }],
    ['an unknown field of tls', { tls: { cert: 'hush' } }],
    ['an empty host', { host: '' }],
    ['a socket path with NUL', { socketPath: '/run\0' }],
    ['a password that is a number', { password: 7 }],
    ['a prefix that is not ASCII', { prefix: 'caf\u00e9' }],
    ['a cluster behind a Unix socket', { cluster: true, socketPath: '/run/redis.sock' }],
    ['an empty certificate', { tls: { ca: '' } }],
  ])('refuse %s with a TypeError that repeats no secret', (_, options) => {
    const open = () => redis(options as RedisOptions);
    expect(open).toThrow(TypeError);
    expect(open).not.toThrow(/hush/);
  });

  it.each<[string, RedisOptions]>([
    ['port 0', { port: 0 }],
    ['port 65536', { port: 65_536 }],
    ['a port that is a fraction', { port: 1.5 }],
    ['a negative database', { database: -1 }],
    ['a database in a cluster', { cluster: true, database: 1 }],
    ['no connections', { connections: 0 }],
    ['a thousand connections', { connections: 1000 }],
    ['a time limit of 0', { timeoutMs: 0 }],
    ['a time limit that is NaN', { timeoutMs: NaN }],
    ['maxValueBytes 0', { maxValueBytes: 0 }],
    ['an infinite maxValueBytes', { maxValueBytes: Infinity }],
  ])('refuse %s with a RangeError', (_, options) => {
    expect(() => redis(options)).toThrow(RangeError);
  });
});
