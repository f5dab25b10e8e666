/** Element type of a KV tensor, as the engine holds it. */
export type Dtype = 'bf16' | 'f16' | 'f32' | 'f8_e4m3' | 'f8_e5m2' | 'u8';

/**
 * How the elements of one chunk lie in memory; head_dim is always innermost and contiguous.
 *
 * - `split`: [layers][2][kv_heads][tokens][head_dim]; the order of our captures and of transformers.
 * - `fused`: [layers][tokens][kv_heads][2][head_dim]; vLLM's fused pages as LMCache's multiprocess mode gathers them.
 * - `lmcache_2ltd`: [2][layers][tokens][kv_heads][head_dim]; LMCache KV_2LTD.
 * - `mla`: [layers][tokens][head_dim]; one latent plane a layer, no V, kv_heads = 1.
 * - `vllm_cpu_pages`: [layers][blocks][kv_heads][2][block_tokens][head_dim]; vLLM's CPU attention pages.
 * - `vllm_cpu_rows`: [layers][tokens][kv_heads][2 * head_dim] gathered row by row from those pages, where a row is not a token.
 *   vLLM 0.32 on x86 keeps a page's K as [head_dim][block_tokens]: such memory is restored bit by bit, but give it no `rope` and no lossy rung.
 * - `sglang_layer_first`: [blocks][2][layers][block_tokens][kv_heads][head_dim].
 * - `sglang_page_first`: [blocks][2][block_tokens][layers][kv_heads][head_dim].
 * - `bytes`: not understood. Coded losslessly as bytes, never guessed at.
 */
export type LayoutOrder =
  | 'split'
  | 'fused'
  | 'lmcache_2ltd'
  | 'mla'
  | 'vllm_cpu_pages'
  | 'vllm_cpu_rows'
  | 'sglang_layer_first'
  | 'sglang_page_first'
  | 'bytes';

/** Rotary position embedding that was applied to K. Source: RoFormer (Su et al., 2021). */
export interface RopeParameters {
  /** Base of the frequencies: one for all layers, or one a layer (models that mix local and global attention). */
  readonly theta: number | readonly number[];
  /** `half` pairs dim i with i + rotaryDims/2 (Llama, Qwen, Gemma); `interleaved` pairs 2i with 2i + 1 (GPT-J). */
  readonly style: 'half' | 'interleaved';
  /** How many leading dims of a head are rotated. Default: all of head_dim. */
  readonly rotaryDims?: number;
}

/** Everything a reader must know about a tensor's memory. Stored with the chunk and compared on load. */
export interface KvLayout {
  readonly order: LayoutOrder;
  readonly dtype: Dtype;
  readonly layers: number;
  readonly tokens: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Tokens of one engine block; needed by the paged orders, where `tokens` is a multiple of it. */
  readonly blockTokens?: number;
  readonly rope?: RopeParameters;
}

/** The KV cache of one chunk: a view over memory that the caller owns. */
export interface KvTensor {
  readonly layout: KvLayout;
  readonly data: Uint8Array;
  /** Absolute position of the first token in its sequence. Default 0. Needed to undo RoPE and to know the attention sinks. */
  readonly start?: number;
}
