// A LoRA adapter of one layer, with weights of no use.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileBytes, partsOf, type TestTensor } from '../engine/safetensors-bytes.js';

const RANK = 8;
/** Of SmolLM2-135M. */
const HIDDEN = 576;

/** Writes it into `directory`. */
export function writeAdapter(directory: string): void {
  const target = 'base_model.model.model.layers.0.self_attn.q_proj';
  const tensor = (name: string, shape: readonly [number, number]): TestTensor => {
    const values = Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => Math.sin(i) / 64);
    return { name: `${target}.${name}.weight`, dtype: 'F32', shape, bytes: new Uint8Array(values.buffer) };
  };
  const { header, data } = partsOf([tensor('lora_A', [RANK, HIDDEN]), tensor('lora_B', [HIDDEN, RANK])]);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'adapter_model.safetensors'), fileBytes(header, data));
  const config = { peft_type: 'LORA', task_type: 'CAUSAL_LM', r: RANK, lora_alpha: RANK, target_modules: ['q_proj'], bias: 'none' };
  writeFileSync(join(directory, 'adapter_config.json'), JSON.stringify(config));
}
