import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { prefixHashes, type PrefixHashAlgorithm, type PrefixHashExtra, type PrefixHashOptions } from '../../../lib/key/prefix-hash.js';
import { fixture } from './fixture.js';
import { tokens } from './tokens.js';

interface Case {
  readonly stream: number;
  readonly chunk_tokens: number;
  readonly length: number;
  readonly hashes: string[];
}

interface SeededCase extends Case {
  readonly algorithm: PrefixHashAlgorithm;
  readonly seed: string | null;
}

const ids = Uint32Array.from({ length: 10 }, (_, i) => 100 + i);

/** An absent seed is an absent option, not an undefined one. */
function seeded(seed: string | null): Pick<PrefixHashOptions, 'seed'> {
  return seed === null ? {} : { seed };
}

describe('the vectors of the integration notes', () => {
  const blocks = Uint32Array.of(1, 2, 300, 70000, 5, 6, 7, 8);

  test('vLLM sha256_cbor, which is the default', () => {
    expect(prefixHashes(blocks, { chunkTokens: 4 })).toEqual([
      '67516cd611fd0d7e4c5c7f6fdbf4d93a304496db502c69895dc6a82deea8ae72',
      'd5818499227dc61850d6f5ee43963e7875c219ecb469b5fc1c47621459df4408',
    ]);
  });

  test('vLLM sha256_cbor with a cache salt', () => {
    expect(prefixHashes(blocks, { chunkTokens: 4, extra: { cacheSalt: 'alice' } })[0]).toBe(
      '32e861965eea8d2036d2ae90f2ca1ca0ec751c790379732380388de8e4aa00ff',
    );
  });

  test('vLLM sha256', () => {
    expect(prefixHashes(blocks, { algorithm: 'vllm_sha256', chunkTokens: 4 })).toEqual([
      '00af6cc52cb771586a3271f20174f55b7d6d68084b1d07d62044cb1dd5d8e323',
      '71977672196efbfb09f8e0aa0c383286f8a6aaf20201a23539eab2893d893b8b',
    ]);
  });

  test.each<[string, PrefixHashOptions, string[]]>([
    ['sha256_cbor, seed 0', { algorithm: 'lmcache_sha256_cbor', seed: 0 }, ['7d35a9949200f810', '7a2d568c86c95949', '97746a6a1947f832']],
    ['sha256_cbor, no seed', { algorithm: 'lmcache_sha256_cbor' }, ['a70970196fb89550', '5266710cc318e826', '734296e40a457338']],
    ['builtin, seed 0', { algorithm: 'lmcache_builtin', seed: 0 }, ['c494c1984e88a11', '-4237283045e1a393', '-10dd08e4d987110d']],
    ['builtin, no vLLM', { algorithm: 'lmcache_builtin_without_vllm' }, ['-274654dcc82ea3f3', '428b378bd410a30d', '-1c68769a18b6983c']],
  ])('LMCache %s', (_, options, hashes) => {
    expect(prefixHashes(ids, { ...options, chunkTokens: 4, partial: true })).toEqual(hashes);
  });

  test('LMCache multiprocess blake3', () => {
    expect(prefixHashes(ids, { algorithm: 'lmcache_mp_blake3', chunkTokens: 4 })).toEqual([
      'c2386b8e97ea5c6ad9811027ec05a51905ca24265dbae126101f62b099a108b2',
      '250ae6eb15cca3f1ce3ac5b412b553f26d4bc07387e978b47a166f9f0fa79887',
    ]);
  });

  test('SGLang', () => {
    expect(prefixHashes(Uint32Array.of(1, 2, 3, 4, 5, 6, 7, 8), { algorithm: 'sglang', chunkTokens: 4 })).toEqual([
      'cf97adeedb59e05bfd73a2b4c2a8885708c4f4f70c84c64b27120e72ab733b72',
      '4ebfa8a1f3c341517621838c6e1b9aa350307e3f00b3cbd1a07ef740f54396d6',
    ]);
  });
});

