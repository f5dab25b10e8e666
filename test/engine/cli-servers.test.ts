// The command line with stores on real servers, and with servers that are dead, stopped or refuse.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PROVIDE_TIMEOUT_MS, provideServers } from '../servers/provide.js';
import { startRedis, type RedisServer } from '../servers/redis.js';
import { openStoreUrl } from '../../connectors/engine/store-url.js';
import { BUCKET, OWNER, startSeaweed, type SeaweedServer } from '../servers/seaweedfs.js';
import { cliProcess, REAL, writeSmall, type CliProcess } from './cli-process.js';

const PASSWORD = 'pa$$ w0rd';

let cli: CliProcess;
let server: RedisServer;
let seaweed: SeaweedServer;
/** What a call takes that finds no server. */
let idleMs = Infinity;

beforeAll(async () => {
  const { valkey9, seaweedfs } = await provideServers();
  [server, seaweed, cli] = await Promise.all([startRedis(valkey9, { config: [['requirepass', PASSWORD]] }), startSeaweed(seaweedfs), cliProcess('cli-servers-test')]);
  idleMs = (await outcome(['ls', '--store', `redis://127.0.0.1:${await closedPort()}`])).ms;
}, PROVIDE_TIMEOUT_MS);

afterAll(async () => {
  cli.dispose();
  await Promise.all([server.stop(), seaweed.stop()]);
});

const env = { KV_REDIS_PASSWORD: PASSWORD, AWS_ACCESS_KEY_ID: OWNER.accessKeyId, AWS_SECRET_ACCESS_KEY: OWNER.secretAccessKey };
const s3Url = (prefix: string): string => `s3://${BUCKET}/${prefix}?endpoint=${encodeURIComponent(seaweed.endpoint)}`;
const redisUrl = (database = 0): string => `redis://127.0.0.1:${server.port}/${database}`;

async function jsonOf(args: readonly string[], extra: Record<string, string> = {}): Promise<unknown> {
  const { status, stdout, stderr } = await cli.run([...args, '--json'], { ...env, ...extra });
  expect(status, stderr).toBe(0);
  return JSON.parse(stdout);
}

async function putSmall(url: string, ...more: string[]): Promise<string> {
  const { prefix_hash: hash } = (await jsonOf(['put', writeSmall(cli.at('small.safetensors')), '--store', url, ...more])) as { prefix_hash: string };
  return hash;
}

async function outcome(args: readonly string[], extra: Record<string, string> = {}): Promise<{ status: number; code: string; text: string; ms: number }> {
  const begin = performance.now();
  const { status, stdout, stderr } = await cli.run([...args, '--json'], { ...env, ...extra });
  const { error } = JSON.parse(stderr) as { error: { code: string } };
  return { status, code: error.code, text: stdout + stderr, ms: performance.now() - begin };
}

describe('a store on a Redis server', { timeout: 60_000 }, () => {
  it('gives a capture back by each kind of URL', async () => {
    const { prefix_hash: hash } = (await jsonOf(['put', REAL, '--store', redisUrl()])) as { prefix_hash: string };
    const urls = [redisUrl(), `redis://:${encodeURIComponent(PASSWORD)}@127.0.0.1:${server.port}`, `redis+unix://${server.socketPath}`];
    for (const url of urls) {
      await jsonOf(['fetch', hash, '--store', url, '-o', cli.at('back.safetensors'), '--force']);
      expect(Buffer.compare(readFileSync(cli.at('back.safetensors')), readFileSync(REAL))).toBe(0);
    }
    expect(await jsonOf(['ls', '--store', redisUrl()])).toMatchObject({ runs: [{ prefix_hash: hash }] });
    expect(await jsonOf(['stats', '--store', redisUrl()])).toMatchObject({ chunks: { count: 1 }, runs: { count: 1 } });
    expect(await jsonOf(['verify', '--store', redisUrl()])).toMatchObject({ ok: true, chunks: 1, runs: 1 });
    expect(await jsonOf(['gc', '--store', redisUrl(), '--max-bytes', '0'])).toMatchObject({ evicted: { count: 1 }, broken_runs: { count: 1 }, left: { count: 0 } });
    expect(await outcome(['fetch', hash, '--store', redisUrl(), '-o', cli.at('miss.safetensors')])).toMatchObject({ status: 3, code: 'MISS' });
  });

  it('keeps tenants apart', async () => {
    const hash = await putSmall(redisUrl(1), '--tenant', 'alice');
    expect(await jsonOf(['ls', '--store', redisUrl(1), '--tenant', 'bob'])).toMatchObject({ runs: [], chunks: [] });
    expect(await outcome(['fetch', hash, '--store', redisUrl(1), '--tenant', 'bob', '-o', cli.at('bob.safetensors')])).toMatchObject({ status: 3 });
    await jsonOf(['gc', '--store', redisUrl(1), '--tenant', 'bob', '--max-bytes', '0']);
    await jsonOf(['fetch', hash, '--store', redisUrl(1), '--tenant', 'alice', '-o', cli.at('alice.safetensors')]);
    expect(await outcome(['ls', '--store', redisUrl(1), '--tenant', '../bob'])).toMatchObject({ status: 2, code: 'USAGE' });
  });

  it('is encrypted with the keys of a file, which are needed to read it and can be rotated', async () => {
    const [old, fresh] = ['11'.repeat(32), '22'.repeat(32)];
    const file = (name: string, ...lines: string[]): string => {
      writeFileSync(cli.at(name), `# keys\n${lines.join('\n')}\n`);
      return cli.at(name);
    };
    const [oldKeys, newKeys, both] = [file('old', `a=${old}`), file('new', `b=${fresh}`), file('both', `b=${fresh}`, `a=${old}`)];
    const hash = await putSmall(redisUrl(2), '--encryption-keys', oldKeys);
    const fetch = ['fetch', hash, '--store', redisUrl(2), '-o', cli.at('sealed.safetensors'), '--force'];
    await jsonOf([...fetch, '--encryption-keys', oldKeys]);
    await jsonOf([...fetch, '--encryption-keys', both]);
    expect((await outcome([...fetch, '--encryption-keys', newKeys])).status).toBe(1);
    expect((await outcome(fetch)).status).toBe(1);
    // What other keys sealed is not known, which is no damage: never deleted.
    expect(await jsonOf(['verify', '--store', redisUrl(2), '--repair', '--encryption-keys', newKeys])).toMatchObject({ ok: true, unknown: 2, deleted: 0 });
    await putSmall(redisUrl(2), '--encryption-keys', both);
    await jsonOf([...fetch, '--encryption-keys', newKeys]);
    const wrong = await outcome([...fetch, '--encryption-keys', file('wrong', `a=${old.slice(1)}`)]);
    expect(wrong).toMatchObject({ status: 2, code: 'USAGE' });
    expect(wrong.text).not.toContain(old.slice(1));
  });
});

