import type { KvLayout, KvTensor } from '../../../lib/types.js';
import { randomSource } from '../tensors.js';

/** Small and odd: two groups of 16 tokens and a rest of 5. */
export const SMALL: KvLayout = { order: 'split', dtype: 'bf16', layers: 3, tokens: 37, kvHeads: 2, headDim: 8 };

/** A tensor whose values look like a cache's: bell-shaped, of another size in each channel. */
export function tensorOf(layout: KvLayout, seed = 1): KvTensor {
  const planes = layout.order === 'mla' || layout.order === 'bytes' ? 1 : 2;
  const values = layout.layers * planes * layout.tokens * layout.kvHeads * layout.headDim;
  const data = new Uint8Array(2 * values);
  const view = new DataView(data.buffer);
  const random = randomSource(seed);
  const float = new DataView(new ArrayBuffer(4));
  for (let i = 0; i < values; i++) {
    float.setFloat32(0, (random() + random() + random() - 1.5) * (1 + (i % layout.headDim)));
    view.setUint16(2 * i, float.getUint16(0), true);
  }
  return { layout, data };
}
