// Every input that is kept, and some thousand changes of them with a fixed seed. `npm run fuzz` goes on for as long as it is told.
import { describe, expect, it } from 'vitest';
import { corpusOf, inputOf } from './inputs.js';
import { fuzz } from './loop.js';
import { refusal, type FuzzTarget } from './target.js';
import { TARGETS } from './targets.js';

const INPUTS = 1500;
const MINUTE = 60_000;

describe.each(TARGETS)('fuzzing $name', (target) => {
  const corpus = corpusOf(target);

  it('its corpus is met as it should be, and some of it is accepted', async () => {
    const outcomes = await Promise.all([...corpus.values()].map((input) => target.meet(input)));
    expect(outcomes).toContain('accepted');
  });

  it('its corpus has the real inputs that it can make', async () => {
    expect([...corpus.keys()]).toEqual(expect.arrayContaining(Object.keys(await target.seeds()).map((name) => `${name}.bin`)));
  });

  it('so are changes of it, both refused and accepted ones', { timeout: MINUTE }, async () => {
    const { failure, outcomes } = await fuzz(target, { corpus: [...corpus.values()], seed: 1, goesOn: (iteration) => iteration < INPUTS });
    if (failure) throw new Error(`input ${failure.iteration} of seed 1`, { cause: failure.error });
    expect(Object.keys(outcomes).length).toBeGreaterThan(1);
    expect(outcomes.accepted).toBeGreaterThan(0);
  });
});

describe('a fuzz loop', () => {
  const planted: FuzzTarget = {
    name: 'planted',
    seeds: () => ({}),
    meet(input) {
      if (input[3] === 0xff) throw new TypeError("Cannot read properties of undefined (reading 'length')");
      return 'accepted';
    },
  };
  const corpus = [new Uint8Array(16)];
  const options = { corpus, seed: 7, goesOn: (iteration: number) => iteration < 100_000 };

  it('finds a planted fault, and its number gives the same input again', async () => {
    const { failure } = await fuzz(planted, options);
    expect(failure?.error).toBeInstanceOf(TypeError);
    expect(inputOf(planted, corpus, 7, failure?.iteration ?? -1)).toEqual(failure?.input);
    expect((await fuzz(planted, options)).failure?.iteration).toBe(failure?.iteration);
  });

  it('takes no runtime error for a refusal', () => {
    expect(() => refusal(new TypeError('x is not a function'), ['KV_CORRUPT_OBJECT'])).toThrow(TypeError);
  });
});
