/**
 * What is used of node-llama-cpp's `LlamaContextSequence`. Described by its shape, not imported: the package is only there where somebody
 * has such a sequence.
 */
export interface LlamaSequence {
  /** Tokens that its state can hold. */
  readonly contextSize: number;
  /** Tokens that its state holds. */
  readonly nextTokenIndex: number;
  readonly context: {
    readonly flashAttention: boolean | 'auto';
    /** Numbers of ggml's element types. */
    readonly kvCacheKeyType: number;
    readonly kvCacheValueType: number;
    readonly totalSequences: number;
    /** Bytes of the state of all its sequences, as they are now. */
    readonly stateSize: number;
  };
  readonly model: {
    readonly filename: string | undefined;
    /** What the head of the model file says, of which only the sizes for which RoPE was stretched are used. */
    readonly fileInfo: { readonly architectureMetadata: object };
    readonly llama: { readonly llamaCppRelease: { readonly repo: string; readonly release: string } };
  };
  saveStateToFile(filePath: string): Promise<{ readonly fileSize: number }>;
  loadStateFromFile(filePath: string, acceptRisk: { acceptRisk: true }): Promise<void>;
}
