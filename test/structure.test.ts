// Holds the house of docs/overview.md: which way imports point, and that package.json says what is used. Each rule is a
// function from sources to breaches; it is run on our sources and, so that it cannot rot, on one planted breach each.
import { readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, normalize, relative } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '..');

/** Path from the root -> text. */
type Sources = ReadonlyMap<string, string>;
type Rule = (sources: Sources) => string[];

interface Package {
  readonly exports?: Record<string, unknown>;
  readonly imports?: Record<string, unknown>;
  readonly dependencies?: Record<string, string>;
  readonly optionalDependencies?: Record<string, string>;
  readonly peerDependencies?: Record<string, string>;
  readonly devDependencies?: Record<string, string>;
}

const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Package;
const sources = readSources('lib', 'connectors');
const tests = readSources('test');

function readSources(...folders: string[]): Sources {
  const files = folders.flatMap((folder) => {
    const names = readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' });
    return names.filter((name) => /\.[cm]?tsx?$/.test(name) && !name.includes('node_modules')).map((name) => join(folder, name));
  });
  return new Map(files.map((file) => [file, readFileSync(join(ROOT, file), 'utf8')]));
}

/** Every module a file names: import, export from, import type, import() and require(). */
function specifiers(text: string): string[] {
  return ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => fileName);
}

/** The files of ours that a file imports, as paths from the root. */
function ownImports(file: string, text: string): string[] {
  const own = specifiers(text).filter((specifier) => specifier.startsWith('.'));
  return own.map((specifier) => normalize(join(dirname(file), specifier)).replace(/\.([cm]?)js$/, '.$1ts'));
}

