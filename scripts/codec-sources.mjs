// Prints the C++ sources of addon/codec for binding.gyp: the portable ones, or with the argument `avx2` those that need it.
import { readdirSync } from 'node:fs';

const wantAvx2 = process.argv[2] === 'avx2';
const sources = readdirSync('addon/codec', { recursive: true })
  .filter((name) => name.endsWith('.cc') && name.endsWith('_avx2.cc') === wantAvx2)
  .map((name) => `addon/codec/${name}`)
  .sort();
console.log(sources.join('\n'));
