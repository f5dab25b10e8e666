// The C++ tests, which run without Node. Each function builds where sources changed and returns the programs with their arguments.
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, whereStale } from '../setup.mjs';
import { run } from './count.mjs';

const FUZZ_SECONDS = process.env.CI ? '60' : '5';
const ORACLE_STREAMS = '500';

/** test/addon with the variant `plain` or `asan`. */
export function addonPrograms(variant) {
  return build('test/addon', variant, (out) => ['test/addon/build.sh', out, variant]);
}

/** test/addon/hevc; options `--sanitize`. */
export function hevcPrograms(options) {
  return build('test/addon/hevc', ['hevc', ...options].join(''), (out) => ['test/addon/hevc/build.sh', out, ...options]);
}

/** Our HEVC streams against other decoders. */
export function oracleProgram() {
  return build('test/addon/hevc', 'oracle', (out) => ['test/addon/hevc/build.sh', out, 'hevc_oracle']);
}

function build(tests, name, command) {
  const out = `.cache/addon-tests/${name}`;
  console.log(`building ${out} where sources changed`);
  whereStale({ output: out, sources: ['addon/codec', tests] }, () => {
    rmSync(join(ROOT, out), { recursive: true, force: true });
    run('sh', command(out));
  });
  const programs = readdirSync(join(ROOT, out)).filter((file) => !file.includes('.'));
  return programs.map((program) => [join(ROOT, out, program), ...argumentsOf(program)]);
}

function argumentsOf(program) {
  if (program.includes('_fuzz')) return [FUZZ_SECONDS];
  return program.includes('_oracle') ? [ORACLE_STREAMS] : [];
}
