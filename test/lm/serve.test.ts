// `kvreel serve --lm-port` as a process: lm:// beside the daemon, what an operator sees of both, and a restart.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { cliProcess, type CliProcess } from '../engine/cli-process.js';
import { COMMAND, LmClient, randomBytes, type RawRequest } from './client.js';

const TOKEN = 'token-of-this-test-alone';
const KEY = 'org/model@1@0@-274654dcc82ea3f3@bfloat16';
const SHAPE = [2, 3, 8, 32];
const BYTES = 2 * 3 * 8 * 32 * 2;
const PUT: RawRequest = { command: COMMAND.put, length: BYTES, dtype: 3, shape: SHAPE, key: KEY };

interface Serving {
  readonly url: string;
  readonly lmPort: number;
  readonly log: readonly Record<string, unknown>[];
  get(path: string): Promise<Response>;
  stop(): Promise<number | null>;
}

let cli: CliProcess;
let child: ChildProcess | undefined;

beforeAll(async () => {
  cli = await cliProcess('lm-serve-test');
  writeFileSync(cli.at('token'), TOKEN);
}, 60_000);

afterEach(() => void child?.kill('SIGKILL'));
afterAll(() => cli.dispose());

async function serve(store: string, ...args: readonly string[]): Promise<Serving> {
  const all = ['serve', '--store', cli.store(store), '--host', '127.0.0.1', '--port', '0', '--token-file', cli.at('token'), '--lm-port', '0', '--log-level', 'debug', '--json', ...args];
  const started = spawn(process.execPath, [cli.path, ...all], { cwd: cli.folder });
  child = started;
  const exited = once(started, 'exit') as Promise<[number | null]>;
  const log: Record<string, unknown>[] = [];
  createInterface({ input: started.stderr }).on('line', (line) => void log.push(JSON.parse(line) as Record<string, unknown>));
  const [printed] = (await once(started.stdout, 'data')) as [Buffer];
  const { port, lm_port: lmPort } = JSON.parse(printed.toString()) as { port: number; lm_port: number };
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    lmPort,
    log,
    get: (path) => fetch(url + path, { headers: { authorization: `Bearer ${TOKEN}` } }),
    async stop() {
      started.kill('SIGTERM');
      return (await exited)[0];
    },
  };
}

describe('kvreel serve --lm-port', () => {
  it('keeps what LMCache puts, finds it after a restart, and shows both in metrics, statistics and log', async () => {
    const data = randomBytes(BYTES, 1);
    const first = await serve('lm', '--lm-kv-heads', '2', '--lm-head-dim', '16');
    const writer = await LmClient.to(first.lmPort);
    writer.send(PUT, data);
    expect(await writer.ask({ command: COMMAND.exist, key: KEY })).toMatchObject({ code: 200 });
    expect(await first.stop()).toBe(0);
    expect(first.log.map(({ msg }) => msg)).toEqual(expect.arrayContaining(['serving', 'lm request', 'stopping', 'stopped']));

    const second = await serve('lm', '--lm-kv-heads', '2', '--lm-head-dim', '16');
    const reader = await LmClient.to(second.lmPort);
    expect((await reader.ask({ command: COMMAND.get, key: KEY }))?.data).toEqual(data);
    const metrics = await (await second.get('/metrics')).text();
    expect(metrics).toContain('kvreel_lm_requests_total{command="get",outcome="hit"} 1');
    expect(metrics).toMatch(/kvreel_storage_calls_total\{connector="filesystem",verb="get",outcome="hit"\} \d/);
    expect(await (await second.get('/v1/stats')).json()).toMatchObject({ lm: { requests: { get: { hit: 1 } }, got_bytes: BYTES }, store: { state: 'ok' } });
    expect(await (await fetch(`${second.url}/`)).text()).toContain('<title>kvreel</title>');
    expect(await second.stop()).toBe(0);
    expect(JSON.stringify([...first.log, ...second.log])).not.toContain(TOKEN);
  });

  it('warns where others may reach it', async () => {
    const { log, stop } = await serve('open', '--lm-host', '0.0.0.0');
    await expect.poll(() => log.map(({ level, msg }) => `${level} ${msg}`)).toContainEqual(expect.stringMatching(/^warn lm:\/\/ knows no password and listens on 0\.0\.0\.0/));
    expect(await stop()).toBe(0);
  });

  it('stops at once where a client does nothing', async () => {
    const { lmPort, stop } = await serve('idle');
    const client = await LmClient.to(lmPort);
    expect(await client.ask({ command: COMMAND.health })).toMatchObject({ code: 200 });
    expect(await stop()).toBe(0);
    await client.closed();
  });

  it.each([
    [['--lm-kv-heads', '2'], /--lm-port/],
    [['--lm-port', '0', '--lm-kv-heads', '2'], /--lm-head-dim together/],
    [['--lm-port', '0', '--lm-order', 'fused'], /with --lm-order/],
    [['--lm-port', '70000'], /at most 65535/],
    [['--lm-port', '1', '--lm-host', '256.0.0.1'], /256\.0\.0\.1/],
  ])('says what is wrong with %o', async (args, message) => {
    const { status, stderr } = await cli.run(['serve', '--store', cli.store('none'), '--socket', cli.at('x.sock'), ...args]);
    expect(stderr).toMatch(message);
    expect(status).toBeGreaterThan(0);
  });
});
