import { DTYPES } from '../../../lib/codec/native.js';
import type { Dtype } from '../../../lib/types.js';
import { lmcacheDtype, ORDERS, type ChunkOrder } from '../lmcache/chunk-tensor.js';
import { FORMS } from '../lmcache/forms.js';
import { importObjects } from '../lmcache/import.js';
import { UsageError, type Call, type Command } from './command.js';
import { withPlace } from './lmcache-place.js';
import { withStore } from './open-store.js';
import { sectionTokens } from './read-capture.js';
import { encodingOf, ENCODE_OPTIONS, STORE_OPTIONS, THREADS_OPTION } from './shared-options.js';
import { bytesText, list } from './table.js';

const MOST_WARNINGS = 10;

export const importLmcacheCommand: Command = {
  name: 'import lmcache',
  operands: [],
  summary: 'Reads what LMCache stored and puts it under its own chunk hashes.',
  options: {
    from: { value: 'PLACE', help: 'a folder, several as LMCache has them (A,B), or a URL: redis://, rediss://, resp://, valkey://, s3://BUCKET?endpoint=URL' },
    ...STORE_OPTIONS,
    format: { value: 'FORMAT', help: `${FORMS.map(({ name }) => name).join(', ')} (default: what PLACE suggests)` },
    model: { value: 'NAME', help: 'only this model, by its full name' },
    shape: { value: 'N,N,...', help: 'of a full chunk, where the format tells none: 2,LAYERS,TOKENS,HIDDEN or LAYERS,TOKENS,HIDDEN' },
    dtype: { value: 'DTYPE', help: `${DTYPES.join(', ')}; for the mp- formats, which tell none` },
    order: { value: 'ORDER', help: `how the rows hold K and V: ${ORDERS.join(', ')} (default: what the shape tells)` },
    'head-dim': { value: 'N', help: 'dims of a head, which LMCache does not tell (default: a row is one head)' },
    'block-tokens': { value: 'N', help: 'with --order vllm_cpu_rows: tokens of one block of the engine' },
    ...ENCODE_OPTIONS,
    ...THREADS_OPTION,
  },
  async run(call) {
    const { screen } = call;
    const { quality, coder, groupTokens, threads } = encodingOf(call);
    const description = descriptionOf(call);
    let skipped = 0;
    await withPlace(call, 'from', (from) =>
      withStore(call, async (connector, { signal }) => {
        const summary = await importObjects(from, connector, {
          ...description,
          quality,
          coder,
          threads,
          groupTokens: ({ layout }) => sectionTokens(layout, groupTokens),
          signal,
          onProgress: (chunks) => screen.progress(`imported ${chunks} objects`),
          onBytes: (reason) => screen.warn(`warning: some objects are kept as bytes, which costs size: ${reason}`),
          onSkipped(stored, reason) {
            if (++skipped <= MOST_WARNINGS) screen.warn(`warning: left out ${stored}: ${reason}`);
            else if (skipped === MOST_WARNINGS + 1) screen.warn('warning: more are left out');
          },
        });
        screen.result(
          { format: from.form.name, chunks: summary.chunks, raw_bytes: summary.rawBytes, stored_bytes: summary.storedBytes, skipped: summary.skipped, foreign: summary.foreign },
          list([
            ['imported', `${summary.chunks} objects from ${from.place.label} (${from.form.name})`],
            ['size', `${bytesText(summary.storedBytes)} of ${bytesText(summary.rawBytes)}`],
            ['left out', `${summary.skipped} damaged or not supported, ${summary.foreign} of others`],
          ]),
        );
      }),
    );
  },
};

function descriptionOf(call: Call): Pick<Parameters<typeof importObjects>[2], 'model' | 'shape' | 'dtype' | 'order' | 'headDim' | 'blockTokens'> {
  const model = call.text('model');
  const shape = shapeOf(call);
  const dtype = call.choice('dtype', DTYPES) as Dtype | undefined;
  const order = call.choice('order', ORDERS) as ChunkOrder | undefined;
  const headDim = call.integer('head-dim', 1);
  const blockTokens = call.integer('block-tokens', 1);
  return {
    ...(model !== undefined && { model }),
    ...(shape !== undefined && { shape }),
    ...(dtype !== undefined && { dtype: lmcacheDtype(dtype) }),
    ...(order !== undefined && { order }),
    ...(headDim !== undefined && { headDim }),
    ...(blockTokens !== undefined && { blockTokens }),
  };
}

function shapeOf(call: Call): number[] | undefined {
  const text = call.text('shape');
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,8}(,[1-9]\d{0,8}){2,3}$/.test(text)) throw new UsageError(`expected --shape to be three or four positive numbers with commas between them, got ${JSON.stringify(text)}`);
  const shape = text.split(',').map(Number);
  if (shape.reduce((product, size) => product * size, 8) > 2 ** 31) throw new UsageError(`expected --shape to be of less than 2 GiB, got ${text}`);
  return shape;
}
