// The command line as a child process, built by tsup into a folder of the test's own: dist/ may be in use.
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'tsup';
import { expect } from 'vitest';
import { fileBytes, noise, partsOf } from './safetensors-bytes.js';

const ROOT = join(import.meta.dirname, '../..');

/** A real capture: 30 layers, 256 tokens. */
export const REAL = join(ROOT, 'fixtures/captures/smollm2-gpl3-t0-256.safetensors');

export interface Result {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The built command line and a temporary folder that it works in. */
export interface CliProcess {
  readonly path: string;
  readonly folder: string;
  /** A path in the folder. */
  at(name: string): string;
  /** URL of a store in the folder. */
  store(name: string): string;
  /** Runs it; never rejects. */
  run(args: readonly string[], env?: Record<string, string>): Promise<Result>;
  /** What it prints; fails the test if it fails. */
  ok(...args: string[]): Promise<string>;
  /** The same as JSON. */
  json(...args: string[]): Promise<unknown>;
  /** The error that a call with --json fails with. */
  failure(status: number, ...args: string[]): Promise<{ code: string; message: string }>;
  dispose(): void;
}

/** Builds it into .cache/`name`. */
export async function cliProcess(name: string): Promise<CliProcess> {
  const outDir = join(ROOT, '.cache', name);
  await build({ config: false, silent: true, entry: { 'engine/cli': join(ROOT, 'connectors/engine/cli.ts') }, format: ['esm'], target: 'node20', outDir, noExternal: ['p-queue'] });
  const path = join(outDir, 'engine/cli.js');
  const folder = mkdtempSync(join(tmpdir(), 'kvreel-cli-'));
  const run: CliProcess['run'] = (args, env = {}) =>
    new Promise((resolve) => {
      execFile(process.execPath, [path, ...args], { cwd: folder, env: { ...process.env, ...env }, maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
        resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
      });
    });
  const ok: CliProcess['ok'] = async (...args) => {
    const result = await run(args);
    expect(result.status, result.stderr).toBe(0);
    return result.stdout;
  };
  return {
    path,
    folder,
    at: (file) => join(folder, file),
    store: (file) => `fs://${join(folder, file)}`,
    run,
    ok,
    json: async (...args) => JSON.parse(await ok(...args, '--json')),
    async failure(status, ...args) {
      const result = await run([...args, '--json']);
      expect(result.status, result.stdout + result.stderr).toBe(status);
      expect(result.stdout).toBe('');
      return (JSON.parse(result.stderr) as { error: { code: string; message: string } }).error;
    },
    dispose: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** Writes a small capture: `layers` layers of 2 heads, `tokens` tokens and 8 dims. */
export function writeSmall(path: string, { tokens = 40, layers = 2, start = 0, seed = 1, metadata = {} as Record<string, string>, extra = false } = {}): string {
  const planes = Array.from({ length: layers }, (_, i) =>
    ['k', 'v'].map((kind, j) => ({ name: `layers.${i}.${kind}`, dtype: 'BF16', shape: [2, tokens, 8], bytes: noise(2 * tokens * 8 * 2, seed + 2 * i + j) })),
  ).flat();
  const ids = Buffer.from(Int32Array.from({ length: tokens }, (_, i) => (i * 31 + seed) % 50000).buffer);
  const more = extra ? [{ name: 'layers.0.q', dtype: 'BF16', shape: [3, 8], bytes: noise(48) }] : [];
  const { header, data } = partsOf([...planes, ...more, { name: 'token_ids', dtype: 'I32', shape: [tokens], bytes: ids }], { model: 'tiny', start: String(start), ...metadata });
  writeFileSync(path, fileBytes(header, data));
  return path;
}

/** All files below a folder. */
export function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}
