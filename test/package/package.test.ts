// `npm pack`, installed by npm into an empty project in a folder with a space, and used there as a user would. Takes about a minute.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const MINUTES = 60_000;

const folder = mkdtempSync(join(tmpdir(), 'kvreel package-'));
const project = join(folder, 'empty project');
const installed = join(project, 'node_modules/kvreel');

interface Ended {
  readonly status: number | null;
  readonly output: string;
}

// Not spawnSync: a compile of a minute would keep this process from answering vitest, which then reports an error.
async function run(command: string, args: readonly string[], cwd: string, env: Record<string, string> = {}): Promise<Ended> {
  // What an outer `npm test` tells its scripts would tell the npm started here that it runs in the checkout.
  const outer = Object.entries(process.env).filter(([name]) => !/^npm_(config_local_prefix|package_|lifecycle_)/.test(name) && name !== 'INIT_CWD');
  const child = spawn(command, args, { cwd, env: { ...Object.fromEntries(outer), ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  const output: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes: Buffer) => output.push(bytes));
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, output: Buffer.concat(output).toString() };
}

const consume = (kind: 'm' | 'c') => run(process.execPath, [`consumer.${kind}js`, join(folder, `store-${kind}`)], project);
const rebuild = (env: Record<string, string> = {}) => run('npm', ['rebuild', 'kvreel', '--foreground-scripts'], project, env);
const removePrebuilt = () => rmSync(join(installed, 'prebuilds'), { recursive: true, force: true });

beforeAll(async () => {
  expect(await run('npm', ['pack', '--pack-destination', folder], ROOT)).toMatchObject({ status: 0 });
  const [tarball = ''] = readdirSync(folder).filter((name) => name.endsWith('.tgz'));
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), '{ "private": true }\n');
  expect(await run('npm', ['install', join(folder, tarball), '--no-audit', '--no-fund'], project)).toMatchObject({ status: 0 });
  for (const kind of ['m', 'c']) copyFileSync(join(import.meta.dirname, 'consumer.ts.txt'), join(project, `consumer.${kind}ts`));
}, 5 * MINUTES);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the package', () => {
  it('holds what runs and what builds, and nothing else', () => {
    expect(readdirSync(installed).sort()).toEqual(expect.arrayContaining(['LICENSE', 'addon', 'binding.gyp', 'dist', 'package.json', 'prebuilds', 'scripts']));
    expect(readdirSync(installed).filter((name) => /^(lib|connectors|test|fixtures|build|node_modules|\..*)$/.test(name))).toEqual([]);
    expect(readdirSync(join(installed, 'scripts')).sort()).toEqual(['build-addon.mjs', 'codec-sources.mjs', 'install.mjs']);
  });

  it('has types that hold for ES modules and for CommonJS', { timeout: MINUTES }, async () => {
    const options = ['--module', 'nodenext', '--target', 'es2022', '--strict', '--exactOptionalPropertyTypes'];
    const types = ['--typeRoots', join(ROOT, 'node_modules/@types'), '--types', 'node'];
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    expect(await run(process.execPath, [tsc, ...options, ...types, 'consumer.mts', 'consumer.cts'], project)).toEqual({ status: 0, output: '' });
  });

  it.each(['m', 'c'] as const)('encodes, decodes, stores and fetches: .%sjs', async (kind) => {
    expect(await consume(kind)).toEqual({ status: 0, output: 'round trips are right\n' });
  });

  it('says what to do where the addon is missing', async () => {
    removePrebuilt();
    for (const kind of ['m', 'c'] as const) {
      const { status, output } = await consume(kind);
      expect(status).toBe(1);
      expect(output).toMatch(/^KV_ADDON_MISSING: .*npm rebuild kvreel/);
    }
  });

  it('says what is missing where it cannot be compiled', { timeout: MINUTES }, async () => {
    const { status, output } = await rebuild({ CXX: 'no-such-compiler' });
    expect(status).not.toBe(0);
    expect(output).toContain('`no-such-compiler` was not found');
    expect(output).toContain('It needs a C++17 compiler, make and Python 3. Then run `npm rebuild kvreel`.');
  });

  it('is compiled where no prebuilt addon loads', { timeout: 10 * MINUTES }, async () => {
    mkdirSync(join(installed, 'prebuilds'));
    writeFileSync(join(installed, 'prebuilds', `${process.platform}-${process.arch}.node`), 'for another machine');
    expect(await rebuild()).toMatchObject({ status: 0 });
    expect(await consume('m')).toEqual({ status: 0, output: 'round trips are right\n' });
  });
});
