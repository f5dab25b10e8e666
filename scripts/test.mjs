// `npm test`: sets itself up, runs everything that tells whether the tree is sound, and prints the total last.
// `npm test -- NAME...` runs only these: types, vitest, lmcache, llama, engines, soak, fuzz, addon, threads, oracle.
import { countPrograms, runStep } from './test/count.mjs';
import { addonPrograms, fuzzProgram, oracleProgram, soakProgram } from './test/programs.mjs';
import { provideLibraries, provideProgram } from './test/system-libraries.mjs';
import { engines, llama, lmcache, types, vitest } from './test/typescript.mjs';
import { setUp } from './setup.mjs';

const ORACLE_PACKAGES = 'libavcodec-dev libavutil-dev libde265-dev';

const STEPS = {
  types,
  vitest,
  lmcache,
  llama,
  engines,
  soak: () => countPrograms(soakProgram),
  fuzz: () => countPrograms(fuzzProgram),
  addon: () => countPrograms(() => [...addonPrograms('plain'), ...addonPrograms('asan')]),
  threads: () => countPrograms(() => addonPrograms('tsan')),
  oracle: () => (hasOracle ? countPrograms(oracleProgram) : withoutOracle()),
};

const named = process.argv.slice(2);
const unknown = named.find((name) => !(name in STEPS));
if (unknown !== undefined) {
  console.error(`npm test knows ${Object.keys(STEPS).join(', ')}, not ${unknown}`);
  process.exit(2);
}
const wanted = named.length === 0 ? Object.keys(STEPS) : named;

setUp();
// Asked before the first test, so that nobody has to sit and wait for the question.
const hasOracle = wanted.includes('oracle') && (await provideLibraries(ORACLE_PACKAGES, ['libavcodec/avcodec.h', 'libde265/de265.h'], ['avcodec', 'avutil', 'de265']));
if (wanted.includes('vitest')) {
  for (const [program, loss] of [
    ['redis-server', 'Redis is tested as version 6.2 alone, from PyPI, and not over TLS.'],
    ['iptables', 'connectors are not tested on a network that loses packets.'],
    ['chromium', 'the live page of the daemon is not tested in a browser.'],
    ['ffmpeg', 'streams of coder hevc are not decoded as docs/format.md says.'],
  ]) {
    if (!(await provideProgram(program, program, `Without it ${loss}`))) console.log(`No ${program}: ${loss}`);
  }
}
const results = [];
for (const name of wanted) results.push(await runStep(name, STEPS[name]));

console.log('\n== result ==');
for (const { name, passed, failed, skipped, seconds } of results) {
  console.log(`${name.padEnd(8)} ${String(passed).padStart(6)} passed  ${failed} failed  ${skipped} skipped  ${seconds.toFixed(0).padStart(4)} s`);
}
const sum = (field) => results.reduce((total, result) => total + result[field], 0);
const skipped = sum('skipped');
console.log(`\n${sum('passed')} passed, ${sum('failed')} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
process.exitCode = sum('failed') === 0 ? 0 : 1;

function withoutOracle() {
  console.log(`The streams of coder hevc are not compared with libavcodec and libde265: install ${ORACLE_PACKAGES}.`);
  // On CI nobody would notice that the comparison is gone.
  return process.env.CI ? { failed: 1 } : { skipped: 1 };
}
