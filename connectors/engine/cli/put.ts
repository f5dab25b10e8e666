import { KvError } from '../../../lib/errors.js';
import { tensorBytes } from '../../../lib/codec/layout.js';
import type { KvTensor } from '../../../lib/types.js';
import { KvStore, type RunTensor } from '../../../lib/store/store.js';
import { copyTokens } from '../../../lib/store/token-rows.js';
import { readCapture } from '../capture/capture.js';
import { invalid, type SafetensorsFile } from '../capture/safetensors.js';
import { readTokenIds } from '../capture/token-ids.js';
import { captureChunks, type CaptureChunk } from './capture-hashes.js';
import type { Command } from './command.js';
import { readSafetensors } from './input-file.js';
import { bitsPerValue } from './object-summary.js';
import { withStore } from './open-store.js';
import { sectionTokens, warnIfNotUnderstood } from './read-capture.js';
import { encodingOf, ENCODE_OPTIONS, STORE_OPTIONS, THREADS_OPTION } from './shared-options.js';
import { bytesText, list } from './table.js';

const DEFAULT_CHUNK_TOKENS = 256;
const MAX_CHUNK_TOKENS = 2 ** 20;

export const putCommand: Command = {
  name: 'put',
  operands: ['IN.safetensors'],
  summary: 'Stores a capture in chunks under the prefix hashes of its tokens.',
  options: {
    ...STORE_OPTIONS,
    ...ENCODE_OPTIONS,
    'chunk-tokens': { value: 'N', help: `tokens of one chunk (default ${DEFAULT_CHUNK_TOKENS})`, isInEnvironment: true },
    ...THREADS_OPTION,
  },
  async run(call) {
    const [input = ''] = call.operands;
    const { quality, coder, groupTokens, threads } = encodingOf(call);
    const chunkTokens = Math.min(call.integer('chunk-tokens', 1) ?? DEFAULT_CHUNK_TOKENS, MAX_CHUNK_TOKENS);
    const { screen } = call;
    await withStore(call, async (connector, limited) => {
      const { signal } = limited;
      const file = await readSafetensors(input, limited);
      const capture = readCapture(file);
      const model = modelOf(file);
      const chunks = captureChunks(tokenIdsOf(file), capture.tensor.start ?? 0, chunkTokens);
      warnIfNotUnderstood(screen, input, capture);
      const { tokens, ...geometry } = capture.tensor.layout;
      const store = new KvStore({
        connector,
        namespace: { model, geometry, quality },
        coder,
        groupTokens: sectionTokens(capture.tensor.layout, groupTokens),
        threads,
      });
      const tensors = capture.tensor.layout.order === 'bytes' ? wholeRun(capture.tensor, chunks) : cutRun(capture.tensor, chunks, capture.tokenIds);
      const { length } = capture.tensor.layout.order === 'bytes' ? [tensors] : chunks;
      const onProgress = (done: number): void => screen.progress(`stored ${done} of ${length} chunks`);
      const manifest = await store.putRun(tensors, { metadata: capture.metadata, signal, onProgress });
      const storedBytes = manifest.chunks.reduce((sum, chunk) => sum + chunk.objectBytes, 0);
      const rawBytes = tensorBytes(capture.tensor.layout);
      const hash = manifest.chunks.at(-1)?.hash ?? '';
      const bits = bitsPerValue(storedBytes, { ...geometry, tokens });
      screen.result(
        {
          prefix_hash: hash,
          chunks: manifest.chunks.length,
          raw_bytes: rawBytes,
          stored_bytes: storedBytes,
          tokens: manifest.chunks.reduce((sum, chunk) => sum + chunk.tokens, 0),
          bits_per_value: bits,
          model,
          rung: manifest.description.quality,
          namespace: manifest.namespace,
        },
        list([
          ['prefix hash', hash],
          ['chunks', manifest.chunks.length],
          ['size', `${bytesText(storedBytes)} of ${bytesText(rawBytes)}, ${bits} bits per value`],
          ['namespace', `${manifest.namespace} (${model}, ${manifest.description.quality})`],
        ]),
      );
      await store.close();
    });
  },
};

// A layout that is not understood cannot be cut: one object under the last hash.
function wholeRun(tensor: KvTensor, chunks: readonly CaptureChunk[]): RunTensor[] {
  const last = chunks.at(-1);
  return last ? [{ hash: last.hash, tensor, tokens: last.end }] : [];
}

function* cutRun(tensor: KvTensor, chunks: readonly CaptureChunk[], tokenIds: Int32Array | undefined): Generator<RunTensor> {
  for (const { hash, begin, end } of chunks) {
    yield { hash, tensor: cut(tensor, begin, end), ...(tokenIds && { tokenIds: tokenIds.slice(begin, end) }) };
  }
}

function cut(tensor: KvTensor, begin: number, end: number): KvTensor {
  if (begin === 0 && end === tensor.layout.tokens) return tensor;
  const layout = { ...tensor.layout, tokens: end - begin };
  const piece = { layout, data: new Uint8Array(tensorBytes(layout)), start: (tensor.start ?? 0) + begin };
  copyTokens({ tensor, token: begin }, { tensor: piece, token: 0 }, layout.layers, layout.tokens);
  return piece;
}

function modelOf({ name, directory }: SafetensorsFile): string {
  const { model } = directory.metadata;
  if (model === undefined || model === '') throw invalid(name, 'its metadata has no `model`, without which caches of different models would be mixed up');
  if (/\p{Surrogate}/u.test(model)) throw invalid(name, 'its metadata `model` is no Unicode text');
  return model;
}

function tokenIdsOf(file: SafetensorsFile): Int32Array {
  const ids = readTokenIds(file);
  if (ids === undefined || ids.length === 0) throw invalid(file.name, 'it has no `token_ids` (I32 [tokens]), of which the prefix hash is made; `encode` needs none');
  const index = ids.findIndex((id) => id < 0);
  if (index !== -1) throw new KvError('KV_INVALID_INPUT', `${file.name} has the negative token id ${ids[index]} at ${index}; make the file again`);
  return ids;
}
