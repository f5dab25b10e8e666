// Prints the C++ sources of addon/codec for binding.gyp: the portable ones, or with the argument `avx2` or `avx512` those that need it.
import { readdirSync } from 'node:fs';

const wanted = process.argv[2] ?? '';
const sources = readdirSync('addon/codec', { recursive: true })
  .filter((name) => name.endsWith('.cc') && (/_(avx\w+)\.cc$/.exec(name)?.[1] ?? '') === wanted)
  .map((name) => `addon/codec/${name}`)
  .sort();
console.log(sources.join('\n'));
