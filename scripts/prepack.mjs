// Before `npm pack`: everything is built from the sources as they stand, and the addon becomes the prebuilt one of this platform.
import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, setUp } from './setup.mjs';

setUp();
mkdirSync(join(ROOT, 'prebuilds'), { recursive: true });
copyFileSync(join(ROOT, 'build/Release/kvreel.node'), join(ROOT, 'prebuilds', `${process.platform}-${process.arch}.node`));