describe('a store on an S3 server', { timeout: 60_000 }, () => {
  it('gives a capture back, keeps to its prefix, and needs its keys', async () => {
    const { prefix_hash: hash } = (await jsonOf(['put', REAL, '--store', s3Url('team/a'), '--chunk-tokens', '64'])) as { prefix_hash: string };
    await jsonOf(['fetch', hash, '--store', `${s3Url('team/a')}&addressing=path&region=us-east-1`, '-o', cli.at('s3.safetensors')]);
    expect(Buffer.compare(readFileSync(cli.at('s3.safetensors')), readFileSync(REAL))).toBe(0);
    expect(await jsonOf(['stats', '--store', s3Url('team/a')])).toMatchObject({ chunks: { count: 4 }, runs: { count: 1 } });
    expect(await jsonOf(['verify', '--store', s3Url('team/a')])).toMatchObject({ ok: true, chunks: 4, runs: 1 });
    expect(await jsonOf(['ls', '--store', s3Url('team/b')])).toMatchObject({ runs: [], chunks: [] });
    const wrong = await outcome(['ls', '--store', s3Url('team/a')], { AWS_SECRET_ACCESS_KEY: 'not-this-one' });
    expect(wrong).toMatchObject({ status: 1, code: 'KV_PERMISSION' });
    expect(wrong.text).not.toContain('not-this-one');
    expect(await jsonOf(['gc', '--store', s3Url('team/a'), '--max-bytes', '0'])).toMatchObject({ evicted: { count: 4 }, broken_runs: { count: 1 } });
  });

  it('that is not there is exit code 4', async () => {
    const away = `s3://${BUCKET}?endpoint=http://127.0.0.1:${await closedPort()}`;
    expect(await outcome(['ls', '--store', away])).toMatchObject({ status: 4, code: 'KV_CONNECTOR_UNAVAILABLE' });
  });
});

// The capture in 256 chunks, so that there is a middle of the write.
describe('killed in the middle of a put, and started again,', () => {
  const places: readonly [what: string, url: () => string, kill: (child: ChildProcess) => Promise<unknown>, restart: () => Promise<void>][] = [
    ['a Redis server', () => redisUrl(5), () => server.kill(), () => server.restart()],
    ['an S3 server', () => s3Url('killed'), () => seaweed.kill(), () => seaweed.restart()],
    ['the command line, with a file system,', () => cli.store('killed'), async (child) => child.kill('SIGKILL'), async () => undefined],
  ];

  it.each(places)('%s gives back the whole capture or a miss', async (_, url, kill, restart) => {
    const whole = (await jsonOf(['put', REAL, '--store', cli.store('whole'), '--chunk-tokens', '1'])) as { prefix_hash: string };
    const child = spawn(process.execPath, [cli.path, 'put', REAL, '--store', url(), '--chunk-tokens', '1', '--json'], { env: { ...process.env, ...env }, stdio: 'ignore' });
    const ended = once(child, 'close');
    await someChunks(url());
    await kill(child);
    const [status] = (await ended) as [number | null];
    expect([4, null]).toContain(status);
    await restart();

    const fetch = ['fetch', whole.prefix_hash, '--store', url(), '-o', cli.at('after-kill.safetensors'), '--force'];
    expect(await outcome(fetch)).toMatchObject({ status: 3, code: 'MISS' });
    expect(await jsonOf(['verify', '--store', url()])).toMatchObject({ ok: true, runs: 0 });
    await jsonOf(['put', REAL, '--store', url(), '--chunk-tokens', '1']);
    await jsonOf(fetch);
    expect(Buffer.compare(readFileSync(cli.at('after-kill.safetensors')), readFileSync(REAL))).toBe(0);
  }, 120_000);
});

