import { KvError } from '../../../lib/errors.js';
import { tensorBytes } from '../../../lib/codec/layout.js';
import type { StorageConnector } from '../../../lib/store/connector.js';
import { listStored } from '../../../lib/store/listing.js';
import { readRun } from '../../../lib/store/stored-value.js';
import type { RunManifest } from '../../../lib/store/manifest.js';
import { layoutOf, runKey } from '../../../lib/store/namespace.js';
import { KvStore, type FetchedTensor } from '../../../lib/store/store.js';
import { copyTokens } from '../../../lib/store/token-rows.js';
import { writeCapture, type StoredCapture } from '../capture/capture.js';
import { Miss, UsageError, type Call, type Command } from './command.js';
import { withStore } from './open-store.js';
import { checkOutput, writeOutputFile } from './output-file.js';
import { OUTPUT_OPTIONS, outputOf, STORE_OPTIONS, THREADS_OPTION, threadsOf } from './shared-options.js';
import { bytesText, list } from './table.js';
import { fileOf } from './write-capture.js';

export const fetchCommand: Command = {
  name: 'fetch',
  operands: ['PREFIX_HASH'],
  summary: 'Fetches the run that ends with this prefix hash and restores its capture, a .safetensors file. A miss exits with 3.',
  options: {
    ...STORE_OPTIONS,
    ...OUTPUT_OPTIONS,
    namespace: { value: 'DIGEST', help: 'which run, where several have this prefix hash; `ls` tells' },
    ...THREADS_OPTION,
  },
  async run(call) {
    const [hash = ''] = call.operands;
    if (!/^-?[0-9a-f]{1,128}$/.test(hash)) throw new UsageError(`expected PREFIX_HASH to be lower-case hex as \`put\` and \`ls\` print it, got ${JSON.stringify(hash)}`);
    const output = outputOf(call);
    const threads = threadsOf(call);
    await checkOutput(output);
    await withStore(call, async (connector, limited) => {
      const run = await findRun(connector, hash, limited);
      const capture = await fetchRun(connector, run, { threads, call: limited });
      await writeOutputFile(fileOf(writeCapture(capture)), { ...output, signal: limited.signal });
      const storedBytes = run.chunks.reduce((sum, chunk) => sum + chunk.objectBytes, 0);
      const rawBytes = capture.tensor.data.length;
      call.screen.result(
        {
          out: output.path,
          prefix_hash: hash,
          namespace: run.namespace,
          model: run.description.model,
          rung: run.description.quality,
          chunks: run.chunks.length,
          tokens: tokensOf(run),
          raw_bytes: rawBytes,
          stored_bytes: storedBytes,
        },
        list([
          ['wrote', output.path],
          ['run', `${tokensOf(run)} tokens in ${run.chunks.length} chunks, ${run.description.model}, ${run.description.quality}`],
          ['size', `${bytesText(rawBytes)} from ${bytesText(storedBytes)}`],
        ]),
      );
    });
  },
};

async function findRun(connector: StorageConnector, hash: string, call: Call): Promise<RunManifest> {
  const namespace = call.text('namespace');
  const keys = namespace === undefined ? await runsEndingWith(connector, hash, call) : [runKeyIn(namespace, hash)];
  const [key, ...others] = keys;
  if (key === undefined) throw new Miss(`no run that ends with ${hash} is stored there`);
  const runs = await Promise.all([key, ...others].map((found) => readRun(connector, found, { signal: call.signal })));
  if (others.length > 0) {
    const known = runs.map((run) => `${run?.namespace} (${run?.description.model}, ${run?.description.geometry.dtype}, ${run?.description.quality})`);
    throw new KvError('KV_INVALID_INPUT', `several runs end with ${hash}: choose one with --namespace: ${known.join('; ')}`);
  }
  const [run] = runs;
  if (run === undefined) throw new Miss(`no run that ends with ${hash} is stored there`);
  return run;
}