describe('what the real packages computed', () => {
  test('vLLM requests with and without LoRA, salt and images', () => {
    const extras = fixture<ExtraRow | null>('vllm-extras.json').map(vllmExtra);
    for (const row of fixture<SeededCase & { extra: number }>('vllm.json')) {
      const options = { algorithm: row.algorithm, chunkTokens: row.chunk_tokens, extra: extras[row.extra] ?? {}, ...seeded(row.seed) };
      expect(prefixHashes(tokens(row.stream, row.length), options), JSON.stringify(row)).toEqual(row.hashes);
    }
  });

  test('LMCache in the process of an engine and as a server', () => {
    for (const row of fixture<SeededCase & { partial: boolean }>('lmcache.json')) {
      const options = { algorithm: row.algorithm, chunkTokens: row.chunk_tokens, partial: row.partial, ...seeded(row.seed) };
      expect(prefixHashes(tokens(row.stream, row.length), options), JSON.stringify(row)).toEqual(row.hashes);
    }
  });

  test('SGLang pages in each kind of namespace', () => {
    for (const row of fixture<Case & { extra_key: string | null; cache_salt: string | null }>('sglang.json')) {
      const extra: PrefixHashExtra = {
        ...(row.extra_key === null ? {} : { extraKey: row.extra_key }),
        ...(row.cache_salt === null ? {} : { cacheSalt: row.cache_salt }),
      };
      const options = { algorithm: 'sglang', chunkTokens: row.chunk_tokens, extra } as const;
      expect(prefixHashes(tokens(row.stream, row.length), options), JSON.stringify(row)).toEqual(row.hashes);
    }
  });

  interface ExtraRow {
    readonly cache_salt?: string;
    readonly lora?: { name: string; path: string };
    readonly multimodal?: { identifier: string; offset: number; length: number }[];
  }

  function vllmExtra(row: ExtraRow | null): PrefixHashExtra {
    const { cache_salt: cacheSalt, ...rest } = row ?? {};
    return cacheSalt === undefined ? rest : { ...rest, cacheSalt };
  }
});

describe.each<PrefixHashOptions>([
  { algorithm: 'vllm_sha256', extra: { cacheSalt: 'alice' } },
  { algorithm: 'vllm_sha256_cbor' },
  { algorithm: 'lmcache_builtin', seed: 42 },
  { algorithm: 'lmcache_builtin_without_vllm' },
  { algorithm: 'lmcache_sha256' },
  { algorithm: 'lmcache_sha256_cbor' },
  { algorithm: 'lmcache_mp_blake3' },
  { algorithm: 'sglang' },
])('a chain of $algorithm', (base) => {
  const sequence = fc.uint32Array({ maxLength: 60 });
  const chunk = fc.integer({ min: 1, max: 9 });

  test('begins alike for sequences that begin alike', () => {
    fc.assert(
      fc.property(sequence, chunk, fc.nat(60), (whole, chunkTokens, cut) => {
        const options = { ...base, chunkTokens };
        const head = prefixHashes(whole.subarray(0, cut), options);
        expect(head).toEqual(prefixHashes(whole, options).slice(0, head.length));
        expect(head).toHaveLength(Math.floor(Math.min(cut, whole.length) / chunkTokens));
      }),
    );
  });

  test('differs from the chunk of a changed token on, and not before', () => {
    fc.assert(
      fc.property(fc.uint32Array({ minLength: 1, maxLength: 60 }), chunk, fc.nat(), (whole, chunkTokens, pick) => {
        const at = pick % whole.length;
        const changed = whole.map((id, index) => (index === at ? id ^ 1 : id));
        const before = prefixHashes(whole, { ...base, chunkTokens });
        const after = prefixHashes(changed, { ...base, chunkTokens });
        const isSame = before.map((hash, index) => hash === after[index]);
        expect(isSame).toEqual(before.map((_, index) => index < Math.floor(at / chunkTokens)));
      }),
    );
  });

  test('takes signed ids, and a view into a larger array', () => {
    const larger = Int32Array.of(9, 1, 2, 3, 4, 9);
    const options = { ...base, chunkTokens: 2 };
    expect(prefixHashes(larger.subarray(1, 5), options)).toEqual(prefixHashes(Uint32Array.of(1, 2, 3, 4), options));
  });
});

