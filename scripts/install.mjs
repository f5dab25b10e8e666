// Runs where the package is installed: the addon that came with it is used if it loads here, else it is compiled.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
const platform = `${process.platform}-${process.arch}`;

const prebuilt = join(root, 'prebuilds', `${platform}.node`);

// A checkout builds when it is used: scripts/setup.mjs.
const isCheckout = existsSync(join(root, 'lib'));
if (!isCheckout && !loads(prebuilt)) compile();

function compile() {
  console.log(`kvreel: no prebuilt addon loads on ${platform} with Node ${process.version}; compiling it`);
  spawnSync(process.execPath, [join(root, 'scripts/build-addon.mjs')], { stdio: 'inherit' });
  if (loads(join(root, 'build/Release/kvreel.node'))) return;
  console.error(
    `kvreel: the native addon is neither prebuilt for ${platform} nor could it be compiled; the lines above say why. ` +
      'It needs a C++17 compiler, make and Python 3. Then run `npm rebuild kvreel`.',
  );
  process.exit(1);
}

function loads(path) {
  try {
    require(path);
    return true;
  } catch {
    return false;
  }
}
