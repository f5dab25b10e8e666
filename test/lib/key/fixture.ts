import { readFileSync } from 'node:fs';

/** The records of one file of fixtures/hashes. */
export function fixture<Row>(name: string): Row[] {
  return JSON.parse(readFileSync(new URL(`../../../fixtures/hashes/${name}`, import.meta.url), 'utf8')) as Row[];
}
