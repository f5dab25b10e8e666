// Holds docs/format.md to what the library does: the bytes that it prints, and all that it says of coders. Coder hevc needs ffmpeg for that.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { tensorOf } from '../store/tensors.js';
import { decode, encode, inspect } from '../../../lib/codec/codec.js';
import { packLayout } from '../../../lib/codec/layout.js';
import { RUNG_NAMES } from '../../../lib/codec/rungs.js';
import type { KvTensor } from '../../../lib/types.js';
import { goldenCase, goldenObject } from './golden.js';
import { readBySpecification } from './spec-reader.js';

const PAGE = readFileSync(join(import.meta.dirname, '../../../docs/format.md'), 'utf8');

/** The bytes of the page's ```hex block, whose lines are: offset, two spaces, bytes, what they are. */
function printedBytes(): Uint8Array {
  const [, block = ''] = /```hex\n([^`]*)```/.exec(PAGE) ?? [];
  const bytes: number[] = [];
  for (const line of block.trimEnd().split('\n')) {
    const [, offset = '', hex = ''] = /^([0-9a-f]{4}) {2}((?:[0-9a-f]{2} ?){1,12})/.exec(line) ?? [];
    expect(Number.parseInt(offset, 16), line).toBe(bytes.length);
    bytes.push(...hex.trim().split(' ').map((byte) => Number.parseInt(byte, 16)));
  }
  return Uint8Array.from(bytes);
}

const hasFfmpeg = spawnSync('ffmpeg', ['-version']).status === 0;

function ffmpegSamples(video: Uint8Array): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'kvreel-video-'));
  try {
    writeFileSync(join(folder, 'in.hevc'), video);
    const args = ['-v', 'error', '-f', 'hevc', '-i', join(folder, 'in.hevc'), '-fps_mode', 'passthrough', '-f', 'rawvideo', join(folder, 'out.yuv')];
    expect(spawnSync('ffmpeg', args, { encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' });
    return readFileSync(join(folder, 'out.yuv'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** A tensor as the specification's reader gives it. */
const canonical = (tensor: KvTensor): Uint8Array => (tensor.layout.order === 'bytes' ? tensor.data : packLayout(tensor).data);

describe('the worked example of docs/format.md', () => {
  it('is the golden object, byte by byte', () => {
    expect(Buffer.from(printedBytes()).toString('hex')).toBe(Buffer.from(goldenObject('worked')).toString('hex'));
  });

  it('is what the library writes today', async () => {
    const { tensor, options } = goldenCase('worked');
    expect(Buffer.compare(await encode(tensor, options), printedBytes())).toBe(0);
  });

  it('decodes to the tensor of its formula', async () => {
    const patterns = Array.from({ length: 64 }, (_, i) => [i >> 1, i & 1] as const).map(([t, d]) => 0x3f80 + ((29 * t + 7 * d) % 32) + (t % 4 === d ? 0x8000 : 0));
    const { data } = await decode(printedBytes());
    expect([...new Uint16Array(data.buffer)]).toEqual(patterns);
    expect(Buffer.compare(readBySpecification(printedBytes()), data)).toBe(0);
  });
});

describe('a reader written from docs/format.md alone restores', () => {
  it.each(['raw-bf16', 'exact-bf16', 'exact-f32', 'exact-f8', 'rans-q6', 'rans-q3-f16'])('%s', async (name) => {
    expect(Buffer.compare(readBySpecification(goldenObject(name)), canonical(await decode(goldenObject(name))))).toBe(0);
  });

  it.each(RUNG_NAMES.filter((name) => name !== 'exact'))('other tensors of rung %s', async (quality) => {
    for (const rope of [undefined, { theta: 10000, style: 'half' }, { theta: 500, style: 'interleaved', rotaryDims: 4 }] as const) {
      const { layout, data } = tensorOf({ order: 'split', dtype: 'bf16', layers: 3, tokens: 53, kvHeads: 2, headDim: 8, ...(rope && { rope }) });
      for (const start of [0, 100]) {
        const object = await encode({ layout, data, start }, { quality, coder: 'rans' });
        expect(Buffer.compare(readBySpecification(object), (await decode(object)).data)).toBe(0);
      }
    }
  });

  it.runIf(hasFfmpeg)('hevc-q5, its video decoded by ffmpeg', async () => {
    expect(Buffer.compare(readBySpecification(goldenObject('hevc-q5'), ffmpegSamples), (await decode(goldenObject('hevc-q5'))).data)).toBe(0);
  });

  it.runIf(hasFfmpeg)('hevc of more than one picture and stream', async () => {
    const { layout, data } = tensorOf({ order: 'split', dtype: 'bf16', layers: 7, tokens: 300, kvHeads: 4, headDim: 128, rope: { theta: 10000, style: 'half' } });
    const object = await encode({ layout, data }, { quality: 'q3', coder: 'hevc', groupTokens: 272 });
    expect(inspect(object).lengths.length).toBe(4);
    expect(Buffer.compare(readBySpecification(object, ffmpegSamples), (await decode(object)).data)).toBe(0);
  });
});
