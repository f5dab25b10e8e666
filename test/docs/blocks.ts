// Takes the code blocks out of a page of docs. What follows the language in a block's first line says what is done with it:
//
//   ```ts run            a program of its own
//   ```sh run            commands; blocks of one page run in one folder, in order
//   ```text output       what the block before it prints; … stands for anything inside a line
//   ```ts in: FILE       run by this test, which names the page
//   ```ts skip: WHY      not run, and why not
export interface Block {
  readonly language: string;
  /** `run`, `output`, `in: FILE`, `skip: WHY`, or nothing. */
  readonly mark: string;
  readonly code: string;
  readonly line: number;
}

/** All fenced blocks of a page. */
export function blocksOf(page: string): Block[] {
  const blocks: Block[] = [];
  const lines = page.split('\n');
  for (let i = 0; i < lines.length; i++) {
    const [, language = '', mark = ''] = /^```(\w*) *(.*)$/.exec(lines[i] ?? '') ?? [];
    if (!lines[i]?.startsWith('```')) continue;
    const end = lines.indexOf('```', i + 1);
    if (end === -1) throw new Error(`the block at line ${i + 1} has no end`);
    blocks.push({ language, mark: mark.trim(), code: `${lines.slice(i + 1, end).join('\n')}\n`, line: i + 1 });
    i = end;
  }
  return blocks;
}

/** Whether a program printed what a page shows. */
export function isOutput(printed: string, shown: string): boolean {
  const escaped = shown.trimEnd().replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${escaped.replaceAll('…', '.*')}$`).test(printed.trimEnd());
}
