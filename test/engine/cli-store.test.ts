// The commands that look after a store, and what every command that uses one promises.
import { spawn } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cliProcess, filesIn, REAL, writeSmall, type CliProcess } from './cli-process.js';

let cli: CliProcess;

beforeAll(async () => {
  cli = await cliProcess('cli-store-test');
}, 60_000);

afterAll(() => cli.dispose());

interface Put {
  readonly prefix_hash: string;
  readonly stored_bytes: number;
  readonly namespace: string;
}

/** Puts a small capture of `chunks` chunks. */
async function put(store: string, { seed = 1, chunks = 2 } = {}): Promise<Put> {
  const input = writeSmall(cli.at(`in-${seed}-${chunks}.safetensors`), { tokens: 16 * chunks, seed });
  return (await cli.json('put', input, '--store', cli.store(store), '--chunk-tokens', '16')) as Put;
}

/** Turns a bit of the largest file of a store: a chunk. */
function damage(store: string): void {
  const largest = filesIn(cli.at(store)).sort((a, b) => statSync(b).size - statSync(a).size)[0] ?? '';
  const bytes = readFileSync(largest);
  bytes[700] = (bytes[700] ?? 0) ^ 1;
  writeFileSync(largest, bytes);
}

describe('stats', () => {
  it('counts what is there', async () => {
    const { namespace, stored_bytes: bytes } = await put('stats', { chunks: 3 });
    expect(await cli.json('stats', '--store', cli.store('stats'))).toMatchObject({
      chunks: { count: 3, bytes },
      runs: { count: 1 },
      others: { count: 0 },
      namespaces: [{ namespace, model: 'tiny', dtype: 'bf16', rung: 'exact', is_salted: false, chunks: { count: 3, bytes } }],
    });
    expect(await cli.ok('stats', '--store', cli.store('stats'))).toMatch(/chunks +3, .*\n.*tiny/s);
  });

  it('of a store that was never made is all zeros', async () => {
    expect(await cli.json('stats', '--store', cli.store('nowhere'))).toMatchObject({ chunks: { count: 0, bytes: 0 }, namespaces: [] });
  });
});

describe('gc', () => {
  it('keeps a bound, tells before what it would do, and leaves a store whose runs are whole', async () => {
    for (const seed of [1, 2, 3]) await put('gc', { seed });
    const url = cli.store('gc');
    const { chunks } = (await cli.json('stats', '--store', url)) as { chunks: { bytes: number } };
    const bound = String(Math.ceil(chunks.bytes / 2));
    const dry = (await cli.json('gc', '--store', url, '--max-bytes', bound, '--dry-run')) as Record<string, { count: number }>;
    expect(dry).toMatchObject({ dry_run: true });
    expect(((await cli.json('stats', '--store', url)) as { chunks: unknown }).chunks).toEqual(chunks);
    const real = (await cli.json('gc', '--store', url, '--max-bytes', bound)) as Record<string, { count: number; bytes: number }>;
    expect(real).toEqual({ ...dry, dry_run: false });
    expect(real.left?.bytes).toBeLessThanOrEqual(chunks.bytes / 2);
    expect(real.broken_runs?.count).toBeGreaterThan(0);
    expect(await cli.json('verify', '--store', url)).toMatchObject({ ok: true, incomplete: 0 });
  });

  it.each([
    [['--max-bytes', 'much']],
    [['--max-bytes', '-1']],
    [['--max-bytes', '5 furlongs']],
    [['--older-than', '7']],
    [['--older-than', 'd7']],
    [['--older-than', 'yesterday']],
  ])('%j is a wrong call', async (args) => {
    expect((await cli.failure(2, 'gc', '--store', cli.store('gc'), ...args)).code).toBe('USAGE');
  });
});

