import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeCall, parse, UsageError } from '../../connectors/engine/cli/command.js';
import { doctorCommand } from '../../connectors/engine/cli/doctor.js';
import { makeScreen } from '../../connectors/engine/cli/screen.js';
import { prefixHashes, type PrefixHashAlgorithm } from '../../lib/index.js';
import { runCommand, type Printed } from './lmcache/run-command.js';

let folder = '';

beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'kvreel-doctor-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const SPACE = { model: 'org/model', geometry: { order: 'fused', dtype: 'bf16', layers: 30, kv_heads: 3, head_dim: 64 }, salt: 'secret of a tenant' };

function file(name: string, value: unknown): string {
  const path = join(folder, name);
  writeFileSync(path, typeof value === 'string' ? value : JSON.stringify(value));
  return path;
}

const report = (env: Record<string, string> = { PYTHONHASHSEED: '0' }, ...args: string[]): Promise<Printed> => runCommand(doctorCommand, ['--keys', ...args], env);

/** What a comparison with `other` prints, and the code that it fails with. */
async function compare(other: unknown, env: Record<string, string> = { PYTHONHASHSEED: '0' }, ...args: string[]): Promise<{ json: Record<string, unknown>; code: unknown }> {
  const path = file('other.json', other);
  const printed: string[] = [];
  const stdout = { write: (text: string) => printed.push(text) > 0, once: () => undefined };
  const stderr = { write: () => true, once: () => undefined };
  const call = makeCall(doctorCommand, parse(doctorCommand, ['--keys', '--against', path, ...args]), { screen: makeScreen({ stdout, stderr }, true), signal: new AbortController().signal, env });
  const code = await doctorCommand.run(call).then(
    () => undefined,
    (error: { code?: unknown }) => error.code,
  );
  return { json: JSON.parse(printed.join('')) as Record<string, unknown>, code };
}

describe('a report of keys', () => {
  it('has the hashes of every algorithm over the same tokens, with the seed of Python', async () => {
    const { json, warnings } = await report();
    const hashes = json.hashes as Record<PrefixHashAlgorithm, string[]>;
    const tokens = Uint32Array.from({ length: 40 }, (_, i) => (i * i * 131 + i) % 200_000);
    expect(Object.keys(hashes)).toHaveLength(8);
    for (const algorithm of ['vllm_sha256', 'vllm_sha256_cbor', 'lmcache_builtin', 'lmcache_sha256_cbor'] as const) {
      expect(hashes[algorithm]).toEqual(prefixHashes(tokens, { algorithm, chunkTokens: 16, seed: '0' }));
    }
    expect(hashes.sglang).toEqual(prefixHashes(tokens, { algorithm: 'sglang', chunkTokens: 16 }));
    expect(warnings).toBe('');
  });

  it('is the same each time', async () => {
    expect((await report()).json).toEqual((await report()).json);
  });

  it('warns where no two processes agree', async () => {
    const { json, warnings } = await report({});
    expect(json).toMatchObject({ python_hash_seed: null, hashes: { lmcache_builtin: null } });
    expect(warnings).toContain('PYTHONHASHSEED is not set');
    expect((await report({ PYTHONHASHSEED: 'random' })).warnings).toContain('no number');
  });

  it('has the digest of a space and its parts, of the salt only that there is one', async () => {
    const { json } = await report({ PYTHONHASHSEED: '0' }, '--space', file('space.json', SPACE));
    expect(json.space).toMatchObject({ digest: expect.stringMatching(/^[0-9a-f]{32}$/), model: 'org/model', is_salted: true, geometry: { kv_heads: 3 } });
    expect(JSON.stringify(json)).not.toContain('secret');
  });
});

describe('the comparison with another node', () => {
  it('agrees with the same node', async () => {
    expect(await compare((await report()).json)).toEqual({ json: { agree: true, differences: [] }, code: undefined });
  });

  it('does not mind another version that names alike', async () => {
    const other = (await report()).json;
    expect((await compare({ ...other, versions: { kvreel: '9.9.9', node: 'v99' } })).code).toBeUndefined();
  });

  it('names the seed and each hash that follows from it', async () => {
    const { json, code } = await compare((await report({ PYTHONHASHSEED: '42' })).json);
    expect(code).toBe('KV_KEYS_DIFFER');
    const fields = (json.differences as { field: string }[]).map(({ field }) => field);
    expect(fields).toEqual(['python_hash_seed', 'hashes.vllm_sha256', 'hashes.vllm_sha256_cbor', 'hashes.lmcache_builtin', 'hashes.lmcache_sha256', 'hashes.lmcache_sha256_cbor']);
  });

  it('names a seed that only one of them has', async () => {
    const { json, code } = await compare((await report()).json, {});
    expect(code).toBe('KV_KEYS_DIFFER');
    expect(json.differences).toContainEqual(expect.objectContaining({ field: 'hashes.lmcache_builtin', here: null }));
  });

  it.each([
    ['space.geometry.dtype', { geometry: { ...SPACE.geometry, dtype: 'f32' } }],
    ['space.model', { model: 'org/model2' }],
    ['space.rank.of', { rank: { index: 0, of: 4 } }],
    ['space.salt', { salt: 'another' }],
    ['space.is_salted', { salt: undefined }],
  ])('names what differs in a space: %s', async (field, over) => {
    const space = { ...SPACE, rank: { index: 0, of: 2 } };
    const [mine, theirs] = [file('mine.json', space), file('theirs.json', { ...space, ...over })];
    const { json, code } = await compare((await report({ PYTHONHASHSEED: '0' }, '--space', theirs)).json, { PYTHONHASHSEED: '0' }, '--space', mine);
    expect(code).toBe('KV_KEYS_DIFFER');
    expect((json.differences as { field: string }[]).map((difference) => difference.field)).toContain(field);
  });

  it('names a space that only one of them has', async () => {
    const { json } = await compare((await report()).json, { PYTHONHASHSEED: '0' }, '--space', file('space.json', SPACE));
    expect(json.differences).toEqual([expect.objectContaining({ field: 'space', there: null })]);
  });
});

describe('a wrong call', () => {
  it.each([
    [[], /expected --keys/],
    [['--keys', '--against', 'REPORT'], /on another node/],
    [['--keys', '--space', 'NOSPACE'], /unknown field/],
    [['--keys', '--space', 'NOJSON'], /expected JSON/],
  ])('says what to do: %o', async (args, message) => {
    const paths: Record<string, string> = { REPORT: file('no-report.json', {}), NOSPACE: file('no-space.json', { modell: 1 }), NOJSON: file('no-json', '{') };
    const run = runCommand(
      doctorCommand,
      args.map((arg) => paths[arg] ?? arg),
    );
    await expect(run).rejects.toThrow(message);
    await expect(run).rejects.toBeInstanceOf(UsageError);
  });

  it('reads its version from the package', async () => {
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8')) as { version: string };
    expect((await report()).json.versions).toMatchObject({ kvreel: version });
  });
});
