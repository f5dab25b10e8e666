// The commands of our quick starts, so that what the pages say is what is tested.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { blocksOf } from '../docs/blocks.js';
import { ROOT } from './environment.js';

/** The JSON that a page's first command with this flag gives it. */
export function documentedJson(page: string, flag: string): Readonly<Record<string, unknown>> {
  const text = readFileSync(join(ROOT, 'docs', page), 'utf8');
  for (const { language, code } of blocksOf(text)) {
    const json = language === 'sh' ? new RegExp(`${flag} '([^']*)'`).exec(code)?.[1] : undefined;
    if (json !== undefined) return JSON.parse(json) as Readonly<Record<string, unknown>>;
  }
  throw new Error(`no ${flag} in docs/${page}`);
}

/** The words between two texts of a page: flags of a command, without quotes among them. */
export function documentedWords(page: string, after: string, before: string): string[] {
  const text = readFileSync(join(ROOT, 'docs', page), 'utf8');
  const words = text.slice(text.indexOf(after) + after.length).split(before)[0] ?? '';
  return words.trim().split(/\s+/);
}
