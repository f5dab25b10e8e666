/** One quality of a plane. */
export interface Rung {
  readonly name: string;
  /** log2 of the quantiser's step, in 1/8 octaves (addon/codec/quantized.h); absent where nothing is quantised. */
  readonly gainEighths?: number;
}

/** Bit-identical to the input. */
export const EXACT: Rung = { name: 'exact' };

// Each quantised rung is named for the bits per value that it takes, about, on the models that docs/codecs.md measures.
const RUNGS: readonly Rung[] = [
  EXACT,
  { name: 'q7', gainEighths: -40 },
  { name: 'q6', gainEighths: -32 },
  { name: 'q5', gainEighths: -24 },
  { name: 'q4', gainEighths: -16 },
  { name: 'q3', gainEighths: -8 },
  { name: 'q2', gainEighths: 1 },
];

const ALIASES: Readonly<Record<string, string>> = { near: 'q7', lossy: 'q4' };

/** Names that `quality` options take: the rungs from finest to coarsest, and the aliases `near` and `lossy`. */
export const QUALITY_NAMES: readonly string[] = [...RUNGS.map((rung) => rung.name), ...Object.keys(ALIASES)];

/** The rungs' own names, from finest to coarsest. */
export const RUNG_NAMES: readonly string[] = RUNGS.map((rung) => rung.name);

/** The rung of a quality name. Throws a TypeError for a name that is none. */
export function rungOf(quality: string): Rung {
  const name = ALIASES[quality] ?? quality;
  const rung = RUNGS.find((candidate) => candidate.name === name);
  if (rung === undefined) throw new TypeError(`expected \`quality\` to be one of ${QUALITY_NAMES.join(', ')}, got ${quality}`);
  return rung;
}
