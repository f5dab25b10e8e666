import type { StorageConnector } from '../../../lib/store/connector.js';
import { listStored, type StoredEntry } from '../../../lib/store/listing.js';
import { unpackManifest, type RunManifest } from '../../../lib/store/manifest.js';
import type { Call, Command } from './command.js';
import { codeOf } from './error-code.js';
import { withStore } from './open-store.js';
import { STORE_OPTION } from './shared-options.js';
import { bytesText, table } from './table.js';

const UNREADABLE: ReadonlySet<string | undefined> = new Set(['KV_CORRUPT_OBJECT', 'KV_UNSUPPORTED', 'KV_UNSUPPORTED_VERSION']);

export const lsCommand: Command = {
  name: 'ls',
  operands: [],
  summary: 'Lists the runs and chunks of a store with their sizes.',
  options: STORE_OPTION,
  async run(call) {
    await withStore(call.requiredText('store'), async (connector) => {
      const runs = await Promise.all((await entries(connector, 'runs', call)).map(async (entry) => ({ entry, run: await readRun(connector, entry, call) })));
      const chunks = await entries(connector, 'chunks', call);
      const total = chunks.reduce((sum, { bytes }) => sum + bytes, 0);
      call.screen.result(
        { runs: runs.map(({ entry, run }) => runJson(entry, run)), chunks: chunks.map(({ hash, namespace, bytes }) => ({ prefix_hash: hash, namespace, stored_bytes: bytes })), stored_bytes: total },
        [runTable(runs), '', chunkTable(chunks), '', `${runs.length} runs, ${chunks.length} chunks, ${bytesText(total)}`].join('\n'),
      );
    });
  },
};

interface ListedRun {
  readonly entry: StoredEntry;
  /** Undefined where the manifest is damaged or was deleted meanwhile. */
  readonly run: RunManifest | undefined;
}

async function entries(connector: StorageConnector, kind: 'chunks' | 'runs', { signal }: Call): Promise<StoredEntry[]> {
  const found: StoredEntry[] = [];
  for await (const entry of listStored(connector, kind, { signal })) found.push(entry);
  return found.sort((a, b) => (a.key < b.key ? -1 : 1));
}

async function readRun(connector: StorageConnector, { key }: StoredEntry, call: Call): Promise<RunManifest | undefined> {
  const { signal } = call;
  try {
    const bytes = await connector.get(key, { signal });
    return bytes && unpackManifest(bytes, key);
  } catch (error) {
    if (!(error instanceof Error) || !UNREADABLE.has(codeOf(error))) throw error;
    call.screen.warn(`warning: ${key}: ${error.message}`);
    return undefined;
  }
}

function runJson({ hash, namespace, bytes }: StoredEntry, run: RunManifest | undefined): Record<string, unknown> {
  const head = { prefix_hash: hash, namespace, manifest_bytes: bytes };
  if (run === undefined) return { ...head, is_readable: false };
  const { model, geometry, quality, adapter, isSalted } = run.description;
  return {
    ...head,
    is_readable: true,
    model,
    dtype: geometry.dtype,
    rung: quality,
    ...(adapter !== undefined && { adapter }),
    is_salted: isSalted,
    ...totals(run),
  };
}

function totals({ chunks }: RunManifest): { tokens: number; chunks: number; stored_bytes: number } {
  return {
    tokens: chunks.reduce((sum, { tokens }) => sum + tokens, 0),
    chunks: chunks.length,
    stored_bytes: chunks.reduce((sum, { objectBytes }) => sum + objectBytes, 0),
  };
}

function runTable(runs: readonly ListedRun[]): string {
  const rows = runs.map(({ entry, run }) => {
    if (run === undefined) return [entry.hash, entry.namespace, 'not readable', '', '', '', ''];
    const { tokens, chunks, stored_bytes: stored } = totals(run);
    return [entry.hash, entry.namespace, run.description.model, run.description.quality ?? '', tokens, chunks, bytesText(stored)];
  });
  return table(['RUN', 'NAMESPACE', 'MODEL', 'RUNG', 'TOKENS', 'CHUNKS', 'SIZE'], rows);
}

function chunkTable(chunks: readonly StoredEntry[]): string {
  return table(
    ['CHUNK', 'NAMESPACE', 'SIZE'],
    chunks.map(({ hash, namespace, bytes }) => [hash, namespace, bytesText(bytes)]),
  );
}
