import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, watch, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { prefixHashes } from '../../lib/index.js';
import { cliProcess, filesIn, REAL, writeSmall as writeSmallAt, type CliProcess, type Result } from './cli-process.js';
import { fileBytes, noise, partsOf } from './safetensors-bytes.js';

let cli: CliProcess;
let folder = '';
const at = (name: string): string => cli.at(name);
const store = (name: string): string => cli.store(name);
const kvreel = (...args: string[]): Promise<Result> => cli.run(args);
const kvreelWith = (env: Record<string, string>, ...args: string[]): Promise<Result> => cli.run(args, env);
const ok = (...args: string[]): Promise<string> => cli.ok(...args);
const failure = (status: number, ...args: string[]): Promise<{ code: string; message: string }> => cli.failure(status, ...args);
const writeSmall = (name: string, options: Parameters<typeof writeSmallAt>[1] = {}): string => writeSmallAt(at(name), options);

function expectSameFile(a: string, b: string): void {
  expect(Buffer.compare(readFileSync(a), readFileSync(b))).toBe(0);
}

beforeAll(async () => {
  cli = await cliProcess('cli-test');
  folder = cli.folder;
}, 60_000);

afterAll(() => cli.dispose());

describe('encode and decode', () => {
  it.each(['auto', 'exact', 'raw', 'zstd'])('give back the same file (%s)', async (codec) => {
    const encoded = JSON.parse(await ok('encode', REAL, '-o', at(`${codec}.kvr`), '--codec', codec, '--json')) as Record<string, unknown>;
    expect(encoded).toMatchObject({ raw_bytes: 5898240, stored_bytes: statSync(at(`${codec}.kvr`)).size, rung: 'exact', identical: true });
    await ok('decode', at(`${codec}.kvr`), '-o', at(`${codec}.safetensors`));
    expectSameFile(at(`${codec}.safetensors`), REAL);
    expect(await ok('verify', at(`${codec}.kvr`))).toContain('is sound');
  });

  it('give back captures of no single geometry, with a warning', async () => {
    const input = writeSmall('odd.safetensors', { extra: true });
    const { status, stderr } = await kvreel('encode', input, '-o', at('odd.kvr'));
    expect(status).toBe(0);
    expect(stderr).toContain('is kept as bytes');
    await ok('decode', at('odd.kvr'), '-o', at('odd-back.safetensors'));
    expectSameFile(at('odd-back.safetensors'), input);
  });

  it('take options from flags, then from the environment', async () => {
    const input = writeSmall('env.safetensors');
    const fromEnvironment = await kvreelWith({ KV_CODEC: 'raw', KV_THREADS: '1' }, 'encode', input, '-o', at('env.kvr'), '--json');
    expect(JSON.parse(fromEnvironment.stdout)).toMatchObject({ codec: 'raw' });
    const fromFlag = await kvreelWith({ KV_CODEC: 'raw' }, 'encode', input, '-o', at('env.kvr'), '--force', '--json', '--codec', 'exact');
    expect(JSON.parse(fromFlag.stdout)).toMatchObject({ codec: 'exact' });
  });

  it('inspect tells what is inside', async () => {
    await ok('encode', REAL, '-o', at('inspect.kvr'), '--group-tokens', '64');
    expect(JSON.parse(await ok('inspect', at('inspect.kvr'), '--json'))).toMatchObject({
      codec: 'exact',
      rung: 'exact',
      group_tokens: 64,
      sections: { count: 120 },
      layout: { order: 'split', layers: 30, tokens: 256, kv_heads: 3, head_dim: 64 },
      metadata: { model: 'smollm2-135m' },
    });
  });

  it('a lossy capture comes back with the same names, shapes, tokens and text', async () => {
    await ok('encode', REAL, '-o', at('lossy.kvr'), '--quality', 'lossy');
    await ok('decode', at('lossy.kvr'), '-o', at('lossy.safetensors'));
    const [lossy, real] = [readFileSync(at('lossy.safetensors')), readFileSync(REAL)];
    const headerEnd = 8 + Number(real.readBigUInt64LE(0));
    expect(Buffer.compare(lossy.subarray(0, headerEnd), real.subarray(0, headerEnd))).toBe(0);
    expect(Buffer.compare(lossy.subarray(-1024), real.subarray(-1024))).toBe(0);
    expect(lossy.length).toBe(real.length);
    expect(statSync(at('lossy.kvr')).size).toBeLessThan(real.length / 3);
  });

  it('extract writes a bare video stream, where there is one', async () => {
    await ok('encode', REAL, '-o', at('video.kvr'), '--quality', 'lossy', '--codec', 'hevc');
    await ok('extract', at('video.kvr'), '--stream', '0', '-o', at('video.hevc'));
    expect(readFileSync(at('video.hevc')).subarray(0, 5)).toEqual(Buffer.of(0, 0, 0, 1, 0x40)); // a video parameter set
    expect(await failure(2, 'extract', at('video.kvr'), '--stream', '999', '-o', at('x.hevc'))).toMatchObject({ code: 'USAGE' });
    expect(await failure(1, 'extract', at('inspect.kvr'), '-o', at('x.hevc'))).toMatchObject({ code: 'KV_UNSUPPORTED' });
  });
});

