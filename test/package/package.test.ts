// `npm pack`, installed by npm into an empty project in a folder with a space, and used there as a user would. Takes some minutes.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const MINUTES = 60_000;

const folder = mkdtempSync(join(tmpdir(), 'kvreel package-'));
const project = join(folder, 'empty project');
const installed = join(project, 'node_modules/kvreel');

const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { readonly exports: Record<string, unknown> };
/** What can be imported: `kvreel`, `kvreel/connectors/s3`, ... */
const MODULES = Object.keys(manifest.exports).filter((path) => path !== './package.json').map((path) => path.replace('.', 'kvreel'));
const PROGRAMS = ['consumer', 'connectors', 'sinks'];
const KINDS = ['m', 'c'] as const;

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

/** On Node 20 the AWS SDK would tell that its versions of 2027 want a newer one. */
const QUIET_SDK = { AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true' };
const runProgram = (name: string, kind: 'm' | 'c') => run(process.execPath, [`${name}.${kind}js`, join(folder, `${name}-${kind}`)], project, QUIET_SDK);
const consume = (kind: 'm' | 'c') => runProgram('consumer', kind);
const npmInstall = (...packages: readonly string[]) => run('npm', ['install', ...packages, '--no-audit', '--no-fund'], project);
const rebuild = (env: Record<string, string> = {}) => run('npm', ['rebuild', 'kvreel', '--foreground-scripts'], project, env);
const removePrebuilt = () => rmSync(join(installed, 'prebuilds'), { recursive: true, force: true });

beforeAll(async () => {
  expect(await run('npm', ['pack', '--pack-destination', folder], ROOT)).toMatchObject({ status: 0 });
  const [tarball = ''] = readdirSync(folder).filter((name) => name.endsWith('.tgz'));
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), '{ "private": true }\n');
  expect(await npmInstall(join(folder, tarball))).toMatchObject({ status: 0 });
  for (const name of PROGRAMS) for (const kind of KINDS) copyFileSync(join(import.meta.dirname, `${name}.ts.txt`), join(project, `${name}.${kind}ts`));
}, 5 * MINUTES);

/** Compiles programs to JavaScript beside them, and checks all types that they use, those of the package too. */
async function compile(...names: readonly string[]): Promise<Ended> {
  const options = ['--module', 'nodenext', '--target', 'es2022', '--strict', '--exactOptionalPropertyTypes'];
  const types = ['--typeRoots', join(ROOT, 'node_modules/@types'), '--types', 'node'];
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  return run(process.execPath, [tsc, ...options, ...types, ...names.flatMap((name) => KINDS.map((kind) => `${name}.${kind}ts`))], project);
}

/** The names that a module exports, or the message of what it throws when it is loaded. */
async function load(module: string, kind: 'm' | 'c'): Promise<unknown> {
  const loading = kind === 'm' ? `import(${JSON.stringify(module)})` : `Promise.resolve().then(() => require(${JSON.stringify(module)}))`;
  const show = '(value) => console.log(JSON.stringify(value))';
  const script = `${loading}.then((module) => Object.keys(module).sort(), (error) => error.message.split('\\n')[0]).then(${show})`;
  const { status, output } = await run(process.execPath, [`--input-type=${kind === 'm' ? 'module' : 'commonjs'}`, '--eval', script], project);
  return status === 0 ? JSON.parse(output) : output;
}

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the package', () => {
  it('holds what runs and what builds, and nothing else', () => {
    expect(readdirSync(installed).sort()).toEqual(expect.arrayContaining(['LICENSE', 'addon', 'binding.gyp', 'dist', 'package.json', 'prebuilds', 'scripts']));
    expect(readdirSync(installed).filter((name) => /^(lib|connectors|test|fixtures|build|node_modules|\..*)$/.test(name))).toEqual([]);
    expect(readdirSync(join(installed, 'scripts')).sort()).toEqual(['build-addon.mjs', 'codec-sources.mjs', 'install.mjs']);
  });

  it('has types that hold for ES modules and for CommonJS', { timeout: MINUTES }, async () => {
    expect(await compile('consumer', 'connectors')).toEqual({ status: 0, output: '' });
  });

  it.each(KINDS)('encodes, decodes, stores and fetches: .%sjs', async (kind) => {
    expect(await consume(kind)).toEqual({ status: 0, output: 'round trips are right\n' });
  });

  it.each(KINDS)('has connectors that work, or say why not: .%sjs', { timeout: MINUTES }, async (kind) => {
    expect(await runProgram('connectors', kind)).toEqual({ status: 0, output: 'connectors are right\n' });
  });

  it('has a command line that runs, and loads what a store needs', async () => {
    const stats = (url: string) => run(join(project, 'node_modules/.bin/kvreel'), ['stats', '--store', url], project);
    expect(await stats(`fs://${folder}/nothing`)).toMatchObject({ status: 0, output: expect.stringMatching(/^chunks +0, 0 B$/m) });
    expect(await stats('redis://127.0.0.1:1')).toMatchObject({ status: 4, output: expect.stringContaining('KV_CONNECTOR_UNAVAILABLE') });
  });

  it.each(MODULES)('gives the same names to import and require, without optional packages: %s', async (module) => {
    const names = await load(module, 'm');
    expect(names).toEqual(expect.arrayContaining([expect.any(String)]));
    expect(await load(module, 'c')).toEqual(names);
  });

  it('names the optional package that is missing where it is needed', async () => {
    const script = `import('kvreel').then(({ encode }) => encode({ layout: { order: 'bytes', dtype: 'u8', layers: 1, tokens: 1, kvHeads: 1, headDim: 1 }, data: new Uint8Array(1) }, { coder: 'zstd' })).catch((error) => console.log(error.code, error.message))`;
    expect((await run(process.execPath, ['--eval', script], project)).output).toMatch(/^KV_MISSING_DEPENDENCY .*@bokuweb\/zstd-wasm/);
  });

  it('gives its numbers to a register and a tracer of the user', { timeout: MINUTES }, async () => {
    expect(await compile('sinks')).toEqual({ status: 0, output: '' });
    for (const kind of KINDS) expect(await runProgram('sinks', kind)).toEqual({ status: 0, output: 'sinks are right\n' });
  });

  it('says what to do where the addon is missing', async () => {
    removePrebuilt();
    for (const kind of KINDS) {
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
