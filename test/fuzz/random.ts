/** Seeded numbers for mutation. */
export interface Random {
  /** A whole number from 0 up to and without `end`. */
  below(end: number): number;
  /** True once in `times`. */
  oneIn(times: number): boolean;
  /** One of the values. */
  pick<T>(values: readonly T[]): T | undefined;
}

/** The same numbers for the same seed and iteration, so that two numbers name one input. */
export function randomOf(seed: number, iteration: number): Random {
  let state = mix(mix(seed) + iteration);
  const next = (): number => {
    state = (state + 0x9e3779b9) >>> 0;
    return mix(state);
  };
  const below = (end: number): number => (end <= 0 ? 0 : next() % end);
  return { below, oneIn: (times) => below(times) === 0, pick: (values) => values[below(values.length)] };
}

function mix(word: number): number {
  let mixed = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
