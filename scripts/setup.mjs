// Makes a checkout ready to run: npm packages, addon, library. What is there and fresh is left alone, so a second run takes no time.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The root of the checkout. */
export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/** Installs the npm packages and builds addon and library where they are missing or older than their sources. Ends the process on failure. */
export function setUp() {
  if (Number(process.versions.node.split('.')[0]) < 20) stop(`kvreel needs Node 20 or newer; this is ${process.version}.`);
  if (!packagesAreInstalled()) step('Installing npm packages', 'npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund']);
  const addon = ['addon', 'binding.gyp', 'scripts/build-addon.mjs', 'scripts/codec-sources.mjs', 'node_modules/node-addon-api/package.json'];
  whereStale({ output: 'build/Release/kvreel.node', sources: addon }, () => step('Building the addon (a minute or two)', 'npm', ['run', '--silent', 'build:addon']));
  const library = ['lib', 'connectors', 'package.json', 'tsconfig.json', 'tsup.config.ts', 'node_modules/tsup/package.json'];
  whereStale({ output: 'dist/lib/index.js', sources: library }, () => step('Building the library', 'npm', ['run', '--silent', 'build:lib']));
}

/** Calls `build` unless `output` was made from the very same sources on this platform. `build` throws or ends the process if it fails. */
export function whereStale({ output, sources }, build) {
  const stamp = join(ROOT, '.cache', `${output.replaceAll('/', '-')}.sha256`);
  const digest = digestOf(sources);
  const isFresh = existsSync(join(ROOT, output)) && existsSync(stamp) && readFileSync(stamp, 'utf8') === digest;
  if (isFresh) return;
  rmSync(stamp, { force: true });
  build();
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, digest);
}

/** Runs a command in the root of the checkout and shows what it prints; ends the process if it fails. */
function step(title, command, args) {
  console.log(`${title} ...`);
  const start = performance.now();
  const { status, error } = spawnSync(command, args, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0) stop(`${title} failed${error ? `: ${error.message}` : ''}. The lines above say why.`);
  console.log(`${title}: done in ${((performance.now() - start) / 1000).toFixed(0)} s\n`);
}

function stop(message) {
  console.error(`\n${message}`);
  process.exit(1);
}

// npm keeps a copy of the lock file in node_modules; packages for other platforms are missing from it.
function packagesAreInstalled() {
  const copy = join(ROOT, 'node_modules/.package-lock.json');
  if (!existsSync(copy)) return false;
  const wanted = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(readFileSync(copy, 'utf8')).packages;
  return Object.entries(wanted).every(
    ([path, { version, optional }]) => path === '' || (installed[path] ? installed[path].version === version && existsSync(join(ROOT, path)) : optional),
  );
}

/** Digest of all files under `paths`, of their names, and of the platform that is built for. */
function digestOf(paths) {
  const hash = createHash('sha256').update(`${process.platform} ${process.arch} ${process.versions.modules}\n`);
  for (const path of paths.flatMap(filesUnder)) {
    const bytes = readFileSync(join(ROOT, path));
    hash.update(`${path} ${bytes.length}\n`).update(bytes);
  }
  return hash.digest('hex');
}

function filesUnder(path) {
  const absolute = join(ROOT, path);
  if (!existsSync(absolute)) return [];
  if (statSync(absolute).isFile()) return [path];
  const names = readdirSync(absolute).filter((name) => name !== '__pycache__' && name !== 'node_modules');
  return names.sort().flatMap((name) => filesUnder(join(path, name)));
}
