import { exportObjects } from '../lmcache/export.js';
import { FORMS } from '../lmcache/forms.js';
import { UsageError, type Command } from './command.js';
import { withPlace } from './lmcache-place.js';
import { withStore } from './open-store.js';
import { STORE_OPTIONS, THREADS_OPTION, threadsOf } from './shared-options.js';
import { bytesText, list } from './table.js';

const MOST_WARNINGS = 10;
const EXPORT_ORDERS = ['lmcache_2ltd', 'fused'] as const;
const DEFAULT_CHUNK_TOKENS = 256;

export const exportLmcacheCommand: Command = {
  name: 'export lmcache',
  operands: [],
  summary: 'Writes exact chunks as LMCache would have written them.',
  options: {
    ...STORE_OPTIONS,
    to: { value: 'PLACE', help: 'a folder, several as LMCache has them (A,B), or a URL: redis://, rediss://, resp://, valkey://, s3://BUCKET?endpoint=URL' },
    format: { value: 'FORMAT', help: `${FORMS.map(({ name }) => name).join(', ')} (default: what PLACE suggests)` },
    model: { value: 'NAME', help: 'also chunks of this model that did not come from LMCache' },
    'world-size': { value: 'N', help: 'with --model: workers of the engine (default 1)' },
    rank: { value: 'N', help: 'with --model: whose chunks, counted from 0 (default 0)' },
    order: { value: 'ORDER', help: `with --model: how the rows shall hold K and V: ${EXPORT_ORDERS.join(', ')} (default lmcache_2ltd)` },
    salt: { value: 'SALT', help: 'the tenant whose chunks to write (default: chunks of no tenant)', isInEnvironment: true },
    'chunk-tokens': { value: 'N', help: `LMCache's chunk_size, where it reads full chunks only (default ${DEFAULT_CHUNK_TOKENS})`, isInEnvironment: true },
    ...THREADS_OPTION,
  },
  async run(call) {
    const { screen } = call;
    const model = call.text('model');
    const worldSize = call.integer('world-size', 1) ?? 1;
    const rank = call.integer('rank', 0) ?? 0;
    if (rank >= worldSize || worldSize > 255) throw new UsageError(`expected --rank to be below --world-size and that at most 255, got ${rank} of ${worldSize}`);
    let skipped = 0;
    await withPlace(call, 'to', (to) =>
      withStore(call, async (connector, { signal }) => {
        const summary = await exportObjects(connector, to, {
          ...(model !== undefined && { model }),
          worldSize,
          rank,
          salt: call.text('salt') ?? '',
          order: call.choice('order', EXPORT_ORDERS) === 'fused' ? 'fused' : 'lmcache_2ltd',
          chunkTokens: call.integer('chunk-tokens', 1) ?? DEFAULT_CHUNK_TOKENS,
          threads: threadsOf(call),
          signal,
          onProgress: (objects) => screen.progress(`exported ${objects} objects`),
          onSkipped(key, reason) {
            if (++skipped <= MOST_WARNINGS) screen.warn(`warning: left out ${key}: ${reason}`);
            else if (skipped === MOST_WARNINGS + 1) screen.warn('warning: more are left out');
          },
        });
        screen.result(
          { format: to.form.name, objects: summary.objects, bytes: summary.bytes, skipped: summary.skipped, others: summary.others },
          list([
            ['exported', `${summary.objects} objects to ${to.place.label} (${to.form.name})`],
            ['size', bytesText(summary.bytes)],
            ['left out', `${summary.skipped} damaged or not supported, ${summary.others} of others`],
          ]),
        );
      }),
    );
  },
};
