// Memory of encode and decode beside the chunk's size, each in a process of its own (memory-child.ts), and a thousand round trips.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { table } from '../../connectors/engine/cli/table.js';
import { encode } from '../../lib/codec/codec.js';
import { CODER_NAMES } from '../../lib/codec/coders/registry.js';
import type { KvTensor } from '../../lib/types.js';
import { captureTensor, type BenchContext, type BenchResult } from './bench.js';
import type { MemoryJob, MemoryResult } from './memory-child.js';

const VITE_NODE = join(import.meta.dirname, '../../node_modules/vite-node/vite-node.mjs');
const CONTENDERS = [
  { coder: 'raw', quality: 'exact' },
  { coder: 'exact', quality: 'exact' },
  { coder: 'rans', quality: 'q4' },
  { coder: 'hevc', quality: 'q4' },
];
/** The capture is repeated to about this size, so that what the process itself takes is small beside it. */
const TENSOR_BYTES = 32 * 2 ** 20;
const MIB = 2 ** 20;

/** Peak memory, tensor and object included, as a multiple of the tensor; growth over 1,000 round trips under forced GC. Linux only. */
export async function memoryBench({ captures, note }: BenchContext): Promise<BenchResult> {
  const [path] = captures;
  if (process.platform !== 'linux' || path === undefined) {
    note('left out: memory: it reads the peak from /proc, which only Linux has');
    return { rows: [], text: 'left out' };
  }
  const folder = mkdtempSync(join(tmpdir(), 'kvreel-memory-'));
  try {
    const tensor = repeated(await captureTensor(path), TENSOR_BYTES);
    const tensorFile = join(folder, 'tensor');
    const objectFile = join(folder, 'object');
    writeFileSync(tensorFile, tensor.data);
    const { layout, start = 0 } = tensor;
    const rows = [];
    for (const contender of CONTENDERS.filter(({ coder }) => CODER_NAMES.includes(coder))) {
      note(`memory: ${contender.coder}`);
      writeFileSync(objectFile, await encode(tensor, contender));
      const job = { ...contender, layout, start, tensorFile, objectFile };
      const encoding = inChild({ ...job, verb: 'encode' });
      const decoding = inChild({ ...job, verb: 'decode' });
      const trips = inChild({ ...job, verb: 'round trips' });
      rows.push({
        ...contender,
        tensor_bytes: tensor.data.length,
        encode_peak_ratio: encoding.peakBytes / tensor.data.length,
        decode_peak_ratio: decoding.peakBytes / tensor.data.length,
        round_trip_growth_bytes: trips.peakBytes,
      });
    }
    const cells = rows.map((row) => [`${row.coder} ${row.quality}`, (row.tensor_bytes / MIB).toFixed(1), row.encode_peak_ratio.toFixed(2), row.decode_peak_ratio.toFixed(2), (row.round_trip_growth_bytes / MIB).toFixed(2)]);
    return { rows, text: table(['CODEC', 'CHUNK MIB', 'ENCODE PEAK / CHUNK', 'DECODE PEAK / CHUNK', 'GROWTH MIB, TRIPS 200-1000'], cells) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function inChild(job: MemoryJob): MemoryResult {
  const child = join(import.meta.dirname, 'memory-child.ts');
  const output = execFileSync(process.execPath, ['--expose-gc', VITE_NODE, child, JSON.stringify(job)], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  return JSON.parse(output) as MemoryResult;
}

/** A tensor with the capture's layers several times over: real values, a larger chunk. */
function repeated({ layout, data, start = 0 }: KvTensor, bytes: number): KvTensor {
  const times = Math.max(1, Math.round(bytes / data.length));
  const larger = new Uint8Array(data.length * times);
  for (let i = 0; i < times; i++) larger.set(data, i * data.length);
  return { layout: { ...layout, layers: layout.layers * times }, data: larger, start };
}
