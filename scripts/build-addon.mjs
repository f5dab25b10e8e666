// Compiles the addon into build/Release/kvreel.node with the headers that came with this Node, so that nothing is downloaded.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const nodeGyp = createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js');
const prefix = process.env.npm_config_nodedir ?? dirname(dirname(process.execPath));
const headers = existsSync(join(prefix, 'include/node/node_api.h')) ? [`--nodedir=${prefix}`] : [];
const result = spawnSync(process.execPath, [nodeGyp, 'rebuild', '--loglevel=error', ...headers], { stdio: 'inherit' });
process.exit(result.status ?? 1);