describe('a caller\'s mistake', () => {
  test.each<[string, unknown, string]>([
    ['an unknown option', { chunk: 4 }, 'expected `options` to have only algorithm, chunkTokens, seed, extra, partial, got chunk'],
    ['an unknown algorithm', { algorithm: 'md5' }, 'expected `algorithm` to be one of vllm_sha256, vllm_sha256_cbor, lmcache_builtin, lmcache_builtin_without_vllm, lmcache_sha256, lmcache_sha256_cbor, lmcache_mp_blake3, sglang, got md5'],
    ['an inherited name as algorithm', { algorithm: 'toString' }, 'got toString'],
    ['no chunk', { chunkTokens: 0 }, 'expected `chunkTokens` to be an integer from 1 to 1048576, got 0'],
    ['half a token', { chunkTokens: 1.5 }, 'expected `chunkTokens` to be an integer from 1 to 1048576, got 1.5'],
    ['a chunk in words', { chunkTokens: '4' }, 'expected `chunkTokens` to be a number, got string'],
    ['builtin without seed', { algorithm: 'lmcache_builtin' }, 'expected `seed` to be the PYTHONHASHSEED of the engine, got none'],
    ['builtin with a random seed', { algorithm: 'lmcache_builtin', seed: 'random' }, 'expected `seed` to be an integer from 0 to 4294967295 with algorithm lmcache_builtin, got random'],
    ['a seed beyond Python\'s', { algorithm: 'lmcache_builtin', seed: 2 ** 32 }, 'expected `seed` to be an integer from 0 to 4294967295, got 4294967296'],
    ['a seed nobody reads', { algorithm: 'sglang', seed: 0 }, 'expected no `seed` with algorithm sglang, which does not read it'],
    ['a seed that is no text', { seed: {} }, 'expected `seed` to be a string, got object'],
    ['a partial block of vLLM', { partial: true }, 'expected `partial` to be false with algorithm vllm_sha256_cbor, which hashes complete chunks only, got true'],
    ['partial in words', { algorithm: 'lmcache_sha256', partial: 'yes' }, 'expected `partial` to be a boolean, got string'],
    ['an unknown extra', { extra: { salt: 'a' } }, 'expected `extra` to have only lora, cacheSalt, multimodal, extraKey, got salt'],
    ['no extra at all', { extra: null }, 'expected `extra` to be an object, got null'],
    ['a salt that LMCache would drop', { algorithm: 'lmcache_mp_blake3', extra: { cacheSalt: 'a' } }, 'expected no `extra.cacheSalt` with algorithm lmcache_mp_blake3, which does not read it'],
    ['an empty salt for vLLM', { extra: { cacheSalt: '' } }, 'expected `extra.cacheSalt` to hold a character, got an empty text'],
    ['half a character', { extra: { cacheSalt: '\ud800' } }, 'expected `extra.cacheSalt` to be well-formed Unicode, got a lone surrogate'],
    ['a salt longer than any', { extra: { cacheSalt: 'x'.repeat(65536) } }, 'expected `extra.cacheSalt` to be at most 65535 bytes of UTF-8, got 65536'],
    ['an adapter without path', { extra: { lora: { name: 'a' } } }, 'expected `extra.lora.path` to be a string, got undefined'],
    ['images that are none', { extra: { multimodal: 'cat' } }, 'expected `extra.multimodal` to be an array, got string'],
    ['images that overlap', { extra: { multimodal: [{ identifier: 'a', offset: 0, length: 3 }, { identifier: 'b', offset: 2, length: 1 }] } }, 'expected `extra.multimodal[1].offset` to be an integer from 3 to 2147483647, got 2'],
  ])('%s is refused', (_, options, message) => {
    expect(() => prefixHashes(ids, options as PrefixHashOptions)).toThrow(message);
  });

  test('a negative token id is refused', () => {
    expect(() => prefixHashes(Int32Array.of(1, -5))).toThrow('expected `tokens` to hold no negative id, got -5 at 1');
  });

  test('an ordinary array is refused', () => {
    expect(() => prefixHashes([1, 2] as unknown as Uint32Array)).toThrow('expected `tokens` to be a Uint32Array or Int32Array, got object');
  });
});
