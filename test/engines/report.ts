// The table that the engine tests print.
import type { Completion } from './engine.js';

interface Row {
  readonly what: string;
  readonly hit: number;
  readonly of: number;
  readonly equal: number;
  readonly missS?: number;
  readonly hitS?: number;
}

const rows: Row[] = [];

/** Notes completions after a restart beside those before it. The first is the one that is timed. */
export function report(what: string, before: readonly Completion[], after: readonly Completion[], fullChunkTokens: number): void {
  const equal = after.reduce((sum, { tokens }, i) => sum + tokens.filter((token, at) => token === before[i]?.tokens[at]).length, 0);
  const [miss, hit] = [before[0], after[0]];
  rows.push({
    what,
    hit: after.reduce((sum, { cached }) => sum + cached, 0),
    of: fullChunkTokens,
    equal,
    ...(miss && { missS: miss.ttft_s }),
    ...(hit && { hitS: hit.ttft_s }),
  });
}

/** Prints and forgets all rows. */
export function printReport(): void {
  const seconds = (value: number | undefined): string => (value === undefined ? '' : `${value.toFixed(2)} s`);
  const lines = rows.map(({ what, hit, of, equal, missS, hitS }) => [what, `${hit} of ${of}`, String(equal), seconds(missS), seconds(hitS), missS && hitS ? `${(missS / hitS).toFixed(1)}x` : '']);
  const table = [['', 'tokens hit', 'tokens equal', 'TTFT miss', 'TTFT hit', ''], ...lines];
  const widths = table[0]?.map((_, column) => Math.max(...table.map((line) => line[column]?.length ?? 0))) ?? [];
  console.log(table.map((line) => line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ').trimEnd()).join('\n'));
  rows.length = 0;
}