/** The packages a file imports: `@scope/name` or `name`, without builtins and our own `#` names. */
function packageImports(text: string): string[] {
  const foreign = specifiers(text).filter((specifier) => !/^(\.|#|node:)/.test(specifier));
  return foreign.map((specifier) => specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/'));
}

/** A rule that refuses single imports: `mayImport(from, to)` over all pairs of our files. */
function importRule(mayImport: (from: string, to: string) => boolean): Rule {
  return (sources) =>
    [...sources].flatMap(([from, text]) =>
      ownImports(from, text)
        .filter((to) => !mayImport(from, to))
        .map((to) => `${from} imports ${to}`),
    );
}

/** A rule that looks at each node of each file's syntax tree. */
function syntaxRule(isBreach: (node: ts.Node, file: string) => boolean): Rule {
  return (sources) =>
    [...sources].flatMap(([file, text]) => {
      const breaches: string[] = [];
      const tree = ts.createSourceFile(file, text, ts.ScriptTarget.ES2022, true);
      const visit = (node: ts.Node): void => {
        if (isBreach(node, file)) {
          breaches.push(`${file}:${tree.getLineAndCharacterOfPosition(node.getStart()).line + 1} ${node.getText().slice(0, 60)}`);
        }
        ts.forEachChild(node, visit);
      };
      visit(tree);
      return breaches;
    });
}

const isEngine = (file: string) => file.startsWith('connectors/engine/');
const isStorage = (file: string) => file.startsWith('connectors/storage/');

/** The storage connectors themselves, as package.json exports them; the other files there are their parts. */
function isConnector(file: string): boolean {
  const [, name] = /^connectors\/storage\/([^/]+)\.ts$/.exec(file) ?? [];
  return name !== undefined && `./connectors/${name}` in (manifest.exports ?? {});
}

const importsPointDown = importRule((from, to) => !from.startsWith('lib/') || to.startsWith('lib/'));

const storageKnowsOnlyTheStore = importRule((from, to) => {
  if (!isStorage(from)) return true;
  return to.startsWith('lib/store/') || to === 'lib/errors.ts' || (isStorage(to) && !isConnector(to));
});

const groundFloorImportsNothing: Rule = (sources) =>
  ['lib/types.ts', 'lib/errors.ts'].flatMap((file) => specifiers(sources.get(file) ?? '').map((to) => `${file} imports ${to}`));

const indexIsForUsers = importRule((from, to) => to !== 'lib/index.ts' || isEngine(from));

const importsSayJs: Rule = (sources) =>
  [...sources].flatMap(([file, text]) =>
    specifiers(text)
      .filter((specifier) => specifier.startsWith('.') && !/\.[cm]?js$/.test(specifier))
      .map((specifier) => `${file} imports ${specifier}`),
  );

const noCircles: Rule = (sources) => {
  const circles: string[] = [];
  const finished = new Set<string>();
  const visit = (file: string, trail: readonly string[]): void => {
    const start = trail.indexOf(file);
    if (start !== -1) return void circles.push([...trail.slice(start), file].join(' -> '));
    const text = sources.get(file);
    if (finished.has(file) || text === undefined) return;
    for (const next of ownImports(file, text)) visit(next, [...trail, file]);
    finished.add(file);
  };
  for (const file of sources.keys()) visit(file, []);
  return circles;
};

const noDefaultExport = syntaxRule((node) => {
  if (ts.isExportAssignment(node)) return true;
  if (ts.isExportSpecifier(node)) return node.name.text === 'default';
  return ts.canHaveModifiers(node) && (ts.getModifiers(node) ?? []).some(({ kind }) => kind === ts.SyntaxKind.DefaultKeyword);
});

const environmentIsForTheCli = syntaxRule((node, file) => {
  if (/^connectors\/engine\/cli[^/]*\.ts$/.test(file) || file.startsWith('connectors/engine/cli/')) return false;
  if (ts.isPropertyAccessExpression(node)) return node.name.text === 'env' && isProcess(node.expression);
  if (ts.isElementAccessExpression(node)) return /^['"`]env['"`]$/.test(node.argumentExpression.getText()) && isProcess(node.expression);
  if (ts.isBindingElement(node)) {
    const declaration = node.parent.parent;
    const name = (node.propertyName ?? node.name).getText();
    return name === 'env' && ts.isVariableDeclaration(declaration) && declaration.initializer?.getText() === 'process';
  }
  return ts.isImportSpecifier(node) && (node.propertyName ?? node.name).text === 'env' && fromProcess(node);
});

function isProcess(expression: ts.Expression): boolean {
  return /^(globalThis\.)?process$/.test(expression.getText());
}

function fromProcess(node: ts.ImportSpecifier): boolean {
  return /^['"](node:)?process['"]$/.test(node.parent.parent.parent.moduleSpecifier.getText());
}

const builtinsSayNode: Rule = (sources) =>
  [...sources].flatMap(([file, text]) =>
    specifiers(text)
      .filter((specifier) => builtinModules.includes(specifier))
      .map((specifier) => `${file} imports ${specifier} without node:`),
  );

/** Packages that are imported but not declared, and declared but not imported. */
// Shipped for the addon's build where no prebuilt one fits: binding.gyp uses it.
const BUILD_ONLY: ReadonlySet<string> = new Set(['node-addon-api']);
// Described by its shape, and handed in by those who have it.
const HANDED_IN: ReadonlySet<string> = new Set(['node-llama-cpp']);

function dependencyBreaches(sources: Sources, declared: Package): string[] {
  const shipped = { ...declared.dependencies, ...declared.optionalDependencies, ...declared.peerDependencies };
  const imported = new Map([...sources].flatMap(([file, text]) => packageImports(text).map((name) => [name, file] as const)));
  const undeclared = [...imported].filter(([name]) => !(name in shipped)).map(([name, file]) => `${file} imports ${name}, which is not declared`);
  const unused = Object.keys(shipped).filter((name) => !imported.has(name) && !BUILD_ONLY.has(name) && !HANDED_IN.has(name)).map((name) => `${name} is declared and never imported`);
  const subpaths = [...sources].flatMap(([file, text]) =>
    specifiers(text)
      .filter((specifier) => specifier.startsWith('#') && !(specifier in (declared.imports ?? {})))
      .map((specifier) => `${file} imports ${specifier}, which package.json does not name`),
  );
  return [...undeclared, ...unused, ...subpaths];
}

const rules: readonly [string, Rule, Record<string, string>][] = [
  [
    'lib imports nothing above it',
    importsPointDown,
    { 'lib/store/store.ts': `import type { memory } from '../../connectors/storage/memory.js';` },
  ],
  [
    'a storage connector imports lib/store and lib/errors, and no other connector',
    storageKnowsOnlyTheStore,
    {
      'connectors/storage/memory.ts': `export type { KvTensor } from '../../lib/types.js';`,
      'connectors/storage/tiered.ts': `const { memory } = await import('./memory.js');`,
    },
  ],
  [
    'lib/types.ts and lib/errors.ts import nothing',
    groundFloorImportsNothing,
    { 'lib/types.ts': `import type { KvError } from './errors.js';`, 'lib/errors.ts': `import { inspect } from 'node:util';` },
  ],
  [
    'lib/index.ts is for users and engine connectors',
    indexIsForUsers,
    { 'lib/codec/codec.ts': `import { encode } from '../index.js';`, 'connectors/storage/s3.ts': `import { KvError } from '../../lib/index.js';` },
  ],
  ['no files import each other in a circle', noCircles, { 'lib/a.ts': `import './b.js';`, 'lib/b.ts': `import type { A } from './c.js';`, 'lib/c.ts': `import './a.js';` }],
  ['imports of our files end in .js', importsSayJs, { 'lib/a.ts': `import { b } from './b';`, 'lib/b.ts': `import('./c.ts');` }],
  [
    'there is no default export',
    noDefaultExport,
    {
      'lib/a.ts': 'export default function a() {}',
      'lib/b.ts': 'const b = 1; export { b as default };',
      'lib/c.ts': 'export default 7;',
      'lib/d.ts': 'export default class {}',
    },
  ],
  [
    'only the command line reads the environment',
    environmentIsForTheCli,
    {
      'lib/a.ts': 'const home = process.env.HOME;',
      'lib/b.ts': `const all = process['env'];`,
      'lib/c.ts': 'const { env } = process;',
      'connectors/engine/http/server.ts': `import { env } from 'node:process';`,
    },
  ],
  ['node modules are imported as node:', builtinsSayNode, { 'lib/a.ts': `import { join } from 'path';` }],
];

describe('structure', () => {
  it('finds the sources, and the imports in them', () => {
    expect([...sources.keys()]).toEqual(expect.arrayContaining(['lib/errors.ts', 'lib/store/connector.ts', 'connectors/storage/memory.ts']));
    expect(ownImports('connectors/storage/memory.ts', sources.get('connectors/storage/memory.ts') ?? '')).toContain('lib/errors.ts');
    expect([...tests.keys()]).toContain(relative(ROOT, import.meta.filename));
  });

  it.each(rules)('%s', (_, rule) => {
    expect(rule(sources)).toEqual([]);
  });

  it.each(rules)('a breach would be noticed: %s', (_, rule, planted) => {
    const breaches = rule(new Map(Object.entries(planted)));
    const isCircle = rule === noCircles; // one breach, named by all its files
    expect(breaches).toHaveLength(isCircle ? 1 : Object.keys(planted).length);
  });

  it('every file that lib and the connectors import is there', () => {
    const imported = [...sources].flatMap(([file, text]) => ownImports(file, text));
    expect(imported.filter((file) => !sources.has(file))).toEqual([]);
  });

  it('package.json declares the packages that lib and the connectors import, and no others', () => {
    expect(dependencyBreaches(sources, manifest)).toEqual([]);
  });

  it('package.json declares the packages that the tests import', () => {
    const declared = { ...manifest.dependencies, ...manifest.optionalDependencies, ...manifest.devDependencies };
    const undeclared = [...tests].flatMap(([file, text]) =>
      packageImports(text)
        .filter((name) => !(name in declared))
        .map((name) => `${file} imports ${name}`),
    );
    expect(undeclared).toEqual([]);
  });

  it('a breach would be noticed: packages that are not declared, not used or not named', () => {
    const planted = new Map([
      ['lib/a.ts', `import { pack } from 'msgpackr/pack'; import '@scope/name/deep';`],
      ['lib/b.ts', `import addon from '#addon';`],
    ]);
    expect(dependencyBreaches(planted, { dependencies: { msgpackr: '1', unused: '1' } })).toEqual([
      'lib/a.ts imports @scope/name, which is not declared',
      'unused is declared and never imported',
      'lib/b.ts imports #addon, which package.json does not name',
    ]);
  });
});
