import { collectGarbage, type Garbage, type GarbageOptions } from '../../../lib/store/maintenance/garbage.js';
import type { Call, Command } from './command.js';
import { withStore } from './open-store.js';
import { DURATION_FORM, SIZE_FORM } from './quantity.js';
import { STORE_OPTIONS } from './shared-options.js';
import { bytesText, list } from './table.js';

export const gcCommand: Command = {
  name: 'gc',
  operands: [],
  summary: 'Deletes what a store need not keep: runs of which a chunk is gone, and chunks by age or so that a bound holds, oldest first.',
  options: {
    ...STORE_OPTIONS,
    'max-bytes': { value: 'SIZE', help: `keep at most this much: ${SIZE_FORM}` },
    'older-than': { value: 'TIME', help: `delete chunks stored longer ago: ${DURATION_FORM}` },
    orphans: { help: 'delete chunks too that no run lists; do not where chunks are put without runs' },
    'dry-run': { help: 'tell what would be deleted, delete nothing' },
  },
  async run(call) {
    const options = optionsOf(call);
    await withStore(call, async (connector, { signal, screen }) => {
      const garbage = await collectGarbage(connector, { ...options, signal, onProgress: (step, values) => screen.progress(`${step}: ${values}`) });
      screen.result(garbageJson(garbage, options), garbageText(garbage, options));
      if (garbage.unreadableRuns > 0) screen.warn(`warning: ${garbage.unreadableRuns} runs could not be read and were left alone; \`kvreel verify --store URL --repair\` judges them`);
      if (garbage.unknownAges > 0 && options.olderThanMs !== undefined) screen.warn(`warning: the storage does not know the age of ${garbage.unknownAges} chunks, which were kept`);
    });
  },
};

function optionsOf(call: Call): GarbageOptions {
  const [maxBytes, olderThanMs] = [call.size('max-bytes'), call.duration('older-than')];
  return {
    ...(maxBytes !== undefined && { maxBytes }),
    ...(olderThanMs !== undefined && { olderThanMs }),
    orphans: call.isSet('orphans'),
    dryRun: call.isSet('dry-run'),
  };
}

function garbageJson({ swept, expired, orphaned, evicted, brokenRuns, unreadableRuns, unknownAges, left }: Garbage, { dryRun }: GarbageOptions): Record<string, unknown> {
  return { dry_run: dryRun, swept, expired, orphaned, evicted, broken_runs: brokenRuns, unreadable_runs: unreadableRuns, unknown_ages: unknownAges, left };
}

function garbageText({ swept, expired, orphaned, evicted, brokenRuns, left }: Garbage, { dryRun }: GarbageOptions): string {
  const text = ({ count, bytes }: Garbage['left']): string => `${count}, ${bytesText(bytes)}`;
  const done = dryRun === true ? 'would delete' : 'deleted';
  return list([
    [`${done} leftovers`, text(swept)],
    [`${done} too old`, text(expired)],
    [`${done} in no run`, text(orphaned)],
    [`${done} for the bound`, text(evicted)],
    [`${done} broken runs`, text(brokenRuns)],
    ['chunks left', text(left)],
  ]);
}