describe('put, fetch and ls', () => {
  it('give back the same file by its prefix hash, which is vLLM\'s', async () => {
    const put = JSON.parse(await ok('put', REAL, '--store', store('real'), '--chunk-tokens', '64', '--json')) as { prefix_hash: string; chunks: number; stored_bytes: number };
    const file = readFileSync(REAL);
    const tokens = new Int32Array(new Uint8Array(file.subarray(-1024)).buffer);
    expect(put.prefix_hash).toBe(prefixHashes(tokens, { chunkTokens: 64 }).at(-1));
    expect(put).toMatchObject({ chunks: 4, raw_bytes: 5898240, tokens: 256 });
    await ok('fetch', put.prefix_hash, '--store', store('real'), '-o', at('fetched.safetensors'));
    expectSameFile(at('fetched.safetensors'), REAL);
    const listed = JSON.parse(await ok('ls', '--store', store('real'), '--json')) as { runs: unknown[]; chunks: unknown[]; stored_bytes: number };
    expect(listed.runs).toMatchObject([{ prefix_hash: put.prefix_hash, model: 'smollm2-135m', tokens: 256, chunks: 4 }]);
    expect(listed.chunks).toHaveLength(4);
    expect(listed.stored_bytes).toBe(put.stored_bytes);
  });

  it.each([
    ['a last chunk that is not complete', { tokens: 40 }, '16'],
    ['fewer tokens than a chunk', { tokens: 5 }, '16'],
    ['a start in mid-sequence', { tokens: 32, start: 100 }, '16'],
    ['no single geometry', { tokens: 40, extra: true }, '16'],
  ])('give back a capture with %s', async (name, options, chunkTokens) => {
    const input = writeSmall('small.safetensors', options);
    const url = store(name.replaceAll(' ', '-'));
    const put = JSON.parse(await ok('put', input, '--store', url, '--chunk-tokens', chunkTokens, '--json')) as { prefix_hash: string };
    await ok('fetch', put.prefix_hash, '--store', url, '-o', at('small-back.safetensors'), '--force');
    expectSameFile(at('small-back.safetensors'), input);
  });

  it('keep captures apart that differ in start, model or dtype only', async () => {
    const url = store('apart');
    const hashes: string[] = [];
    const inputs = [{}, { start: 8 }, { start: 16 }, { metadata: { model: 'other' } }].map((options, i) => writeSmall(`apart-${i}.safetensors`, { ...options, seed: 1 }));
    for (const input of inputs) hashes.push((JSON.parse(await ok('put', input, '--store', url, '--json')) as { prefix_hash: string }).prefix_hash);
    expect(new Set(hashes).size).toBe(3);
    for (const i of [1, 2]) {
      await ok('fetch', hashes[i] ?? '', '--store', url, '-o', at('apart-back.safetensors'), '--force');
      expectSameFile(at('apart-back.safetensors'), inputs[i] ?? '');
    }
    const { code, message } = await failure(1, 'fetch', hashes[0] ?? '', '--store', url, '-o', at('apart-x.safetensors'));
    expect(code).toBe('KV_INVALID_INPUT');
    const namespaces = /([0-9a-f]{32}) \(other/.exec(message);
    await ok('fetch', hashes[0] ?? '', '--store', url, '--namespace', namespaces?.[1] ?? '', '-o', at('apart-x.safetensors'));
    expectSameFile(at('apart-x.safetensors'), inputs[3] ?? '');
  });

  it('answer a miss with 3', async () => {
    expect(await failure(3, 'fetch', 'ab'.repeat(32), '--store', store('real'), '-o', at('miss.safetensors'))).toMatchObject({ code: 'MISS' });
    expect(await failure(3, 'fetch', 'ab'.repeat(32), '--store', store('never-made'), '-o', at('miss.safetensors'))).toMatchObject({ code: 'MISS' });
    expect(readdirSync(folder)).not.toContain('miss.safetensors');
  });

  it('tell of a damaged chunk with its code, and write nothing', async () => {
    const put = JSON.parse(await ok('put', writeSmall('damage.safetensors'), '--store', store('damage'), '--json')) as { prefix_hash: string };
    const largest = filesIn(at('damage')).sort((a, b) => statSync(b).size - statSync(a).size)[0] ?? '';
    const bytes = readFileSync(largest);
    bytes[2000] = (bytes[2000] ?? 0) ^ 1;
    writeFileSync(largest, bytes);
    expect(await failure(1, 'fetch', put.prefix_hash, '--store', store('damage'), '-o', at('damage-back.safetensors'))).toMatchObject({ code: 'KV_CORRUPT_OBJECT' });
    expect(readdirSync(folder)).not.toContain('damage-back.safetensors');
  });

  it('need token ids and a model', async () => {
    const { header, data } = partsOf([{ name: 'layers.0.k', dtype: 'BF16', shape: [1, 2, 8], bytes: noise(32) }], { model: 'm' });
    writeFileSync(at('bare.safetensors'), fileBytes(header, data));
    expect(await failure(1, 'put', at('bare.safetensors'), '--store', store('bare'))).toMatchObject({ code: 'KV_INVALID_INPUT', message: expect.stringContaining('token_ids') as string });
    const nameless = writeSmall('nameless.safetensors', { metadata: { model: '' } });
    expect(await failure(1, 'put', nameless, '--store', store('bare'))).toMatchObject({ code: 'KV_INVALID_INPUT', message: expect.stringContaining('model') as string });
    expect(readdirSync(folder)).not.toContain('bare');
  });
});

describe('bad input: a coded error, and nothing is written', () => {
  const real = readFileSync(REAL);
  const flipped = (bytes: Buffer, index: number): Buffer => {
    const copy = Buffer.from(bytes);
    copy[index] = (copy[index] ?? 0) ^ 0x10;
    return copy;
  };
  const length = (bytes: bigint): Buffer => {
    const buffer = Buffer.alloc(16);
    buffer.writeBigUInt64LE(bytes);
    return buffer;
  };
  const headed = (fields: Record<string, unknown>) => fileBytes(JSON.stringify({ 'layers.0.k': { dtype: 'BF16', shape: [1, 1, 8], data_offsets: [0, 16], ...fields } }), noise(16));

  it.each<[string, () => Buffer]>([
    ['is empty', () => Buffer.alloc(0)],
    ['has 7 bytes', () => Buffer.alloc(7)],
    ['is cut in its header', () => real.subarray(0, 3000)],
    ['is cut in its data', () => real.subarray(0, -1)],
    ['has a byte too many', () => Buffer.concat([real, Buffer.alloc(1)])],
    ['has a flipped bit in its header', () => flipped(real, 8)],
    ['says that its header is huge', () => length(2n ** 63n)],
    ['says that its header is longer than it', () => length(4096n)],
    ['is text', () => Buffer.from('once upon a time there was a file that held no KV at all')],
    ['has an unknown dtype', () => headed({ dtype: 'BF17' })],
    ['has a dtype that does not fit', () => headed({ dtype: 'F32' })],
    ['has NaN for a shape', () => fileBytes('{"layers.0.k":{"dtype":"BF16","shape":[NaN],"data_offsets":[0,16]}}', noise(16))],
    ['has a negative shape', () => headed({ shape: [-1, -1, 8] })],
    ['has an immense shape', () => headed({ shape: [2 ** 52, 2 ** 52] })],
    ['holds no KV', () => fileBytes('{"weight":{"dtype":"BF16","shape":[8],"data_offsets":[0,16]}}', noise(16))],
  ])('a .safetensors that %s', async (_, bytes) => {
    writeFileSync(at('bad.safetensors'), bytes());
    const before = readdirSync(folder);
    const { code, message } = await failure(1, 'encode', at('bad.safetensors'), '-o', at('bad.kvr'));
    expect(code).toBe('KV_INVALID_INPUT');
    expect(message).toContain('bad.safetensors');
    expect(readdirSync(folder)).toEqual(before);
  });

  it('a .kvr that is empty, cut, flipped, longer or something else', async () => {
    await ok('encode', writeSmall('good.safetensors'), '-o', at('good.kvr'));
    const good = readFileSync(at('good.kvr'));
    const bad = [Buffer.alloc(0), good.subarray(0, 20), good.subarray(0, 40), good.subarray(0, -1), Buffer.concat([good, Buffer.alloc(1)]), flipped(good, 40), flipped(good, good.length - 1), real];
    for (const bytes of bad) {
      writeFileSync(at('bad.kvr'), bytes);
      const before = readdirSync(folder);
      expect(await failure(1, 'decode', at('bad.kvr'), '-o', at('bad-back.safetensors'))).toMatchObject({ code: 'KV_CORRUPT_OBJECT', message: expect.stringContaining('bad.kvr') as string });
      expect((await failure(1, 'verify', at('bad.kvr'))).code).toBe('KV_CORRUPT_OBJECT');
      expect(readdirSync(folder)).toEqual(before);
    }
    writeFileSync(at('bad.kvr'), flipped(good, 5));
    expect((await failure(1, 'inspect', at('bad.kvr'))).code).toBe('KV_UNSUPPORTED_VERSION');
  }, 60_000);

  it('names that are not there, or no files', async () => {
    expect((await failure(1, 'encode', at('nowhere.safetensors'), '-o', at('n.kvr'))).code).toBe('KV_INVALID_INPUT');
    expect((await failure(1, 'encode', folder, '-o', at('n.kvr'))).code).toBe('KV_INVALID_INPUT');
    expect((await failure(1, 'encode', REAL, '-o', at('no-folder/n.kvr'))).code).toBe('KV_INVALID_INPUT');
    expect((await failure(1, 'encode', REAL, '-o', folder, '--force')).code).toBe('KV_INVALID_INPUT');
  });

  it('control characters in names do not reach the terminal', async () => {
    writeFileSync(at('escape.safetensors'), fileBytes('{"\\u001b[2J":{"dtype":"BF17","shape":[],"data_offsets":[0,0]}}'));
    const { status, stderr } = await kvreel('encode', at('escape.safetensors'), '-o', at('escape.kvr'));
    expect(status).toBe(1);
    expect(stderr).not.toContain('\u001b');
  });
});

describe('outputs', () => {
  it('are not overwritten unless asked, through links neither', async () => {
    writeFileSync(at('mine.kvr'), 'mine');
    symlinkSync(at('mine.kvr'), at('link.kvr'));
    const input = writeSmall('over.safetensors');
    for (const out of ['mine.kvr', 'link.kvr']) expect((await failure(1, 'encode', input, '-o', at(out))).code).toBe('KV_EXISTS');
    expect(readFileSync(at('mine.kvr'), 'utf8')).toBe('mine');
    await ok('encode', input, '-o', at('link.kvr'), '--force');
    expect(readFileSync(at('mine.kvr')).subarray(0, 4).toString()).toBe('KVRL');
    expect(await failure(1, 'encode', input, '-o', '/dev/null', '--force')).toMatchObject({ code: 'KV_INVALID_INPUT' });
  });

  it.skipIf(process.platform !== 'linux')('are refused with a code where this user may not write', async () => {
    // Root may write anywhere but into the kernel's own folders.
    const place = process.getuid?.() === 0 ? '/sys/kvreel.kvr' : '/kvreel.kvr';
    expect((await failure(1, 'encode', writeSmall('perm.safetensors'), '-o', place)).code).toBe('KV_PERMISSION');
  });

  it('leave nothing on a full disk', async ({ skip }) => {
    mkdirSync(at('full'));
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', at('full')], { stdio: 'ignore' });
    } catch {
      skip('needs the right to mount');
    }
    try {
      expect((await failure(1, 'encode', REAL, '-o', at('full/x.kvr'))).code).toBe('KV_NO_SPACE');
      expect(readdirSync(at('full'))).toEqual([]);
      expect((await failure(1, 'put', REAL, '--store', store('full/store'))).code).toBe('KV_NO_SPACE');
      expect(filesIn(at('full'))).toEqual([]);
    } finally {
      execFileSync('umount', [at('full')]);
    }
  });

  it('are left whole or not at all by Ctrl-C', async () => {
    const child = spawn(process.execPath, [cli.path, 'put', REAL, '--store', store('stopped'), '--chunk-tokens', '1'], { stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    child.stderr.on('data', (data: Buffer) => (stderr += data.toString()));
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
    mkdirSync(at('stopped'));
    const started = new Promise<void>((resolve) => {
      const watcher = watch(at('stopped'), (_, name) => {
        if (!/^[0-9a-f]{2}$/.test(name ?? '')) return; // the first chunk is stored
        watcher.close();
        resolve();
      });
    });
    await started;
    child.kill('SIGINT');
    expect(await ended, stderr).toBe(130);
    const listed = JSON.parse(await ok('ls', '--store', store('stopped'), '--json')) as { runs: unknown[]; chunks: unknown[] };
    expect(listed.runs).toEqual([]);
    expect(listed.chunks.length).toBeGreaterThan(0);
    expect(readdirSync(at('stopped/temp'))).toEqual([]);
  });
});

describe('how it is called', () => {
  it.each([
    [[]],
    [['dance']],
    [['bench']],
    [['encode']],
    [['encode', 'a', 'b', '-o', 'c']],
    [['encode', 'a']],
    [['encode', 'a', '-o']],
    [['encode', 'a', '-o', 'x.kvr', '--speed', '11']],
    [['encode', 'a', '-o', 'x.kvr', '--quality', 'best']],
    [['encode', 'a', '-o', 'x.kvr', '--codec', 'mp3']],
    [['encode', 'a', '-o', 'x.kvr', '--threads', '-1']],
    [['encode', 'a', '-o', 'x.kvr', '--group-tokens', '0']],
    [['put', 'a']],
    [['put', 'a', '--store', '/var/cache/kv']],
    [['put', 'a', '--store', 'fs://var/cache/kv']],
    [['put', 'a', '--store', 'ftp:///x']],
    [['fetch', 'NOT-HEX', '--store', 'fs:///x', '-o', 'y']],
  ])('%j is a wrong call', async (args) => {
    expect((await failure(2, ...args)).code).toBe('USAGE');
  });

  it('every command has help, for people and as JSON', async () => {
    const help = JSON.parse(await ok('--help', '--json')) as { commands: { name: string }[] };
    expect(help.commands.map(({ name }) => name)).toEqual(['encode', 'decode', 'inspect', 'verify', 'extract', 'put', 'fetch', 'ls', 'stats', 'gc', 'import lmcache', 'export lmcache', 'bench codec', 'serve', 'doctor']);
    const texts = await Promise.all(help.commands.map(({ name }) => ok(...name.split(' '), '--help')));
    texts.forEach((text, i) => expect(text).toMatch(new RegExp(`^kvreel ${help.commands[i]?.name}`)));
    expect(await ok('--version')).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it('bench codec measures every codec', async () => {
    const results = JSON.parse(await ok('bench', 'codec', writeSmall('bench.safetensors'), '--json')) as Record<string, unknown>[];
    expect(results.map(({ codec }) => codec)).toEqual(expect.arrayContaining(['raw', 'exact', 'zstd']));
    for (const result of results) {
      expect(Object.keys(result)).toEqual(['file', 'codec', 'rung', 'bits_per_value', 'encode_MBps', 'decode_MBps', 'max_abs_error', 'rel_rms_error', 'identical']);
      if (result.rung === 'exact') expect(result).toMatchObject({ identical: true, max_abs_error: 0, rel_rms_error: 0 });
    }
  });
});
