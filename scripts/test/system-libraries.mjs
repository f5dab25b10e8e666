// Libraries that only tests need. Root is used without a question on CI alone.
import { spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline/promises';

/** Whether C++ can be built against these libraries, after an attempt to install their Debian packages where it cannot. */
export async function provideLibraries(packages, headers, libraries) {
  if (canLink(headers, libraries)) return true;
  if (!canRun('apt-get') || !(await mayInstall(packages))) return false;
  const asRoot = process.getuid() === 0 ? [] : process.env.CI ? ['sudo', '-n'] : ['sudo'];
  const aptGet = (...args) => {
    const [program, ...rest] = [...asRoot, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', ...args];
    spawnSync(program, rest, { stdio: 'inherit' });
  };
  aptGet('update', '-qq');
  aptGet('install', '-y', '-qq', '--no-install-recommends', ...packages.split(' '));
  return canLink(headers, libraries);
}

async function mayInstall(packages) {
  if (process.env.CI) return true;
  if (!process.stdin.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const answer = await terminal.question(`The comparison of coder hevc with other decoders needs ${packages}.\nInstall them now with apt-get as root? [y/N] `);
  terminal.close();
  return /^y(es)?$/i.test(answer.trim());
}

function canLink(headers, libraries) {
  const source = `extern "C" {\n${headers.map((header) => `#include <${header}>`).join('\n')}\n}\nint main() {}\n`;
  const args = ['-x', 'c++', '-', '-o', '/dev/null', ...libraries.map((name) => `-l${name}`)];
  return spawnSync(process.env.CXX ?? 'g++', args, { input: source, stdio: ['pipe', 'ignore', 'ignore'] }).status === 0;
}

function canRun(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).error === undefined;
}
