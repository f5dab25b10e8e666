import { readFileSync, writeFileSync } from 'node:fs';
import type { LlamaSequence } from '../../connectors/engine/llama.js';

/** A sequence whose state is a value: for states that no model here makes. The tests with a real model stand in *.live.ts. */
export interface FileSequence extends LlamaSequence {
  state: Uint8Array;
}

/** A sequence with this state; empty bytes for none. `changes` are what tells it from others; one that `refuses` takes no state but that which it had first. */
export function fileSequence(state: Uint8Array, changes: { readonly context?: object; readonly model?: object; readonly contextSize?: number; readonly refuses?: boolean } = {}): FileSequence {
  return {
    state,
    contextSize: changes.contextSize ?? 4096,
    get nextTokenIndex() {
      return this.state.length === 0 ? 0 : 1;
    },
    get context() {
      return { flashAttention: 'auto' as const, kvCacheKeyType: 1, kvCacheValueType: 1, totalSequences: 1, stateSize: this.state.length, ...changes.context };
    },
    model: { filename: 'model.gguf', fileInfo: { architectureMetadata: {} }, llama: { llamaCppRelease: { repo: 'ggml-org/llama.cpp', release: 'v0.5.0' } }, ...changes.model },
    async saveStateToFile(path) {
      writeFileSync(path, this.state);
      return { fileSize: this.state.length };
    },
    async loadStateFromFile(path) {
      const loaded = new Uint8Array(readFileSync(path));
      // As the real one does: what it held is gone whether it takes the new state or not.
      this.state = new Uint8Array(0);
      if (changes.refuses === true && Buffer.compare(loaded, state) !== 0) throw new Error('failed to restore kv cache');
      this.state = loaded;
    },
  };
}
