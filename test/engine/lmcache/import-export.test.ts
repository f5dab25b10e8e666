// `import lmcache` and `export lmcache` on golden objects of the real LMCache, without Python.
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { exportLmcacheCommand } from '../../../connectors/engine/cli/export-lmcache.js';
import { importLmcacheCommand } from '../../../connectors/engine/cli/import-lmcache.js';
import { putCommand } from '../../../connectors/engine/cli/put.js';
import { folderOf } from '../../../connectors/engine/lmcache/folders.js';
import { filesystem } from '../../../connectors/storage/filesystem.js';
import { kvRank, objectFileName, prefixHashes } from '../../../lib/index.js';
import { KvStore } from '../../../lib/store/store.js';
import { GOLDEN, goldenObjects } from './golden.js';
import { runCommand, type Printed } from './run-command.js';

const CAPTURE = join(import.meta.dirname, '../../../fixtures/captures/smollm2-gpl3-t0-256.safetensors');

let folder = '';
const at = (name: string): string => join(folder, name);
const store = (): string => `fs://${at('store')}`;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kvreel-lmcache-'));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

function importFrom(place: string, ...args: string[]): Promise<Printed> {
  return runCommand(importLmcacheCommand, ['--from', place, '--store', store(), ...args]);
}

function exportTo(place: string, ...args: string[]): Promise<Printed> {
  return runCommand(exportLmcacheCommand, ['--to', place, '--store', store(), ...args]);
}

/** Names, lengths and digests of the files of a folder, sorted. */
function filesOf(path: string): ReturnType<typeof fileOf>[] {
  return readdirSync(path)
    .sort()
    .map((name) => fileOf(name, readFileSync(join(path, name))));
}

function fileOf(stored: string, bytes: Uint8Array): { stored: string; length: number; digest: string } {
  return { stored, length: bytes.length, digest: createHash('sha256').update(bytes).digest('hex') };
}

/** A folder with these files. */
function folderOfFiles(name: string, files: readonly { stored: string; bytes: Uint8Array }[]): string {
  mkdirSync(at(name));
  for (const { stored, bytes } of files) writeFileSync(join(at(name), stored), bytes);
  return at(name);
}

describe('what LMCache wrote', () => {
  it('comes back byte for byte: fs, in all dtypes, with tags, MLA, and a chunk that is not full', async () => {
    const { json, warnings } = await importFrom(join(GOLDEN, 'fs'), '--head-dim', '2');
    expect(json).toMatchObject({ format: 'fs', chunks: 10, skipped: 0, foreign: 0, raw_bytes: goldenObjects('fs').reduce((sum, { bytes }) => sum + bytes.length - 28, 0) });
    expect(warnings).toContain('its elements are double');
    expect((await exportTo(at('out'))).json).toMatchObject({ objects: 10, skipped: 0, others: 0 });
    expect(filesOf(at('out'))).toEqual(filesOf(join(GOLDEN, 'fs')));
  });

  it('comes back byte for byte: mp-fs, with a shape and without', async () => {
    expect((await importFrom(join(GOLDEN, 'mp-fs'), '--format', 'mp-fs')).warnings).toContain('kept as bytes');
    expect((await exportTo(at('bytes'), '--format', 'mp-fs')).json).toMatchObject({ objects: 2, others: 0 });
    expect(filesOf(at('bytes'))).toEqual(filesOf(join(GOLDEN, 'mp-fs')));
    rmSync(at('store'), { recursive: true });
    const shaped = await importFrom(join(GOLDEN, 'mp-fs'), '--format', 'mp-fs', '--shape', '2,2,8,4', '--dtype', 'bf16');
    expect(shaped.json).toMatchObject({ chunks: 1, skipped: 1 });
    expect(shaped.warnings).toContain('check shape and dtype');
    await exportTo(at('shaped'), '--format', 'mp-fs', '--chunk-tokens', '8');
    expect(filesOf(at('shaped'))).toEqual(filesOf(join(GOLDEN, 'mp-fs')).filter(({ stored }) => stored.includes('0404')));
  });

  it('is found under its own chunk hash by model, geometry and rank', async () => {
    await importFrom(join(GOLDEN, 'fs'), '--head-dim', '2');
    const connector = filesystem({ path: at('store') });
    const geometry = { order: 'lmcache_2ltd', dtype: 'bf16', layers: 2, kvHeads: 2, headDim: 2 } as const;
    const rank = { index: 1, of: 2 };
    const whole = new KvStore({ connector, namespace: { model: 'org/model', geometry, rank } });
    const chunk = await whole.fetch('7d35a9949200f801');
    expect(Buffer.from(chunk?.data ?? [])).toEqual(goldenObjects('fs').find(({ stored }) => stored.includes('f801@'))?.bytes.subarray(28));
    expect(await whole.lookup(['7d35a9949200f815'])).toBe(1);
    expect(await whole.lookup(['-274654dcc82ea3f3'])).toBe(0);
    const tagged = new KvStore({ connector, namespace: { model: 'org/model', geometry, rank, adapter: 'user%alice@team%a/b' } });
    expect(await tagged.lookup(['-274654dcc82ea3f3'])).toBe(1);
    const others = [{ model: 'org-SEP-model', geometry, rank }, { model: 'org/model', geometry }, { model: 'org/model', geometry: { ...geometry, dtype: 'f16' as const }, rank }];
    for (const namespace of others) expect(await new KvStore({ connector, namespace }).lookup(['7d35a9949200f801'])).toBe(0);
    await connector.close();
  });

  it('goes from one form to another, and back from fs-raw with the shape said', async () => {
    const bf16 = folderOfFiles('bf16', goldenObjects('fs').filter(({ stored }) => /f801@|f815@/.test(stored)));
    await importFrom(bf16);
    await exportTo(at('raw'), '--format', 'fs-raw');
    expect(filesOf(at('raw')).map(({ length }) => length)).toEqual([256, 160]);
    rmSync(at('store'), { recursive: true });
    expect((await importFrom(at('raw'), '--format', 'fs-raw', '--shape', '2,2,8,4')).json).toMatchObject({ chunks: 2, skipped: 0 });
    await exportTo(at('out'), '--format', 'fs');
    expect(filesOf(at('out'))).toEqual(filesOf(bf16));
  });

  it('is spread over several folders as LMCache does it', async () => {
    const many = [at('a'), at('b'), at('c')];
    await importFrom(join(GOLDEN, 'fs'));
    await exportTo(many.join(','));
    for (const { stored } of goldenObjects('fs')) {
      const hash = stored.split('@')[3] ?? '';
      expect(readdirSync(folderOf(many, hash))).toContain(stored);
      // Python: abs(int(hash, 16)) % 3
      const number = BigInt(`0x${hash.replace('-', '')}`);
      expect(folderOf(many, hash)).toBe(many[Number(number % 3n)]);
    }
    rmSync(at('store'), { recursive: true });
    expect((await importFrom(many.join(','))).json).toMatchObject({ chunks: 10, foreign: 0 });
  });

  it('can be stored lossily if its values are finite, and is then not exported', async () => {
    const random = goldenObjects('fs').find(({ stored }) => stored.includes('f801@'));
    const refused = await importFrom(folderOfFiles('random', random ? [random] : []), '--quality', 'lossy');
    expect(refused.json).toMatchObject({ chunks: 0, skipped: 1 });
    const finite = Buffer.alloc(256, Buffer.of(0x80, 0x3f, 0x00, 0xc0)); // 1 and -2 in turns
    const stored = random?.stored ?? '';
    const lossy = await importFrom(folderOfFiles('finite', [{ stored, bytes: Buffer.concat([random?.bytes.subarray(0, 28) ?? finite, finite]) }]), '--quality', 'lossy');
    expect(lossy.json).toMatchObject({ chunks: 1, skipped: 0 });
    expect((await exportTo(at('out'))).json).toMatchObject({ objects: 0, others: 1 });
  });
});

