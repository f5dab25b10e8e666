// The C++ tests, which run without Node. Each function builds where sources changed and returns the programs with their arguments.
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, whereStale } from '../setup.mjs';
import { run } from './count.mjs';

const FUZZ_SECONDS = process.env.CI ? 60 : 5;
const ORACLE_STREAMS = 500;

/** test/addon with a variant of its build.sh: `plain`, `asan` or `tsan`. */
export function addonPrograms(variant) {
  // Without sanitizers a fuzz run sees crashes only: a look is enough.
  return build(variant, (out) => ['test/addon/build.sh', out, variant], variant === 'asan' ? FUZZ_SECONDS : 1);
}

/** Our HEVC streams against other decoders. */
export function oracleProgram() {
  return build('oracle', (out) => ['test/addon/hevc/build.sh', out, 'hevc_oracle'], 0);
}

/** The parsers in TypeScript that meet foreign bytes, each for so long; five at a time, since CI has 45 minutes for all. One seed, so that a commit is judged by its own change; `npm run fuzz` looks on. */
export function fuzzProgram() {
  return [[process.execPath, 'node_modules/vite-node/vite-node.mjs', 'test/fuzz/run.ts', '--', '--seconds', String(FUZZ_SECONDS), '--seed', '1', '--jobs', '5']];
}

/** Stores kept busy, with eviction: memory, descriptors and bounds hold. */
export function soakProgram() {
  // In a short run stores have to be small, or nothing is evicted.
  const [minutes, mib] = process.env.CI ? ['1', '16'] : ['0.25', '8'];
  return [[process.execPath, 'node_modules/vite-node/vite-node.mjs', 'test/soak/run.ts', '--', '--minutes', minutes, '--max-mib', mib]];
}

function build(name, command, fuzzSeconds) {
  const out = `.cache/addon-tests/${name}`;
  console.log(`building ${out} where sources changed`);
  whereStale({ output: out, sources: ['addon', 'test/addon'] }, () => {
    rmSync(join(ROOT, out), { recursive: true, force: true });
    run('sh', command(out));
  });
  const programs = readdirSync(join(ROOT, out), { withFileTypes: true }).filter((entry) => entry.isFile() && !entry.name.includes('.'));
  return programs.map(({ name: program }) => [join(ROOT, out, program), ...argumentsOf(program, fuzzSeconds)]);
}

function argumentsOf(program, fuzzSeconds) {
  if (program.includes('_fuzz')) return [String(fuzzSeconds)];
  return program.includes('_oracle') ? [String(ORACLE_STREAMS)] : [];
}
