// Our plugins in the real LMCache: as its controllers and backends use them, and under the tools that LMCache brings to check and measure plugins.
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startDaemon, type Daemon } from '../../connectors/engine/daemon.js';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { cliProcess, type CliProcess } from '../engine/cli-process.js';
import { lmcachePython } from './lmcache-process.js';
import { pythonEnvironment, runUnittest } from './unittest-process.js';

const KV_SHAPE = '(2,64,16,2,16):bfloat16:4';
const REQUESTS = 3;
const CHUNKS = 4;

let cli: CliProcess;
const daemons: Daemon[] = [];

beforeAll(async () => {
  cli = await cliProcess('cli-lmcache');
});

afterAll(async () => {
  await Promise.all(daemons.map((daemon) => daemon.stop()));
  cli?.dispose();
});

/** A daemon over a folder that is its own; its socket. */
async function daemonFor(name: string): Promise<string> {
  const socket = cli.at(`${name}.socket`);
  daemons.push(await startDaemon({ connector: filesystem({ path: cli.at(name) }), socket }));
  return socket;
}

function l2Adapter(address: string, params: Record<string, unknown> = {}): string {
  return JSON.stringify({ type: 'plugin', module_path: 'kvreel.lmcache_l2', class_name: 'KvreelL2Adapter', adapter_params: { address, ...params } });
}

async function run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  const { stdout, stderr } = await promisify(execFile)(lmcachePython(), args, { env: { ...pythonEnvironment(cli.path), ...env }, maxBuffer: 1 << 26 });
  return stdout + stderr;
}

describe('the plugins as LMCache uses them', () => {
  it.each(['test_l2_adapter', 'test_remote_connector'])('%s', { timeout: 300_000 }, (module) => runUnittest(module, cli.path));
});

describe("LMCache's basic_check", () => {
  function expectAllPassed(report: string, validations: number): void {
    const counts = [...report.matchAll(/Validation[^:]*: (\d+)\/(\d+)/g)].map(([, passed, all]) => [Number(passed), Number(all)]);
    expect(counts, report).toEqual(Array.from({ length: validations }, () => [5, 5]));
  }

  it('passes on the L2 adapter', { timeout: 120_000 }, async () => {
    const socket = await daemonFor('check-l2');
    const report = await run(['-m', 'lmcache.v1.basic_check', '--mode', 'test_l2_adapter', '--l2-adapter', l2Adapter(socket)]);
    expectAllPassed(report, 4);
    expect(report).toContain('Batch store OK');
  });

  it.each([
    ['test_remote', true],
    ['test_storage_manager', false],
  ] as const)('passes %s on the remote connector', { timeout: 120_000 }, async (mode, isByUrl) => {
    const socket = await daemonFor(mode);
    const plugin = { module_path: 'kvreel.lmcache_remote', class_name: 'KvreelConnectorAdapter', ...(!isByUrl && { address: socket }) };
    const config = {
      chunk_size: 256,
      local_cpu: false,
      max_local_cpu_size: 0.1,
      remote_serde: 'naive',
      ...(isByUrl && { remote_url: `kvreel://${socket}` }),
      remote_storage_plugins: ['kvreel'],
      extra_config: Object.fromEntries(Object.entries(plugin).map(([name, value]) => [`remote_storage_plugin.kvreel.${name}`, value])),
    };
    const file = cli.at(`${mode}.yaml`);
    // JSON is YAML too.
    writeFileSync(file, JSON.stringify(config));
    expectAllPassed(await run(['-m', 'lmcache.v1.basic_check', '--mode', mode], { LMCACHE_CONFIG_FILE: file }), 5);
  });
});

