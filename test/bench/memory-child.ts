// Run by memory.bench.ts: one operation in a fresh process, so that no memory of another run hides what it takes.
import { readFileSync, writeFileSync } from 'node:fs';
import { decode, encode } from '../../lib/codec/codec.js';
import type { KvLayout, KvTensor } from '../../lib/types.js';

/** What to do, as JSON in the last argument. */
export interface MemoryJob {
  readonly verb: 'encode' | 'decode' | 'round trips';
  readonly coder: string;
  readonly quality: string;
  readonly layout: KvLayout;
  readonly start: number;
  readonly tensorFile: string;
  readonly objectFile: string;
}

/** Bytes that the operation took at its peak, in- and output included; for round trips, by how much memory grew. */
export interface MemoryResult {
  readonly peakBytes: number;
}

const TRIPS = 1000;
const SETTLED = 200;
/** Layers of a round trip's tensor: small, so that a thousand take seconds. */
const TRIP_LAYERS = 2;

const job = JSON.parse(process.argv.at(-1) ?? '') as MemoryJob;
const peakBytes = await (job.verb === 'round trips' ? growth(job) : peak(job));
console.log(JSON.stringify({ peakBytes } satisfies MemoryResult));

async function peak({ verb, coder, quality, tensorFile, objectFile, layout, start }: MemoryJob): Promise<number> {
  await decode(await encode(tiny(), { coder, quality })); // loads the addon and its threads, which are not the chunk's
  const before = memory('VmRSS');
  if (verb === 'encode') {
    const tensor = { layout, start, data: readFileSync(tensorFile) };
    resetPeak();
    await encode(tensor, { coder, quality });
  } else {
    const object = readFileSync(objectFile);
    resetPeak();
    await decode(object);
  }
  return memory('VmHWM') - before;
}

async function growth({ coder, quality, tensorFile, layout, start }: MemoryJob): Promise<number> {
  const whole = readFileSync(tensorFile);
  const bytes = (whole.length / layout.layers) * TRIP_LAYERS;
  const tensor: KvTensor = { layout: { ...layout, layers: TRIP_LAYERS }, start, data: new Uint8Array(whole.subarray(0, bytes)) };
  let settled = 0;
  for (let trip = 1; trip <= TRIPS; trip++) {
    await decode(await encode(tensor, { coder, quality }));
    if (trip === SETTLED) settled = memory('VmRSS');
  }
  return memory('VmRSS') - settled;
}

function tiny(): KvTensor {
  return { layout: { order: 'split', dtype: 'bf16', layers: 1, tokens: 16, kvHeads: 1, headDim: 16 }, data: new Uint8Array(1024) };
}

function memory(field: 'VmRSS' | 'VmHWM'): number {
  if (field === 'VmRSS') globalThis.gc?.();
  const [, kilobytes] = new RegExp(`${field}:\\s*(\\d+)`).exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  return Number(kilobytes) * 1024;
}

/** From here on, VmHWM counts anew. */
function resetPeak(): void {
  globalThis.gc?.();
  writeFileSync('/proc/self/clear_refs', '5');
}
