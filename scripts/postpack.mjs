// After `npm pack`: a checkout loads what it built itself, so the copy that was packed must not stay and grow old.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './setup.mjs';

rmSync(join(ROOT, 'prebuilds', `${process.platform}-${process.arch}.node`), { force: true });
