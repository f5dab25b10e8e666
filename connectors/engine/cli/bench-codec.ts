import { decode, encode, encodeBound } from '../../../lib/codec/codec.js';
import { CODER_NAMES, coderNamed } from '../../../lib/codec/coders/registry.js';
import { RUNG_NAMES, rungOf } from '../../../lib/codec/rungs.js';
import { readObject } from '../../../lib/container/object.js';
import type { KvTensor } from '../../../lib/types.js';
import { readCapture } from '../capture/capture.js';
import type { Call, Command } from './command.js';
import { codeOf } from './error-code.js';
import { readSafetensors } from './input-file.js';
import { bitsPerValue, errorJson, rounded } from './object-summary.js';
import { sectionTokens, warnIfNotUnderstood } from './read-capture.js';
import { encodingOf, ENCODE_OPTIONS } from './shared-options.js';
import { table } from './table.js';

const RUNS = 5;

// A coder that is not installed, or that finds when it looks at the values that it cannot carry them.
const LEFT_OUT: ReadonlySet<string | undefined> = new Set(['KV_MISSING_DEPENDENCY', 'KV_UNSUPPORTED']);

/** One line of the result. */
interface Measured {
  readonly file: string;
  readonly codec: string;
  readonly rung: string;
  readonly bits_per_value: number;
  readonly encode_MBps: number;
  readonly decode_MBps: number;
  readonly max_abs_error: number;
  readonly rel_rms_error: number;
  readonly identical: boolean;
}

interface Contender {
  readonly coder: string;
  readonly quality: string;
}

export const benchCodecCommand: Command = {
  name: 'bench codec',
  operands: ['FILE'],
  isVariadic: true,
  summary: `Encodes and decodes captures with every codec and rung: size, error, and speed on one thread (median of ${RUNS} runs into memory in use).`,
  options: { 'group-tokens': ENCODE_OPTIONS['group-tokens'] },
  async run(call) {
    const { groupTokens } = encodingOf(call);
    const results: Measured[] = [];
    for (const file of call.operands) {
      const capture = readCapture(await readSafetensors(file, call));
      warnIfNotUnderstood(call.screen, file, capture);
      const { tensor } = capture;
      const sections = sectionTokens(tensor.layout, groupTokens);
      for (const contender of contendersFor(tensor, sections)) {
        call.screen.progress(`${file}: ${contender.coder}, ${contender.quality}`);
        const figures = await unlessLeftOut(call, contender, () => measure(tensor, contender, { groupTokens: sections, threads: 1, signal: call.signal }));
        if (figures) results.push({ file, codec: contender.coder, rung: contender.quality, ...figures });
      }
    }
    const rows = results.map((row) => [
      row.file,
      row.codec,
      row.rung,
      row.bits_per_value.toFixed(3),
      row.encode_MBps.toFixed(0),
      row.decode_MBps.toFixed(0),
      row.max_abs_error.toPrecision(3),
      row.rel_rms_error.toPrecision(3),
      row.identical ? 'yes' : 'no',
    ]);
    call.screen.result(results, table(['FILE', 'CODEC', 'RUNG', 'BITS/VALUE', 'ENCODE MB/S', 'DECODE MB/S', 'MAX ERROR', 'REL RMS ERROR', 'IDENTICAL'], rows));
  },
};

function contendersFor(tensor: KvTensor, groupTokens: number): Contender[] {
  const pairs = CODER_NAMES.flatMap((coder) => RUNG_NAMES.map((name) => ({ coder, rung: rungOf(name) })));
  const start = tensor.start ?? 0;
  const accepted = pairs.filter(({ coder, rung }) => coderNamed(coder)?.refuses({ layout: tensor.layout, start, rung, groupTokens: Math.min(groupTokens, tensor.layout.tokens) }) === undefined);
  return accepted.map(({ coder, rung }) => ({ coder, quality: rung.name }));
}

async function unlessLeftOut<T>({ screen }: Call, contender: Contender, work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Error) || !LEFT_OUT.has(codeOf(error))) throw error;
    screen.warn(`left out: ${contender.coder}, ${contender.quality}: ${error.message}`);
    return undefined;
  }
}

async function measure(tensor: KvTensor, contender: Contender, common: { groupTokens: number; threads: number; signal: AbortSignal }): Promise<Omit<Measured, 'file' | 'codec' | 'rung'>> {
  const encoding = { ...contender, ...common };
  const object = await encode(tensor, encoding); // verified, which is what measures the error; a warm-up too
  const { header } = readObject(object);
  const into = new Uint8Array(encodeBound(tensor, encoding));
  const data = new Uint8Array(tensor.data.length);
  const { threads, signal } = common;
  const encodeMs = await medianMs(() => encode(tensor, { ...encoding, into, verify: false }));
  const decodeMs = await medianMs(() => decode(object, { into: data, threads, signal }));
  return {
    bits_per_value: bitsPerValue(object.length, tensor.layout),
    encode_MBps: rounded(tensor.data.length / encodeMs / 1000, 1),
    decode_MBps: rounded(tensor.data.length / decodeMs / 1000, 1),
    ...errorJson(header.error),
  };
}

async function medianMs(work: () => Promise<unknown>): Promise<number> {
  await work();
  const times: number[] = [];
  for (let run = 0; run < RUNS; run++) {
    const begin = performance.now();
    await work();
    times.push(performance.now() - begin);
  }
  return times.sort((a, b) => a - b)[Math.floor(RUNS / 2)] ?? 0;
}