// By the hash alone, so all runs are listed.
async function runsEndingWith(connector: StorageConnector, hash: string, { signal }: Call): Promise<string[]> {
  const keys: string[] = [];
  for await (const entry of listStored(connector, 'runs', { signal })) if (entry.hash === hash) keys.push(entry.key);
  return keys;
}

function runKeyIn(namespace: string, hash: string): string {
  if (!/^[0-9a-f]{32}$/.test(namespace)) throw new UsageError(`expected --namespace to be 32 hex digits as \`ls\` prints it, got ${JSON.stringify(namespace)}`);
  return runKey(namespace, hash);
}

async function fetchRun(connector: StorageConnector, run: RunManifest, { threads, call }: { threads: number; call: Call }): Promise<StoredCapture> {
  const { isSalted, ...namespace } = run.description;
  if (isSalted) throw new KvError('KV_UNSUPPORTED', "the run belongs to a tenant and is found with the tenant's salt only: fetch it with the library");
  const reasons: Error[] = [];
  const store = new KvStore({ connector, namespace, threads, onCorrupt: (error) => reasons.push(error) });
  let done = 0;
  const fetchChunk: FetchChunk = async (index, signal) => {
    const chunk = await store.fetch(run.chunks[index]?.hash ?? '', { signal });
    if (chunk === undefined) throw reasons[0] ?? new Miss(`chunk ${index + 1} of ${run.chunks.length} of the run is not stored any more`);
    call.screen.progress(`fetched ${++done} of ${run.chunks.length} chunks`);
    return chunk;
  };
  try {
    return run.chunks.length === 1 ? captured(await fetchChunk(0, call.signal), run) : await join(run, fetchChunk, call.signal);
  } finally {
    await store.close();
  }
}

type FetchChunk = (index: number, signal: AbortSignal) => Promise<FetchedTensor>;

function captured({ tokenIds, layout, data, start = 0 }: FetchedTensor, { metadata }: RunManifest): StoredCapture {
  return { tensor: { layout, data, start }, metadata, ...(tokenIds && { tokenIds }) };
}

// Each chunk is copied to its place as it comes, so that no more of them exist at once than the store fetches. The first failure stops the rest.
async function join(run: RunManifest, fetchChunk: FetchChunk, signal: AbortSignal): Promise<StoredCapture> {
  const layout = layoutOf(run.description.geometry, tokensOf(run));
  const whole = { layout, data: allocate(tensorBytes(layout)) };
  const tokenIds = new Int32Array(layout.tokens);
  const failure = new AbortController();
  const either = AbortSignal.any([signal, failure.signal]);
  let chunksWithIds = 0;
  let start = 0;
  let end = 0;
  const copies = run.chunks.map(async ({ hash, tokens }, i) => {
    const begin = end;
    end += tokens;
    try {
      const chunk = await fetchChunk(i, either);
      if (chunk.layout.tokens !== tokens) throw new KvError('KV_CORRUPT_OBJECT', `chunk ${hash} has ${chunk.layout.tokens} tokens where its run says ${tokens}; put the capture again`);
      copyTokens({ tensor: chunk, token: 0 }, { tensor: whole, token: begin }, layout.layers, tokens);
      if (begin === 0) start = chunk.start ?? 0;
      if (chunk.tokenIds) {
        tokenIds.set(chunk.tokenIds, begin);
        chunksWithIds++;
      }
    } catch (error) {
      failure.abort(error);
    }
  });
  await Promise.all(copies);
  either.throwIfAborted();
  return { tensor: { ...whole, start }, metadata: run.metadata, ...(chunksWithIds === run.chunks.length && { tokenIds }) };
}

function allocate(bytes: number): Uint8Array {
  try {
    return new Uint8Array(bytes);
  } catch (cause) {
    throw new KvError('KV_OUT_OF_MEMORY', `the run needs ${bytes} bytes of memory, which there are not; fetch it on a larger machine`, { cause });
  }
}

function tokensOf(run: RunManifest): number {
  return run.chunks.reduce((sum, chunk) => sum + chunk.tokens, 0);
}
