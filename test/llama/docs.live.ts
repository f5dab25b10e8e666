// The examples of docs/llama.md, as a user has them: checked against the types of both packages, and run with the real llama.cpp.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ts from 'typescript';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { blocksOf, isOutput } from '../docs/blocks.js';
import { engineFolder } from './engine.js';

const ROOT = join(import.meta.dirname, '../..');
const MODEL = 'SmolLM2-135M-Instruct.Q4_1.gguf';
const blocks = blocksOf(readFileSync(join(ROOT, 'docs/llama.md'), 'utf8'));
const [quick, chat] = blocks.filter(({ language }) => language === 'ts');
const shown = blocks.find(({ language }) => language === 'text');
const folder = mkdtempSync(join(tmpdir(), 'kvreel-llama-docs-'));

beforeAll(() => {
  if (!existsSync(join(ROOT, 'dist/connectors/engine/llama.d.ts'))) throw new Error('dist/ is missing: run `npm run build`');
  const engine = engineFolder();
  mkdirSync(join(folder, 'node_modules/@types'), { recursive: true });
  for (const [path, target] of [
    ['node_modules/kvreel', ROOT],
    ['node_modules/node-llama-cpp', join(engine, 'node_modules/node-llama-cpp')],
    ['node_modules/@types/node', join(ROOT, 'node_modules/@types/node')],
    [MODEL, join(engine, MODEL)],
  ] as const) {
    symlinkSync(target, join(folder, path));
  }
  for (const [name, block] of [['quick', quick], ['chat', chat]] as const) {
    // One thread: llama.cpp's threads wait for each other in loops, which takes minutes where others use the processors too.
    const code = (block?.code ?? '').replace('contextSize: 2048', 'contextSize: 2048, threads: 1');
    expect(code).toContain('threads: 1');
    writeFileSync(join(folder, `${name}.mts`), code);
  }
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

function run(name: string): string[] {
  const { outputText } = ts.transpileModule(readFileSync(join(folder, `${name}.mts`), 'utf8'), { compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ES2022 } });
  writeFileSync(join(folder, `${name}.mjs`), outputText);
  const { status, stdout, stderr } = spawnSync(process.execPath, [`${name}.mjs`], { cwd: folder, encoding: 'utf8', timeout: 100_000 });
  expect(status, stdout + stderr).toBe(0);
  return stdout.trimEnd().split('\n');
}

it('they have the types that both packages ship', () => {
  const program = ts.createProgram(['quick', 'chat'].map((name) => join(folder, `${name}.mts`)), {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    strict: true,
    skipLibCheck: true,
    noEmit: true,
    types: ['node'],
    typeRoots: [join(ROOT, 'node_modules/@types')],
  });
  const host = { getCanonicalFileName: (path: string) => path, getCurrentDirectory: () => folder, getNewLine: () => '\n' };
  expect(ts.formatDiagnostics(ts.getPreEmitDiagnostics(program), host)).toBe('');
});

it('the quick start evaluates and saves at first, and then loads and says the same', () => {
  const first = run('quick');
  expect(isOutput(first.join('\n'), shown?.code ?? ''), first.join('\n')).toBe(true);
  const second = run('quick');
  console.log([...first, ...second].join('\n'));
  expect(second[0]).toMatch(/^loaded 375 tokens in \d+ ms$/);
  expect(second.slice(1)).toEqual(first.slice(2));
});

it('the chat goes on from its history', () => {
  expect(run('chat')[0]).toBe('0 tokens loaded');
  const [loaded = '', saved = ''] = run('chat');
  console.log(loaded, saved);
  expect(loaded).toMatch(/^[1-9]\d* tokens loaded$/);
  expect(saved).toMatch(/^1 of 1 chunks are new$/);
});
