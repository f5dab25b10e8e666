// `kvreel serve` as a process: how it starts, what it refuses, how it stops, and what is left when somebody is killed.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { cliProcess, type CliProcess } from '../engine/cli-process.js';
import { clientOf, type Client } from './client.js';
import { SPACE, tensorOf, TOKEN_BYTES } from './daemon.js';

interface Serving {
  readonly child: ChildProcess;
  readonly client: Client;
  readonly stderr: () => string;
  /** Ends it and gives its exit code. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

let cli: CliProcess;
const children = new Set<ChildProcess>();

beforeAll(async () => {
  cli = await cliProcess('daemon-serve-test');
}, 60_000);

afterEach(async () => {
  for (const child of children) {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
  children.clear();
});

afterAll(() => cli.dispose());

let sockets = 0;
const freshSocket = (): string => cli.at(`s${sockets++}.sock`);

async function serve(args: readonly string[], socket: string | undefined, env: Record<string, string> = {}): Promise<Serving> {
  const child = spawn(process.execPath, [cli.path, 'serve', ...args, ...(socket === undefined ? [] : ['--socket', socket])], { cwd: cli.folder, env: { ...process.env, ...env } });
  children.add(child);
  let stderr = '';
  child.stderr.on('data', (piece: Buffer) => (stderr += piece.toString()));
  const exited = once(child, 'exit') as Promise<[number | null]>;
  await Promise.race([
    once(child.stdout, 'data'),
    exited.then(([code]) => {
      throw new Error(`ended with ${code} before it listened: ${stderr}`);
    }),
  ]);
  const client = clientOf({ socketPath: socket ?? '' });
  return {
    child,
    client,
    stderr: () => stderr,
    async stop(signal = 'SIGTERM') {
      client.close();
      child.kill(signal);
      return (await exited)[0];
    },
  };
}

async function register(client: Client): Promise<string> {
  return String((await client.json('POST', '/v1/spaces', SPACE)).json.space);
}

describe('it starts', () => {
  it('on a socket that only this user may use, serves, and leaves nothing when it is told to stop', async () => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      const socket = freshSocket();
      const served = await serve(['--store', cli.store('plain')], socket);
      expect(statSync(socket).mode & 0o777).toBe(0o600);
      expect((await served.client.json('GET', '/health')).status).toBe(200);
      expect((await served.client.json('GET', '/ready')).status).toBe(200);
      expect(await served.stop(signal)).toBe(0);
      expect(existsSync(socket)).toBe(false);
      expect(served.stderr()).not.toMatch(/Error|warn/i);
    }
  });

  it('again after it was killed, with a client that learns to register and finds what it stored', async () => {
    const socket = freshSocket();
    const store = cli.store('restarted');
    const first = await serve(['--store', store], socket);
    const space = await register(first.client);
    const entries = [{ hash: 'a1', bytes: 4 * TOKEN_BYTES }];
    await first.client.storeFrames({ space, entries }, [tensorOf(4, 1)]);
    await first.stop('SIGKILL');
    expect(existsSync(socket)).toBe(true); // dead, and replaced
    const second = await serve(['--store', store], socket);
    expect(await second.client.frames('/v1/fetch', { space, entries })).toMatchObject({ status: 409, json: { error: { code: 'KV_UNKNOWN_SPACE' } } });
    expect(await register(second.client)).toBe(space);
    expect((await second.client.frames('/v1/fetch', { space, entries })).frames[0]?.payload.equals(tensorOf(4, 1))).toBe(true);
    expect(await second.stop()).toBe(0);
  });

  it('not where a daemon lives, nor in the place of a file', async () => {
    const socket = freshSocket();
    const served = await serve(['--store', cli.store('taken')], socket);
    expect(await cli.failure(1, 'serve', '--store', cli.store('taken'), '--socket', socket)).toMatchObject({ code: 'KV_EXISTS', message: expect.stringContaining('listens') });
    expect((await served.client.json('GET', '/health')).status).toBe(200);
    await served.stop();
    writeFileSync(cli.at('file.sock'), 'mine');
    expect(await cli.failure(1, 'serve', '--store', cli.store('taken'), '--socket', cli.at('file.sock'))).toMatchObject({ code: 'KV_EXISTS' });
    expect(existsSync(cli.at('file.sock'))).toBe(true);
    expect(await cli.failure(1, 'serve', '--store', cli.store('taken'), '--socket', cli.at('none/s.sock'))).toMatchObject({ code: 'KV_INVALID_INPUT' });
  });

  it('not on a port that is taken', async () => {
    const other = createServer();
    other.listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    writeFileSync(cli.at('token'), 'a token of some length\n'.replaceAll(' ', '-'));
    const failure = await cli.failure(1, 'serve', '--store', cli.store('p'), '--host', '127.0.0.1', '--port', String(port), '--token-file', cli.at('token'));
    expect(failure).toMatchObject({ code: 'KV_EXISTS' });
    other.close();
  });
});

describe('its settings', () => {
  it('come from flags, then the environment, then the file', async () => {
    const [first, second, third] = [freshSocket(), freshSocket(), freshSocket()];
    writeFileSync(cli.at('config.json'), JSON.stringify({ store: cli.store('from-file'), socket: first, memory_bytes: '64MiB', max_bytes: 1000000, deadline_ms: 5000, ttl: '7d' }));
    const fromFile = await serve(['--config', cli.at('config.json')], undefined);
    const client = clientOf({ socketPath: first });
    expect((await client.json('GET', '/v1/usage')).json).toMatchObject({ max_bytes: 1000000 });
    client.close();
    await fromFile.stop();
    const fromEnvironment = await serve([], undefined, { KVREEL_CONFIG: cli.at('config.json'), KVREEL_SOCKET: second });
    expect([existsSync(first), existsSync(second)]).toEqual([false, true]);
    await fromEnvironment.stop();
    const fromFlag = await serve([], third, { KVREEL_CONFIG: cli.at('config.json'), KVREEL_SOCKET: second });
    expect([existsSync(second), existsSync(third)]).toEqual([false, true]);
    await fromFlag.stop();
  });

  it.each<[string, object, RegExp]>([
    ['a field that is unknown', { memory: 1 }, /unknown field "memory".*memory_bytes/s],
    ['a size that is none', { memory_bytes: 'lots' }, /--memory-bytes.*20GiB.*lots.*memory_bytes in .*wrong.json/s],
    ['a duration that is none', { ttl: '7' }, /--ttl.*7d.*ttl in .*wrong.json/s],
    ['a number that is none', { deadline_ms: 'soon' }, /--deadline-ms.*whole number.*deadline_ms in .*wrong.json/s],
    ['a quality that is none', { quality: 'best' }, /--quality.*exact/s],
    ['a value of another kind', { socket: ['x'] }, /socket.*text or a number/s],
    ['no place to listen', { socket: undefined }, /--socket PATH/],
    ['TCP without a token', { host: '127.0.0.1' }, /--token-file.*openssl rand/s],
    ['no store', { store: undefined }, /--store URL/],
    ['a store of an unknown kind', { store: 'ftp://x' }, /fs:\/\//],
  ])('that are wrong say what to do: %s', async (_, fields, message) => {
    writeFileSync(cli.at('wrong.json'), JSON.stringify({ store: cli.store('x'), socket: cli.at('never.sock'), ...fields }));
    const failure = await cli.failure(2, 'serve', '--config', cli.at('wrong.json'));
    expect(failure.code).toBe('USAGE');
    expect(failure.message).toMatch(message);
  });

  it('of a token stay secret', async () => {
    const short = await cli.run(['serve', '--store', cli.store('x'), '--host', '127.0.0.1'], { KVREEL_TOKEN: 'tooshort-x' });
    expect(short.status).toBe(2);
    expect(short.stderr).toMatch(/16 characters/);
    expect(short.stderr).not.toContain('tooshort-x');
  });

  it('let TCP listen, with the token of a file', async () => {
    const token = 'a-token-of-some-length';
    writeFileSync(cli.at('token'), `${token}\n`);
    const child = spawn(process.execPath, [cli.path, 'serve', '--store', cli.store('tcp'), '--host', '127.0.0.1', '--port', '0', '--token-file', cli.at('token'), '--json']);
    children.add(child);
    let printed = '';
    for await (const piece of child.stdout) {
      printed += String(piece);
      if (printed.includes('}')) break;
    }
    const { port } = JSON.parse(printed) as { port: number };
    const client = clientOf({ host: '127.0.0.1', port }, token);
    expect((await client.json('GET', '/ready')).status).toBe(200);
    client.close();
    expect(printed).not.toContain(token);
  });
});

describe('it stops', () => {
  it('under load without losing a store that it acknowledged', async () => {
    const socket = freshSocket();
    const store = cli.store('load');
    const served = await serve(['--store', store], socket);
    const space = await register(served.client);
    const acknowledged = new Set<number>();
    let next = 0;
    let refused = 0;
    const lane = async (): Promise<void> => {
      const client = clientOf({ socketPath: socket });
      for (;;) {
        const number = next++;
        try {
          const answer = await client.storeFrames({ space, entries: [{ hash: number.toString(16), bytes: 16 * TOKEN_BYTES }] }, [tensorOf(16, number)]);
          if (answer.frames[0]?.status === 0) acknowledged.add(number);
          if (answer.status === 503) break;
        } catch {
          break; // the socket is closed
        }
      }
      refused++;
      client.close();
    };
    const lanes = Promise.all(Array.from({ length: 6 }, lane));
    await expect.poll(() => acknowledged.size, { timeout: 20_000 }).toBeGreaterThan(20);
    expect(await served.stop()).toBe(0);
    await lanes;
    expect(refused).toBe(6);
    const after = await serve(['--store', store], socket);
    await register(after.client);
    const numbers = [...acknowledged];
    const { frames } = await after.client.frames('/v1/fetch', { space, entries: numbers.map((number) => ({ hash: number.toString(16), bytes: 16 * TOKEN_BYTES })) });
    expect(frames.filter(({ index, status, payload }) => status === 0 && payload.equals(tensorOf(16, numbers[index] ?? -1)))).toHaveLength(numbers.length);
    await after.stop();
  });

  it('at once where clients only keep their connections, also one that was busy', async () => {
    const socket = freshSocket();
    const served = await serve(['--store', cli.store('idle')], socket);
    const space = await register(served.client);
    const [idle, busy] = [clientOf({ socketPath: socket }), clientOf({ socketPath: socket })];
    await idle.json('GET', '/health');
    const storing = busy.storeFrames({ space, entries: [{ hash: 'a1', bytes: 20_000 * TOKEN_BYTES }] }, [tensorOf(20_000, 1)]);
    const begin = performance.now();
    expect(await served.stop()).toBe(0);
    expect(performance.now() - begin).toBeLessThan(8000); // the grace period has 10 s
    expect((await storing.catch(() => undefined))?.status ?? 503).toBeLessThan(504);
    idle.close();
    busy.close();
  });

  it('after the grace period also where a call does not end, and says that it is stopping meanwhile', async () => {
    // A server that takes connections and says nothing: the store is stuck.
    const stuck = createServer((connection) => connection.on('error', () => undefined));
    stuck.listen(0, '127.0.0.1');
    await once(stuck, 'listening');
    const { port } = stuck.address() as { port: number };
    const socket = freshSocket();
    const served = await serve(['--store', `redis://127.0.0.1:${port}`, '--grace-ms', '1500'], socket);
    const space = await register(served.client);
    const other = clientOf({ socketPath: socket });
    expect((await other.json('GET', '/health')).status).toBe(200); // its connection is open
    const fetching = served.client.frames('/v1/fetch', { space, deadline_ms: 60_000, entries: [{ hash: 'a1', bytes: TOKEN_BYTES }] }).catch(() => 'broken off');
    await expect.poll(async () => (await other.json('GET', '/ready')).status, { timeout: 10_000 }).not.toBe(200);
    const begin = performance.now();
    served.child.kill('SIGTERM');
    const [code] = (await once(served.child, 'exit')) as [number | null];
    expect(code).toBe(0);
    expect(performance.now() - begin).toBeLessThan(8000);
    const answer = await fetching;
    if (typeof answer !== 'string') expect(answer.frames.map(({ status }) => status)).toEqual([2]);
    expect(existsSync(socket)).toBe(false);
    other.close();
    served.client.close();
    stuck.close();
  }, 30_000);
});

describe('a client that is killed', () => {
  it('loses its segment when the lease is over, and the daemon lives', async () => {
    const socket = freshSocket();
    const served = await serve(['--store', cli.store('lease'), '--lease-ms', '500'], socket);
    const script = `
      const call = require('node:http').request({ socketPath: ${JSON.stringify(socket)}, method: 'POST', path: '/v1/segments' }, (answer) => {
        answer.on('data', (piece) => process.stdout.write(piece));
        setInterval(() => {
          const { segment } = JSON.parse(seen);
          require('node:http').request({ socketPath: ${JSON.stringify(socket)}, method: 'POST', path: '/v1/segments/' + segment + '/renew' }).end();
        }, 100);
        let seen = '';
        answer.on('data', (piece) => (seen += piece));
      });
      call.end(JSON.stringify({ bytes: 1000000 }));`;
    const client = spawn(process.execPath, ['-e', script]);
    children.add(client);
    const [printed] = (await once(client.stdout, 'data')) as [Buffer];
    const { path } = JSON.parse(printed.toString()) as { path: string };
    expect(existsSync(path)).toBe(true);
    await new Promise((resolve) => setTimeout(resolve, 1200)); // more than two leases: it is renewed
    expect(existsSync(path)).toBe(true);
    client.kill('SIGKILL');
    await expect.poll(() => existsSync(path), { timeout: 5000 }).toBe(false);
    expect((await served.client.json('GET', '/health')).status).toBe(200);
    expect(await served.stop()).toBe(0);
  });
});
