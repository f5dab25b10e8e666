// Writes the real inputs of each target to corpus/: `npx vite-node test/fuzz/make-corpus.ts`. Inputs that once failed are added by hand.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { corpusFolder } from './inputs.js';
import { TARGETS } from './targets.js';

for (const target of TARGETS) {
  mkdirSync(corpusFolder(target), { recursive: true });
  for (const [name, bytes] of Object.entries(await target.seeds())) writeFileSync(join(corpusFolder(target), `${name}.bin`), bytes);
}