describe("LMCache's bench", () => {
  it('l2 stores, looks up and loads with what it loaded verified', { timeout: 120_000 }, async () => {
    const socket = await daemonFor('bench-l2');
    const report = await run(['-m', 'lmcache.cli.main', 'bench', 'l2', '--l2-adapter', l2Adapter(socket), '--num-keys', '8', '--rounds', '2', '--lookup-max-hit-rate', '1', '--no-skip-verify']);
    const counts = (name: string): string[] => [...report.matchAll(new RegExp(`${name}:\\s+(\\S+)`, 'g'))].map(([, count]) => count ?? '');
    expect(counts('Total keys'), report).toEqual(['16', '16', '16']);
    expect(counts('Total success')).toEqual(['16', '16', '16']);
    expect(counts('Rounds timed out')).toEqual(['0', '0', '0']);
    expect(report).toMatch(/verif/i);
    expect(report).not.toMatch(/mismatch/i);
  });

  it.each(['sockets', 'shared memory'])('server: what one server stored another reads back from us by %s, checksums and all', { timeout: 240_000 }, async (way) => {
    const name = way.replace(' ', '-');
    const socket = await daemonFor(`bench-${name}`);
    const shm = way === 'shared memory' ? ['--shm-name', randomUUID()] : [];
    // L1 keeps nothing that is stored below it, and after the restart it has nothing at all: each read is ours.
    const first = await bench(socket, shm);
    expect(first.report).toContain(`Checksum OK:`);
    expect(first.report.match(/CHECKSUM MATCH OK/g)).toHaveLength(REQUESTS);
    const second = await bench(socket, shm);
    expect(second.checksums).toEqual(first.checksums);
    expect(second.adapter.counters.hits).toBeGreaterThanOrEqual(REQUESTS * CHUNKS);
    expect(second.adapter.counters.misses).toEqual({});
    for (const { adapter } of [first, second]) {
      expect(adapter).toMatchObject({ is_healthy: true, uses_shared_memory: way === 'shared memory' });
      expect(adapter.counters.failures).toEqual({});
    }
  });
});

interface BenchResult {
  readonly report: string;
  /** Of what was retrieved, one a request. */
  readonly checksums: readonly string[];
  readonly adapter: { readonly counters: { readonly hits: number; readonly misses: object; readonly failures: object } };
}

/** A new LMCache server, and the same requests to it each time. */
async function bench(address: string, options: readonly string[]): Promise<BenchResult> {
  const [port, httpPort] = [await freePort(), await freePort()];
  const adapter = l2Adapter(address, { order: 'lmcache_2ltd', kv_heads: 2, head_dim: 16 });
  const server = spawn(
    lmcachePython(),
    ['-m', 'lmcache.cli.main', 'server', '--host', '127.0.0.1', '--port', String(port), '--http-port', String(httpPort), '--l1-size-gb', '0.1', '--eviction-policy', 'LRU']
      .concat(['--chunk-size', '64', '--supported-transfer-mode', 'auto', '--l2-store-policy', 'skip_l1', '--l2-adapter', adapter], options),
    { env: pythonEnvironment(cli.path), stdio: ['ignore', 'pipe', 'pipe'] },
  );
  try {
    await listening(server, `http://127.0.0.1:${httpPort}/healthcheck`);
    const places = ['--rpc-url', `tcp://127.0.0.1:${port}`, '--url', `http://127.0.0.1:${httpPort}`];
    const requests = ['--kvcache-shape-spec', KV_SHAPE, '--num-tokens', String(CHUNKS * 64), '--end', String(REQUESTS), '--interval', '0.3'];
    const report = await run(['-m', 'lmcache.cli.main', 'bench', 'server', '--mode', 'cpu', ...places, ...requests]);
    const status = (await (await fetch(`http://127.0.0.1:${httpPort}/status`)).json()) as { storage_manager: { l2_adapters: [BenchResult['adapter']] } };
    return {
      report,
      checksums: [...report.matchAll(/\/warm\] CHECKSUM: ([0-9a-f]+)/g)].map(([, checksum]) => checksum ?? ''),
      adapter: status.storage_manager.l2_adapters[0],
    };
  } finally {
    server.kill('SIGTERM');
    if (server.exitCode === null) await once(server, 'exit');
  }
}

async function listening(server: ChildProcess, url: string): Promise<void> {
  let said = '';
  for (const stream of [server.stdout, server.stderr]) stream?.on('data', (text: Buffer) => (said = `${said}${text.toString()}`.slice(-4000)));
  await expect
    .poll(
      async () => {
        if (server.exitCode !== null) throw new Error(`the server ended:\n${said}`);
        return fetch(url).then(
          (answer) => answer.ok,
          () => false,
        );
      },
      { timeout: 100_000, interval: 250 },
    )
    .toBe(true);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