describe('a server that', () => {
  const commands: readonly (readonly string[])[] = [
    ['put', REAL],
    ['fetch', 'ab'.repeat(32), '-o', 'x.safetensors'],
    ['ls'],
    ['stats'],
    ['gc', '--max-bytes', '1'],
    ['verify'],
  ];

  it.each(commands)('is not there is exit code 4: %s', async (...args) => {
    const port = await closedPort();
    const { status, code, text } = await outcome([...args, '--store', `redis://user:${encodeURIComponent(PASSWORD)}@127.0.0.1:${port}`]);
    expect({ status, code }).toEqual({ status: 4, code: 'KV_CONNECTOR_UNAVAILABLE' });
    expect(text).not.toMatch(/pa\$\$|pa%24/);
  });

  it.each(commands)('is stopped is exit code 4 when the deadline has passed: %s', async (...args) => {
    server.pause();
    try {
      const { status, code, ms } = await outcome([...args, '--store', redisUrl(), '--deadline', '500']);
      expect({ status, code }).toEqual({ status: 4, code: 'KV_CONNECTOR_TIMEOUT' });
      expect(ms).toBeLessThan(idleMs + 500 + 2000);
    } finally {
      server.resume();
    }
  });

  it.each(commands)('never answers does not hold up Ctrl-C: %s', async (...args) => {
    const blackhole = createServer();
    blackhole.listen(0, '127.0.0.1');
    const connected = once(blackhole, 'connection');
    const { port } = await address(blackhole);
    const child = spawn(process.execPath, [cli.path, ...args, '--store', `redis://127.0.0.1:${port}`], { cwd: cli.folder, env: { ...process.env, ...env }, stdio: 'ignore' });
    const ended = once(child, 'close');
    const [socket] = (await connected) as [Socket];
    child.kill('SIGINT');
    const begin = performance.now();
    expect(((await ended) as [number | null])[0]).toBe(130);
    expect(performance.now() - begin).toBeLessThan(5000);
    socket.destroy();
    blackhole.close();
  });

  it('does not know the password is exit code 1, and no message repeats the password', async () => {
    const wrong = await outcome(['ls', '--store', redisUrl()], { KV_REDIS_PASSWORD: 'not-this-one' });
    expect(wrong).toMatchObject({ status: 1, code: 'KV_PERMISSION' });
    expect(wrong.text).not.toContain('not-this-one');
  });
});

describe('a URL of a store', () => {
  it.each([
    'redis://user:SECRET@host:99999',
    'redis://user:SECRET@host/zero',
    'redis://user:SECRET@host?speed=11',
    'redsi://user:SECRET@host',
    'http://user:SECRET@host',
    's3://user:SECRET@bucket',
    's3://bucket?secret_access_key=SECRET',
    's3://bucket?endpoint=http://user:SECRET@host',
    's3://bucket?endpoint=http://169.254.169.254',
    's3://bucket?addressing=sideways',
    's3://B',
    'fs://user:SECRET@/path',
    'not a URL with a SECRET',
    'redis+unix:///socket?cluster=true',
  ])('%s is a wrong call, and no message repeats a secret', async (url) => {
    for (const json of [[], ['--json']]) {
      const { status, stdout, stderr } = await cli.run(['ls', '--store', url, ...json], env);
      expect(status, stderr).toBe(2);
      expect(stdout + stderr).not.toContain('SECRET');
    }
  });
});

/** Resolves when some chunks are stored, of many. */
async function someChunks(url: string): Promise<void> {
  const connector = await openStoreUrl(url, { redisPassword: PASSWORD, s3Credentials: OWNER });
  try {
    for (let chunks = 0; chunks < 3; ) {
      chunks = 0;
      for await (const _ of connector.list('chunks/')) chunks++;
    }
  } finally {
    await connector.close();
  }
}

async function closedPort(): Promise<number> {
  const probe = createServer();
  probe.listen(0, '127.0.0.1');
  const { port } = await address(probe);
  probe.close();
  await once(probe, 'close');
  return port;
}

async function address(server: Server): Promise<AddressInfo> {
  if (!server.listening) await once(server, 'listening');
  return server.address() as AddressInfo;
}
