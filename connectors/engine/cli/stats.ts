import { storeStats, type NamespaceStats, type StoreStats } from '../../../lib/store/maintenance/stats.js';
import type { Command } from './command.js';
import { withStore } from './open-store.js';
import { STORE_OPTIONS } from './shared-options.js';
import { bytesText, list, table } from './table.js';

export const statsCommand: Command = {
  name: 'stats',
  operands: [],
  summary: 'Counts what a store holds: chunks, runs, bytes, by namespace, by size and by age.',
  options: STORE_OPTIONS,
  async run(call) {
    await withStore(call, async (connector, { signal, screen }) => {
      const stats = await storeStats(connector, { signal, onProgress: (count) => screen.progress(`counted ${count} values`) });
      screen.result(statsJson(stats), statsText(stats));
    });
  },
};

function statsJson({ chunks, runs, others, namespaces, sizes, oldestAtMs, newestAtMs }: StoreStats): Record<string, unknown> {
  return {
    chunks,
    runs,
    others,
    ...(oldestAtMs !== undefined && newestAtMs !== undefined && { oldest_at: timeText(oldestAtMs), newest_at: timeText(newestAtMs) }),
    namespaces: namespaces.map(({ namespace, chunks: inChunks, runs: inRuns, description }) => ({
      namespace,
      ...(description && {
        model: description.model,
        dtype: description.geometry.dtype,
        rung: description.quality,
        ...(description.adapter !== undefined && { adapter: description.adapter }),
        is_salted: description.isSalted,
      }),
      chunks: inChunks,
      runs: inRuns,
    })),
    sizes: sizes.map(({ upToBytes, count, bytes }) => ({ up_to_bytes: upToBytes, count, bytes })),
  };
}

function statsText({ chunks, runs, others, namespaces, sizes, oldestAtMs, newestAtMs }: StoreStats): string {
  const totals = list([
    ['chunks', `${chunks.count}, ${bytesText(chunks.bytes)}`],
    ['runs', `${runs.count}, ${bytesText(runs.bytes)}`],
    ['others', `${others.count}, ${bytesText(others.bytes)}`],
    ['oldest', oldestAtMs === undefined ? 'not known' : timeText(oldestAtMs)],
    ['newest', newestAtMs === undefined ? 'not known' : timeText(newestAtMs)],
  ]);
  const byNamespace = table(['NAMESPACE', 'MODEL', 'RUNG', 'CHUNKS', 'RUNS', 'SIZE'], namespaces.map(namespaceRow));
  const bySize = table(
    ['CHUNKS UP TO', 'CHUNKS', 'SIZE'],
    sizes.map(({ upToBytes, count, bytes }) => [bytesText(upToBytes), count, bytesText(bytes)]),
  );
  return [totals, byNamespace, bySize].join('\n\n');
}

function namespaceRow({ namespace, description, chunks, runs }: NamespaceStats): (string | number)[] {
  return [namespace, description?.model ?? 'not known', description?.quality ?? '', chunks.count, runs.count, bytesText(chunks.bytes)];
}

function timeText(ms: number): string {
  return new Date(ms).toISOString();
}
