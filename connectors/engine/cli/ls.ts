import type { StorageConnector } from '../../../lib/store/connector.js';
import { listStored, type StoredEntry } from '../../../lib/store/listing.js';
import { inParallel } from '../../../lib/store/maintenance/in-parallel.js';
import { distrustOf, readRun } from '../../../lib/store/stored-value.js';
import type { RunManifest } from '../../../lib/store/manifest.js';
import type { Call, Command } from './command.js';
import { withStore } from './open-store.js';
import { STORE_OPTIONS } from './shared-options.js';
import { bytesText, row } from './table.js';

/** Manifests that are read at once. */
const CONCURRENCY = 16;

export const lsCommand: Command = {
  name: 'ls',
  operands: [],
  summary: 'Lists the runs and chunks of a store with their sizes, as the storage lists them.',
  options: STORE_OPTIONS,
  async run(call) {
    await withStore(call, async (connector, limited) => {
      await call.screen.stream(
        () => jsonPieces(connector, limited),
        () => textPieces(connector, limited),
      );
    });
  },
};

interface ListedRun {
  readonly entry: StoredEntry;
  /** Undefined where the manifest is damaged or was deleted meanwhile. */
  readonly run: RunManifest | undefined;
}

function runsOf(connector: StorageConnector, call: Call): AsyncGenerator<ListedRun> {
  return inParallel(listStored(connector, 'runs', { signal: call.signal }), CONCURRENCY, async (entry) => ({ entry, run: await unlessUnreadable(connector, entry.key, call) }));
}

async function unlessUnreadable(connector: StorageConnector, key: string, { signal, screen }: Call): Promise<RunManifest | undefined> {
  try {
    return await readRun(connector, key, { signal });
  } catch (error) {
    if (!(error instanceof Error) || distrustOf(error) === undefined) throw error;
    screen.warn(`warning: ${key}: ${error.message}`);
    return undefined;
  }
}

async function* jsonPieces(connector: StorageConnector, call: Call): AsyncGenerator<string> {
  let total = 0;
  yield '{\n"runs": [';
  yield* jsonList(runsOf(connector, call), ({ entry, run }) => runJson(entry, run));
  yield '],\n"chunks": [';
  yield* jsonList(listStored(connector, 'chunks', { signal: call.signal }), ({ hash, namespace, bytes }) => {
    total += bytes;
    return { prefix_hash: hash, namespace, stored_bytes: bytes };
  });
  yield `],\n"stored_bytes": ${total}\n}`;
}

async function* jsonList<T>(values: AsyncIterable<T>, toJson: (value: T) => unknown): AsyncGenerator<string> {
  let before = '\n';
  for await (const value of values) {
    yield before + JSON.stringify(toJson(value));
    before = ',\n';
  }
}

async function* textPieces(connector: StorageConnector, call: Call): AsyncGenerator<string> {
  let runs = 0;
  let chunks = 0;
  let total = 0;
  yield `${row(['RUN', 'NAMESPACE', 'MODEL', 'RUNG', 'TOKENS', 'CHUNKS', 'SIZE'], RUN_WIDTHS)}\n`;
  for await (const { entry, run } of runsOf(connector, call)) {
    runs++;
    yield `${row(runRow(entry, run), RUN_WIDTHS)}\n`;
  }
  yield `\n${row(['CHUNK', 'NAMESPACE', 'SIZE'], CHUNK_WIDTHS)}\n`;
  for await (const { hash, namespace, bytes } of listStored(connector, 'chunks', { signal: call.signal })) {
    chunks++;
    total += bytes;
    yield `${row([hash, namespace, bytesText(bytes)], CHUNK_WIDTHS)}\n`;
  }
  yield `\n${runs} runs, ${chunks} chunks, ${bytesText(total)}`;
}

// A stream cannot know its widest cell: these fit SHA-256 hashes and most models' names.
const RUN_WIDTHS = [64, 32, 24, 5, -8, -6, -9];
const CHUNK_WIDTHS = [64, 32, -9];

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

function runRow({ hash, namespace }: StoredEntry, run: RunManifest | undefined): (string | number)[] {
  if (run === undefined) return [hash, namespace, 'not readable', '', '', '', ''];
  const { tokens, chunks, stored_bytes: stored } = totals(run);
  return [hash, namespace, run.description.model, run.description.quality ?? '', tokens, chunks, bytesText(stored)];
}
