// Debian packages that only tests need. Root is used without a question on CI alone.
import { spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline/promises';

/** Whether C++ can be built against these libraries, after an attempt to install their Debian packages where it cannot. */
export async function provideLibraries(packages, headers, libraries) {
  if (canLink(headers, libraries)) return true;
  await install(packages, 'The comparison of coder hevc with other decoders needs them.');
  return canLink(headers, libraries);
}

/** Whether a program is there, after an attempt to install the Debian package that has it where it is not. `why` tells what it is for. */
export async function provideProgram(program, debianPackage, why) {
  if (!canRun(program)) await install(debianPackage, why);
  return canRun(program);
}

async function install(packages, why) {
  if (!canRun('apt-get') || !(await mayInstall(packages, why))) return;
  const asRoot = process.getuid() === 0 ? [] : process.env.CI ? ['sudo', '-n'] : ['sudo'];
  const aptGet = (...args) => {
    const [program, ...rest] = [...asRoot, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', ...args];
    spawnSync(program, rest, { stdio: 'inherit' });
  };
  aptGet('update', '-qq');
  aptGet('install', '-y', '-qq', '--no-install-recommends', ...packages.split(' '));
}

async function mayInstall(packages, why) {
  if (process.env.CI) return true;
  if (!process.stdin.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const answer = await terminal.question(`Missing: ${packages}. ${why}\nInstall with apt-get as root now? [y/N] `);
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
