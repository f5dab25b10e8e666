// Runs the examples of README.md and docs/ for real: TypeScript is checked against the types that the package ships and run against its
// dist/, shell blocks call the built command line.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, delimiter, join } from 'node:path';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { blocksOf, isOutput, type Block } from './blocks.js';

const ROOT = join(import.meta.dirname, '../..');
const PAGES = ['README.md', ...readdirSync(join(ROOT, 'docs')).filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)];
const EXAMPLES = new Set(['ts', 'js', 'sh']);
const MINUTES = 60_000;

const folder = mkdtempSync(join(tmpdir(), 'kvreel docs-'));

interface Page {
  readonly name: string;
  readonly blocks: readonly Block[];
}

const pages: readonly Page[] = PAGES.map((name) => ({ name, blocks: blocksOf(readFileSync(join(ROOT, name), 'utf8')) }));
const folderOf = ({ name }: Page): string => join(folder, name.replaceAll(/\W/g, '-'));
const programOf = (page: Page, { line }: Block): string => join(folderOf(page), `line-${line}.mts`);

beforeAll(() => {
  const cli = join(ROOT, 'dist/connectors/engine/cli.js');
  for (const built of [cli, join(ROOT, 'dist/lib/index.js'), join(ROOT, 'dist/lib/index.d.ts')]) {
    if (!existsSync(built)) throw new Error(`${built} is missing: run \`npm run build\``);
  }
  mkdirSync(join(folder, 'bin'));
  writeFileSync(join(folder, 'bin/kvreel'), `#!/bin/sh\nexec '${process.execPath}' '${cli}' "$@"\n`);
  chmodSync(join(folder, 'bin/kvreel'), 0o755);
  for (const page of pages) {
    // A folder that looks like a project with kvreel installed, beside a checkout's fixtures.
    mkdirSync(join(folderOf(page), 'node_modules/@types'), { recursive: true });
    symlinkSync(ROOT, join(folderOf(page), 'node_modules/kvreel'), 'dir');
    symlinkSync(join(ROOT, 'node_modules/@types/node'), join(folderOf(page), 'node_modules/@types/node'), 'dir');
    symlinkSync(join(ROOT, 'fixtures'), join(folderOf(page), 'fixtures'), 'dir');
    for (const block of page.blocks) if (block.language === 'ts' && block.mark === 'run') writeFileSync(programOf(page, block), block.code);
  }
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What a block prints on standard output. Fails with all that it said if it does not end well. */
function run(page: Page, block: Block): string {
  const [command, args]: [string, string[]] = block.language === 'sh' ? ['bash', ['-euo', 'pipefail', '-c', block.code]] : [process.execPath, [compiled(page, block)]];
  const env = { ...process.env, PATH: `${join(folder, 'bin')}${delimiter}${process.env.PATH ?? ''}` };
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: folderOf(page), encoding: 'utf8', env });
  expect(status, `${page.name}, line ${block.line}:\n${stdout}${stderr}`).toBe(0);
  return stdout;
}

function compiled(page: Page, block: Block): string {
  const path = programOf(page, block).replace(/mts$/, 'mjs');
  const options = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ES2022 };
  writeFileSync(path, block.language === 'js' ? block.code : ts.transpileModule(block.code, { compilerOptions: options }).outputText);
  return path;
}

describe('every example is run, or says why not:', () => {
  it.each(pages)('$name', ({ blocks }) => {
    const unmarked = blocks.filter(({ language, mark }) => EXAMPLES.has(language) && mark !== 'run' && !/^(in: \S|skip: .{10,})/.test(mark));
    expect(unmarked.map(({ line }) => line)).toEqual([]);
  });

  it('and a test that is said to run it reads its page', () => {
    for (const { name, blocks } of pages) {
      for (const { mark } of blocks) {
        const [, file] = /^in: (.*)$/.exec(mark) ?? [];
        if (file !== undefined) expect(readFileSync(join(ROOT, file), 'utf8'), file).toContain(basename(name));
      }
    }
  });

  it('and few say why not', () => {
    const examples = pages.flatMap(({ blocks }) => blocks.filter(({ language }) => EXAMPLES.has(language)));
    const skipped = examples.filter(({ mark }) => mark.startsWith('skip'));
    expect(examples.length).toBeGreaterThan(15);
    expect(skipped.length).toBeLessThan(examples.length / 3);
  });

  it('output stands right behind the example that prints it', () => {
    for (const { name, blocks } of pages) {
      blocks.forEach((block, i) => {
        if (block.mark === 'output') expect(blocks[i - 1]?.mark, `${name}, line ${block.line}`).toBe('run');
      });
    }
  });
});

it('the examples have the types that the package ships', { timeout: 2 * MINUTES }, () => {
  const programs = pages.flatMap((page) => page.blocks.filter(({ language, mark }) => language === 'ts' && mark === 'run').map((block) => programOf(page, block)));
  const program = ts.createProgram(programs, {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: true,
    noEmit: true,
    types: ['node'],
    typeRoots: [join(ROOT, 'node_modules/@types')],
  });
  const host = { getCanonicalFileName: (path: string) => path, getCurrentDirectory: () => folder, getNewLine: () => '\n' };
  expect(ts.formatDiagnostics(ts.getPreEmitDiagnostics(program), host)).toBe('');
});

const isRun = ({ mark }: Block): boolean => mark === 'run';

describe.each(pages.filter(({ blocks }) => blocks.some(isRun)))('the examples of $name run', (page) => {
  it('in order, and print what is shown', { timeout: 5 * MINUTES }, () => {
    page.blocks.forEach((block, i) => {
      if (!isRun(block)) return;
      const printed = run(page, block);
      const next = page.blocks[i + 1];
      if (next?.mark === 'output') expect(isOutput(printed, next.code), `${page.name}, line ${next.line}: it printed\n${printed}`).toBe(true);
    });
  });
});

describe('what is shown is compared with what is printed:', () => {
  it.each([
    ['2 hits', '2 hits', true],
    ['2 hits\n', '3 hits', false],
    ['2 hits\n1 miss\n', '2 hits', false],
    ['took 17 ms', 'took … ms', true],
    ['took 17 ms\nfailed', 'took …', false],
    ['a+b', 'aab', false],
  ])('%j against %j: %s', (printed, shown, isRight) => {
    expect(isOutput(printed, shown)).toBe(isRight);
  });
});
