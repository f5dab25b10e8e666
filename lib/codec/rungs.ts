/** One quality of a plane. */
export interface Rung {
  readonly name: string;
}

/** Bit-identical to the input. */
export const EXACT: Rung = { name: 'exact' };

const RUNGS: readonly Rung[] = [EXACT];

const ALIASES: Readonly<Record<string, string>> = {};

/** Names that `quality` options take: the rungs, and the aliases `near` and `lossy`. */
export const QUALITY_NAMES: readonly string[] = [...RUNGS.map((rung) => rung.name), ...Object.keys(ALIASES)];

/** The rung of a quality name. Throws a TypeError for a name that is none. */
export function rungOf(quality: string): Rung {
  const name = ALIASES[quality] ?? quality;
  const rung = RUNGS.find((candidate) => candidate.name === name);
  if (rung === undefined) throw new TypeError(`expected \`quality\` to be one of ${QUALITY_NAMES.join(', ')}, got ${quality}`);
  return rung;
}
