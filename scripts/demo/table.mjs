const COLUMNS = [
  { title: 'coder', width: 6, text: (row) => row.coder },
  { title: 'rung', width: 6, text: (row) => row.rung },
  { title: 'bits/value', width: 10, text: (row) => row.bitsPerValue.toFixed(2) },
  { title: 'ratio', width: 6, text: (row) => row.ratio.toFixed(2) },
  { title: 'encode MB/s', width: 11, text: (row) => row.encodeMBps.toFixed(0) },
  { title: 'decode MB/s', width: 11, text: (row) => row.decodeMBps.toFixed(0) },
  { title: 'max error', width: 9, text: (row) => errorText(row.maxError) },
  { title: 'mean error', width: 10, text: (row) => errorText(row.meanError) },
  { title: 'identical', width: 9, text: (row) => (row.identical ? 'yes' : 'no') },
];

/** Headings of the result table. */
export const TITLES = COLUMNS.map((column) => column.title);

/** The cells of one result, in the order of the titles. */
export function cellsOf(row) {
  return COLUMNS.map((column) => column.text(row));
}

/** One line of the table on the terminal: names to the left, figures to the right. */
export function terminalLine(cells) {
  return cells.map((cell, i) => (i < 2 ? cell.padEnd(COLUMNS[i].width) : cell.padStart(COLUMNS[i].width))).join('  ');
}

function errorText(error) {
  return error === 0 ? '0' : error.toPrecision(2);
}