describe('what is damaged or not LMCache’s', () => {
  const [one] = goldenObjects('fs');
  const { stored, bytes } = one ?? { stored: '', bytes: Buffer.alloc(0) };

  it.each([
    ['cut in its metadata', bytes.subarray(0, 20)],
    ['cut in its data', bytes.subarray(0, -1)],
    ['longer', Buffer.concat([bytes, Buffer.alloc(20)])],
    ['empty', Buffer.alloc(0)],
    ['of another shape than length', Buffer.concat([bytes.subarray(0, 12), Buffer.from([3]), bytes.subarray(13)])],
    ['of an unknown dtype', Buffer.concat([bytes.subarray(0, 8), Buffer.from([77]), bytes.subarray(9)])],
  ])('is left out with a warning, and the rest imported: a file that is %s', async (_, damaged) => {
    const { json, warnings } = await importFrom(folderOfFiles('in', [...goldenObjects('fs').slice(1), { stored, bytes: damaged }]));
    expect(json).toMatchObject({ chunks: 9, skipped: 1 });
    expect(warnings).toContain(`left out ${stored}`);
  });

  it('is counted as of others: other files, and other models where one is named', async () => {
    const place = folderOfFiles('in', [...goldenObjects('fs'), { stored: 'notes.data', bytes }, { stored: 'x.tmp', bytes }, { stored: stored.replace('org', 'another'), bytes }]);
    mkdirSync(join(place, 'folder.data'));
    expect((await importFrom(place, '--model', 'org/model')).json).toMatchObject({ chunks: 10, skipped: 0, foreign: 2 });
  });

  it('is left out: one layer alone, and a rank that cannot be', async () => {
    const names = [stored.replace(/@bfloat16.*/, '@bfloat16@3.data'), stored.replace('@2@1@', '@2@2@')];
    const { json, warnings } = await importFrom(folderOfFiles('in', names.map((name) => ({ stored: name, bytes }))));
    expect(json).toMatchObject({ chunks: 0, skipped: 2 });
    expect(warnings).toMatch(/one layer alone/);
    expect(warnings).toMatch(/rank/);
  });
});

