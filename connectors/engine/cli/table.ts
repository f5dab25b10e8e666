/** Rows under a heading, columns aligned: numbers to the right, the rest to the left. */
export function table(heading: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const cells = [heading, ...rows.map((row) => row.map(String))];
  const widths = heading.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const isNumber = heading.map((_, column) => rows.length > 0 && rows.every((row) => typeof row[column] === 'number' || /^[-+\d.,e]+( [kMGT]?B)?$/.test(String(row[column]))));
  const lines = cells.map((row) => row.map((cell, column) => (isNumber[column] ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0))).join('  '));
  return lines.map((line) => line.trimEnd()).join('\n');
}

/** One row where the others are not known yet. A width below 0 puts its cell to the right; a longer cell takes what it needs. */
export function row(cells: readonly (string | number)[], widths: readonly number[]): string {
  const padded = cells.map((cell, i) => {
    const width = widths[i] ?? 0;
    return width < 0 ? String(cell).padStart(-width) : String(cell).padEnd(width);
  });
  return padded.join('  ').trimEnd();
}

/** Named values, one a line. */
export function list(entries: readonly (readonly [name: string, value: string | number])[]): string {
  const width = Math.max(...entries.map(([name]) => name.length));
  return entries.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join('\n');
}

/** A number of bytes for people. */
export function bytesText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = Math.min(units.length - 1, bytes < 1000 ? 0 : Math.floor(Math.log10(bytes) / 3));
  return power === 0 ? `${bytes} B` : `${(bytes / 1000 ** power).toFixed(2)} ${units[power]}`;
}