describe('verify --store', () => {
  it('tells what is damaged, repairs it from a copy, or deletes it', async () => {
    const { prefix_hash: hash } = await put('verify', { chunks: 3 });
    await put('copy', { chunks: 3 });
    const [url, copy] = [cli.store('verify'), cli.store('copy')];
    damage('verify');
    const found = await cli.run(['verify', '--store', url, '--json']);
    expect(found.status).toBe(1);
    expect(JSON.parse(found.stdout)).toMatchObject({ ok: false, damaged: 1, deleted: 0, findings: [{ problem: 'damaged', action: 'none' }] });
    expect(found.stderr).toContain('KV_CORRUPT_OBJECT');
    expect(await cli.json('verify', '--store', url, '--repair', '--from', copy)).toMatchObject({ ok: true, damaged: 1, replaced: 1 });
    await cli.ok('fetch', hash, '--store', url, '-o', cli.at('repaired.safetensors'));

    damage('verify');
    expect(await cli.json('verify', '--store', url, '--repair')).toMatchObject({ ok: true, damaged: 1, incomplete: 1, deleted: 2 });
    expect(await cli.json('verify', '--store', url)).toMatchObject({ ok: true, damaged: 0, chunks: 2, runs: 0 });
    await cli.failure(3, 'fetch', hash, '--store', url, '-o', cli.at('gone.safetensors'));
  });

  it('is not mixed up with the verification of a file', async () => {
    expect((await cli.failure(2, 'verify')).code).toBe('USAGE');
    expect((await cli.failure(2, 'verify', 'x.kvr', '--repair')).code).toBe('USAGE');
    expect((await cli.failure(2, 'verify', 'x.kvr', 'y.kvr')).code).toBe('USAGE');
  });
});

describe('ls', () => {
  it('lists hundreds of runs and chunks once each, as JSON and for people', async () => {
    const input = writeSmall(cli.at('many.safetensors'), { tokens: 600, layers: 1 });
    await cli.ok('put', input, '--store', cli.store('many'), '--chunk-tokens', '1');
    const listed = (await cli.json('ls', '--store', cli.store('many'))) as { runs: unknown[]; chunks: { prefix_hash: string; stored_bytes: number }[]; stored_bytes: number };
    expect(listed.runs).toMatchObject([{ tokens: 600, chunks: 600, stored_bytes: listed.stored_bytes }]);
    expect(new Set(listed.chunks.map(({ prefix_hash: hash }) => hash)).size).toBe(600);
    expect(listed.chunks.reduce((sum, { stored_bytes: bytes }) => sum + bytes, 0)).toBe(listed.stored_bytes);
    const lines = (await cli.ok('ls', '--store', cli.store('many'))).trimEnd().split('\n');
    expect(lines).toHaveLength(1 + 1 + 1 + 1 + 600 + 1 + 1);
    expect(lines.at(-1)).toMatch(/^1 runs, 600 chunks, /);
  });

  it('goes on where a manifest is damaged, and says so', async () => {
    await put('torn', { chunks: 1 });
    const manifest = filesIn(cli.at('torn')).sort((a, b) => statSync(a).size - statSync(b).size)[0] ?? '';
    const bytes = readFileSync(manifest);
    bytes[60] = (bytes[60] ?? 0) ^ 1;
    writeFileSync(manifest, bytes);
    const { status, stdout, stderr } = await cli.run(['ls', '--store', cli.store('torn'), '--json']);
    expect(status).toBe(0);
    expect(stderr).toContain('warning: runs/');
    expect(JSON.parse(stdout)).toMatchObject({ runs: [{ is_readable: false }], chunks: [{}] });
  });

  it('ends quietly where its reader stops early', async () => {
    const status = await new Promise((resolve) => {
      const child = spawn(process.execPath, [cli.path, 'ls', '--store', cli.store('many')], { stdio: ['ignore', 'pipe', 'pipe'] });
      child.stdout.destroy();
      child.on('close', resolve);
    });
    expect(status).toBe(0);
  });
});

describe('a deadline that passed', () => {
  it('is exit code 4 with a code, and nothing is written', async () => {
    const url = cli.store('late');
    const { prefix_hash: hash } = (await cli.json('put', REAL, '--store', url)) as Put;
    for (const args of [
      ['put', REAL, '--chunk-tokens', '1'],
      ['fetch', hash, '-o', cli.at('late.safetensors')],
      ['verify'],
    ]) {
      const { code, message } = await cli.failure(4, ...args, '--store', url, '--deadline', '1');
      expect(code).toBe('KV_CONNECTOR_TIMEOUT');
      expect(message).toContain('1 ms');
    }
    expect(filesIn(cli.folder).filter((name) => /late\.safetensors|\.tmp$/.test(name))).toEqual([]);
  });

  it.each(['0', '-5', 'soon', '1e3', '99999999999'])('of %s is a wrong call', async (deadline) => {
    expect((await cli.failure(2, 'ls', '--store', cli.store('x'), '--deadline', deadline)).code).toBe('USAGE');
  });
});
