// Compiles the addon into build/Release/kvreel.node with the headers that came with this Node, so that nothing is downloaded.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const nodeGyp = findNodeGyp();
if (nodeGyp === undefined) stop('node-gyp was not found: run `npm rebuild kvreel` (or, in a checkout, `npm install`).');
for (const tool of ['make', process.env.CXX ?? 'g++', process.env.PYTHON ?? 'python3']) {
  if (!canRun(tool)) stop(`\`${tool}\` was not found. The addon is compiled with a C++17 compiler, make and Python 3: install them and try again.`);
}
const prefix = process.env.npm_config_nodedir ?? dirname(dirname(process.execPath));
const headers = existsSync(join(prefix, 'include/node/node_api.h')) ? [`--nodedir=${prefix}`] : [];
const { status } = spawnSync(process.execPath, [nodeGyp, 'rebuild', '--loglevel=error', ...headers], { cwd: root, stdio: 'inherit' });
process.exit(status ?? 1);

// In a checkout it is a development dependency; where the package is installed, npm lends its own to install scripts.
function findNodeGyp() {
  try {
    return createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js');
  } catch {
    return process.env.npm_config_node_gyp;
  }
}

function canRun(command) {
  const [program, ...args] = command.split(' ');
  return spawnSync(program, [...args, '--version'], { stdio: 'ignore' }).error === undefined;
}

function stop(message) {
  console.error(`kvreel: ${message}`);
  process.exit(1);
}