describe('a tenant', () => {
  const hash = 'ab'.repeat(32);
  const parts = { model: 'org/model', hash, kvRank: kvRank({ worldSize: 1, globalRank: 0, localWorldSize: 1, localRank: 0 }) };
  const files = ['', 'alice', 'bob'].map((cacheSalt, i) => ({ stored: objectFileName({ ...parts, cacheSalt }), bytes: Buffer.alloc(256, i + 1) }));

  it('gets its own chunks only, and its salt is stored nowhere', async () => {
    await importFrom(folderOfFiles('in', files), '--format', 'mp-fs', '--shape', '2,2,8,4', '--dtype', 'f16');
    expect((await exportTo(at('none'), '--format', 'mp-fs', '--chunk-tokens', '8')).json).toMatchObject({ objects: 1, others: 2 });
    const alice = await runCommand(exportLmcacheCommand, ['--to', at('alice'), '--store', store(), '--format', 'mp-fs', '--chunk-tokens', '8'], { KV_SALT: 'alice' });
    expect(alice.json).toMatchObject({ objects: 1, others: 2 });
    expect(filesOf(at('none'))).toEqual(files.slice(0, 1).map(({ stored, bytes }) => fileOf(stored, bytes)));
    expect(filesOf(at('alice'))).toEqual(files.slice(1, 2).map(({ stored, bytes }) => fileOf(stored, bytes)));
    const everything = readdirSync(at('store'), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    for (const entry of everything) expect(readFileSync(join(entry.parentPath, entry.name)).includes('alice')).toBe(false);
  });
});

describe('what did not come from LMCache', () => {
  it('is written under the hashes that it was put with, for the model that is named', async () => {
    await runCommand(putCommand, [CAPTURE, '--store', store(), '--chunk-tokens', '64']);
    expect((await exportTo(at('none'), '--format', 'mp-fs', '--chunk-tokens', '64')).json).toMatchObject({ objects: 0, others: 4 });
    const { json } = await exportTo(at('out'), '--format', 'mp-fs', '--model', 'smollm2-135m', '--chunk-tokens', '64');
    expect(json).toMatchObject({ objects: 4, bytes: 5898240 });
    const file = readFileSync(CAPTURE);
    const tokens = new Int32Array(new Uint8Array(file.subarray(-1024)).buffer);
    const hashes = prefixHashes(tokens, { chunkTokens: 64 });
    const names = hashes.map((hash) => objectFileName({ model: 'smollm2-135m', hash, kvRank: 0x01000100 }));
    expect(readdirSync(at('out')).sort()).toEqual(names.sort());
    rmSync(at('store'), { recursive: true });
    await importFrom(at('out'), '--format', 'mp-fs', '--shape', '2,30,64,192', '--dtype', 'bf16', '--head-dim', '64');
    await exportTo(at('again'), '--format', 'mp-fs', '--chunk-tokens', '64');
    expect(filesOf(at('again'))).toEqual(filesOf(at('out')));
  });

  it('is left out of forms that have other hashes or only full chunks, with the reason', async () => {
    await runCommand(putCommand, [CAPTURE, '--store', store(), '--chunk-tokens', '64']);
    expect((await exportTo(at('out'), '--model', 'smollm2-135m')).warnings).toContain('which fs does not store');
    expect((await exportTo(at('out'), '--format', 'mp-fs', '--model', 'smollm2-135m')).warnings).toContain('full chunks of 256 only');
  });
});

describe('a wrong call', () => {
  it.each([
    ['no place', ['--store', 'fs:///tmp/x'], 'expected --from'],
    ['a place of an unknown kind', ['--from', 'ftp://host', '--store', 'fs:///tmp/x'], '--from: expected a folder'],
    ['a format that the place cannot have', ['--from', '/tmp/x', '--format', 's3', '--store', 'fs:///tmp/x'], 'to be one of fs, fs-raw, mp-fs'],
    ['a URL that is none', ['--from', 'redis://user:secret@host:port', '--store', 'fs:///tmp/x'], 'not well-formed'],
    ['a path that is none', ['--from', 'fs:///%zz', '--store', 'fs:///tmp/x'], 'percent-encoded'],
    ['a shape that is none', ['--from', '/tmp/x', '--shape', '2,x,3', '--store', 'fs:///tmp/x'], '--shape'],
    ['a prefix in a bucket', ['--from', 's3://bucket/prefix', '--store', 'fs:///tmp/x'], 'at the top of a bucket'],
  ])('is refused: %s', async (_, args, message) => {
    await expect(runCommand(importLmcacheCommand, args)).rejects.toThrow(expect.objectContaining({ name: 'UsageError', message: expect.stringContaining(message) as string }));
  });

  it('never repeats a password', async () => {
    const error: unknown = await runCommand(importLmcacheCommand, ['--from', 'redis://user:hunter2@127.0.0.1:1', '--store', store()]).catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
    expect(String(error)).not.toContain('hunter2');
  });

  it('a folder that is not there is told of', async () => {
    await expect(importFrom(at('nowhere'))).rejects.toThrow(expect.objectContaining({ code: 'KV_INVALID_INPUT' }));
  });
});
