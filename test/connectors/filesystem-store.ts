// What the tests of the filesystem connector share: a directory for each test, a look at the files in it, and other processes.
import { execFile, spawnSync, type ChildProcess } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'tsup';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import type { ChildOutcome, ChildTask } from './filesystem-child.js';

export const MIB = 1024 * 1024;

/** Everything of one test file lies in it. Other users may look inside, because some children run as another user. */
export const base = fs.mkdtempSync(join(tmpdir(), 'kvreel-filesystem-'));
fs.chmodSync(base, 0o755);

/** The store's directory in this test; not there yet. */
export let path = '';

export function freshPath(): string {
  return usePath(join(base, randomUUID()));
}

export function usePath(place: string): string {
  path = place;
  return path;
}

/** Registers the hooks that give each test a `path`. */
export function useFreshPaths(): void {
  beforeEach(() => void freshPath());
  // A store has a directory for most of its keys, and some disks take milliseconds to remove one.
  afterAll(() => fs.rmSync(base, { recursive: true, force: true }), 120_000);
}

/** Where the entry of `key` lies; written down here again, so that a change of the layout on disk is noticed. */
export function entryFile(key: string): string {
  const digest = createHash('sha256').update(key).digest('hex');
  return join(path, digest.slice(0, 2), digest);
}

export function tempFiles(): string[] {
  return fs.readdirSync(join(path, 'temp'));
}

/** A signal that does `action` the n-th time a connector looks at it: between two steps of a call, always the same two. */
export function signalAtLook(n: number, action: (controller: AbortController) => void): AbortSignal {
  const controller = new AbortController();
  let looks = 0;
  controller.signal.throwIfAborted = () => {
    if (++looks === n) action(controller);
    AbortSignal.prototype.throwIfAborted.call(controller.signal);
  };
  return controller.signal;
}

// What needs root or a tool is skipped, and says why, where that is missing.

export const isRoot = process.getuid?.() === 0;
const works = (command: string, ...args: string[]) => spawnSync(command, args).status === 0;
export const canTrace = works('strace', '-f', '-e', 'inject=rename:error=EIO', '-o', '/dev/null', 'true');
export const canChangeUser = isRoot && works('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', 'true');
export const canMount = isRoot && mountWorks();

const missing = [
  ...(canTrace ? [] : ['strace that may trace']),
  ...(canMount ? [] : ['root that may mount']),
  ...(canChangeUser ? [] : ['root and setpriv']),
];
if (missing.length > 0) console.warn(`some tests of the filesystem connector are skipped: they need ${missing.join(', ')}`);

function mountWorks(): boolean {
  const place = join(base, 'mount-probe');
  fs.mkdirSync(place);
  if (!works('mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', place)) return false;
  return works('umount', place);
}

/** One thread for files, because strace counts calls for each thread. */
const ONE_THREAD = { ...process.env, UV_THREADPOOL_SIZE: '1' };
const childScript = join(base, 'filesystem-child.mjs');

/** Registers the hook that builds the child's script, beside a package of the addon alone: other users may not read ours. */
export function useChildren(): void {
  beforeAll(async () => {
    const entry = { 'filesystem-child': 'test/connectors/filesystem-child.ts' };
    await build({ entry, outDir: base, format: 'esm', outExtension: () => ({ js: '.mjs' }), config: false, silent: true, dts: false, noExternal: [/./] }); // no packages are found from there
    fs.writeFileSync(join(base, 'package.json'), '{}');
    fs.cpSync('build/Release/kvreel.node', join(base, 'build/Release/kvreel.node'));
  });
}

/** Runs one verb in a process of its own, behind the command `before`; undefined if it was killed. */
export function inChild(task: Omit<ChildTask, 'path'>, before: readonly string[] = []): ChildOutcome | undefined {
  const [command = '', ...args] = [...before, process.execPath, childScript, JSON.stringify({ path, ...task })];
  const child = spawnSync(command, args, { encoding: 'utf8', cwd: base, env: ONE_THREAD });
  if (child.signal === 'SIGKILL') return undefined;
  if (child.status !== 0) throw new Error(`the child ended with ${child.status ?? child.signal}: ${child.stderr}`);
  return JSON.parse(child.stdout) as ChildOutcome;
}

/** Starts one verb in a process of its own, side by side with the test. */
export function startChild(task: Omit<ChildTask, 'path'>): ChildProcess {
  return execFile(process.execPath, [childScript, JSON.stringify({ path, ...task })]);
}

/** The command that makes a system call of the child go wrong: `strace` with this `inject`. */
export function inject(fault: string, file?: string): string[] {
  return ['strace', '-f', '-o', '/dev/null', ...(file === undefined ? [] : ['-P', file]), '-e', `inject=${fault}`];
}
