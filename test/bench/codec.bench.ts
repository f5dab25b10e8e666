// Our coders and their peers on real captures: size, and speed on one thread. All take turns, round by round, in an order that changes,
// so that a noisy machine hits all of them; figures are medians, and ratios compare turns of the same round.
import { basename } from 'node:path';
import { table } from '../../connectors/engine/cli/table.js';
import { decode, encode, encodeBound } from '../../lib/codec/codec.js';
import { CODER_NAMES } from '../../lib/codec/coders/registry.js';
import { RUNG_NAMES } from '../../lib/codec/rungs.js';
import { KvError } from '../../lib/errors.js';
import type { KvTensor } from '../../lib/types.js';
import { captureTensor, spread, spreadText, type BenchContext, type BenchResult, type Spread } from './bench.js';
import { HOW_TO_GET_PEERS, PeerProcess, type Sample } from './peers/peer-process.js';

type Speed = 'encode_MBps' | 'decode_MBps' | 'encode_cpu_MBps' | 'decode_cpu_MBps';
const SPEEDS: readonly Speed[] = ['encode_MBps', 'decode_MBps', 'encode_cpu_MBps', 'decode_cpu_MBps'];

/** Timed runs of one turn, after one that is not timed; the peers do the same (peers/peer.py). */
const RUNS = 3;

interface Contender {
  readonly name: string;
  readonly isOurs: boolean;
  readonly isLossless: boolean;
  /** Turns it takes; slow peers take one. */
  readonly rounds: number;
  measure(path: string): Promise<readonly Sample[]>;
  close?(): void;
}

/** One contender's turn on one file in one round: medians of its runs. */
interface Turn extends Sample {
  readonly round: number;
}

/** Sizes and speeds of all coders, rungs and peers. */
export async function codecBench(context: BenchContext): Promise<BenchResult> {
  const contenders = [...(await ourContenders(context)), ...peers(context)];
  const turns: Turn[] = [];
  const gone = new Set<Contender>();
  try {
    for (let round = 0; round < context.rounds; round++) {
      for (const path of context.captures) {
        context.note(`round ${round + 1} of ${context.rounds}: ${basename(path)}`);
        for (const contender of rotated(contenders, round)) {
          if (round >= contender.rounds || gone.has(contender)) continue;
          try {
            turns.push(turnOf(await contender.measure(path), round));
          } catch (error) {
            if (contender.isOurs) throw error;
            gone.add(contender);
            context.note(`left out: ${contender.name}: ${String(error)}; ${HOW_TO_GET_PEERS}`);
          }
        }
      }
    }
  } finally {
    for (const contender of contenders) contender.close?.();
  }
  return report(contenders, turns);
}

async function ourContenders({ captures, rounds, note }: BenchContext): Promise<Contender[]> {
  const tensors = new Map<string, KvTensor>();
  for (const path of captures) tensors.set(path, await captureTensor(path));
  const [probe] = tensors.values();
  if (probe === undefined) throw new Error('no capture to measure');
  const contenders: Contender[] = [];
  for (const coder of CODER_NAMES) {
    for (const quality of RUNG_NAMES) {
      try {
        await encode(probe, { coder, quality });
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        if (error.code === 'KV_MISSING_DEPENDENCY') note(`left out: ${error.message}`);
        continue;
      }
      const isLossless = quality === 'exact';
      const memory = new Map<string, Memory>();
      const measure = (path: string) => measureOurs(tensors.get(path) ?? probe, { path, coder, quality, memory });
      contenders.push({ name: isLossless ? coder : `${coder} ${quality}`, isOurs: true, isLossless, rounds, measure });
    }
  }
  return contenders;
}

interface Memory {
  readonly object: Uint8Array;
  readonly data: Uint8Array;
}

async function measureOurs(
  tensor: KvTensor,
  { path, coder, quality, memory }: { path: string; coder: string; quality: string; memory: Map<string, Memory> },
): Promise<Sample[]> {
  const options = { coder, quality, threads: 1 };
  // Memory is allocated once and used again, as a server would: fresh pages cost more than decoding does.
  const { object, data } = memory.get(path) ?? { object: new Uint8Array(encodeBound(tensor, options)), data: new Uint8Array(tensor.data.length) };
  memory.set(path, { object, data });
  const encoding = { ...options, verify: false, into: object };
  const samples: Sample[] = [];
  for (let run = -1; run < RUNS; run++) {
    const encoded = await timed(() => encode(tensor, encoding));
    const decoded = await timed(() => decode(encoded.result, { threads: 1, into: data }));
    const speed = (seconds: number): number => tensor.data.length / seconds / 1e6;
    const sample: Sample = {
      name: quality === 'exact' ? coder : `${coder} ${quality}`,
      file: basename(path),
      bits_per_value: (encoded.result.length * 16) / tensor.data.length,
      encode_MBps: speed(encoded.wall),
      decode_MBps: speed(decoded.wall),
      encode_cpu_MBps: speed(encoded.cpu),
      decode_cpu_MBps: speed(decoded.cpu),
    };
    if (run >= 0) samples.push(sample);
  }
  return samples;
}

async function timed<T>(work: () => Promise<T>): Promise<{ result: T; wall: number; cpu: number }> {
  const cpuBefore = process.cpuUsage();
  const before = performance.now();
  const result = await work();
  const wall = (performance.now() - before) / 1000;
  const { user, system } = process.cpuUsage(cpuBefore);
  return { result, wall, cpu: (user + system) / 1e6 };
}

function peers({ rounds, note }: BenchContext): Contender[] {
  const wanted = [
    { name: 'zipnn', script: 'zipnn_peer.py', args: [], isLossless: true, rounds },
    { name: 'zstd-3', script: 'zstd_peer.py', args: ['3'], isLossless: true, rounds },
    { name: 'zstd-19', script: 'zstd_peer.py', args: ['19'], isLossless: true, rounds: 1 },
    { name: 'lmcache cachegen', script: 'cachegen_peer.py', args: [], isLossless: false, rounds: 1 },
  ];
  try {
    return wanted.map(({ script, args, ...contender }) => {
      const peer = new PeerProcess(script, args);
      return { ...contender, isOurs: false, measure: (path) => peer.measure(path), close: () => peer.close() };
    });
  } catch (error) {
    note(`left out: ZipNN, zstd and CacheGen: ${String(error)}`);
    return [];
  }
}

function rotated<T>(items: readonly T[], by: number): T[] {
  const at = by % items.length;
  return [...items.slice(at), ...items.slice(0, at)];
}

function turnOf(samples: readonly Sample[], round: number): Turn {
  const [first] = samples;
  if (first === undefined) throw new Error('it measured nothing');
  const medianOf = (speed: Speed): number => spread(samples.map((sample) => sample[speed])).median;
  const [encode_MBps = 0, decode_MBps = 0, encode_cpu_MBps = 0, decode_cpu_MBps = 0] = SPEEDS.map(medianOf);
  return { ...first, round, encode_MBps, decode_MBps, encode_cpu_MBps, decode_cpu_MBps };
}

/** Lossless beside lossless peers, quantised beside CacheGen, and `hevc` beside `rans`, which carries the same integers. */
function isCompared(ours: Contender, peer: Contender): boolean {
  if (!ours.isOurs || ours.name === 'raw') return false;
  if (!peer.isOurs) return ours.isLossless === peer.isLossless;
  return ours.name.replace('hevc ', 'rans ') === peer.name && ours !== peer;
}

function report(contenders: readonly Contender[], turns: readonly Turn[]): BenchResult {
  const measured = contenders.filter(({ name }) => turns.some((turn) => turn.name === name));
  const figures = measured.map(({ name }) => figuresOf(name, turns));
  const ratios = measured.flatMap((ours) => measured.filter((peer) => isCompared(ours, peer)).map((peer) => ratioOf(ours.name, peer.name, turns)));
  const speeds = figures.map((row) => [row.name, row.bits_per_value.toFixed(3), ...SPEEDS.map((speed) => spreadText(row[speed]))]);
  const compared = ratios.map((row) => [`${row.ours} / ${row.peer}`, row.bits_per_value.toFixed(3), ...SPEEDS.map((speed) => spreadText(row[speed], 2))]);
  const text = [
    table(['CODEC', 'BITS/VALUE', 'ENCODE MB/S', 'DECODE MB/S', 'ENCODE MB/CPU S', 'DECODE MB/CPU S'], speeds),
    '',
    table(['OURS / PEER', 'BITS', 'ENCODE', 'DECODE', 'ENCODE BY CPU', 'DECODE BY CPU'], compared),
    '',
    'Bits per value, file by file:',
    bitsByFile(measured.map(({ name }) => name), turns),
  ].join('\n');
  return { rows: [...figures, ...ratios], text };
}

interface Figures extends Readonly<Record<Speed, Spread>> {
  readonly name: string;
  readonly bits_per_value: number;
  readonly bits_by_file: Readonly<Record<string, number>>;
}

function figuresOf(name: string, turns: readonly Turn[]): Figures {
  const own = turns.filter((turn) => turn.name === name);
  const bitsByFile = Object.fromEntries(own.map((turn) => [turn.file, turn.bits_per_value]));
  const files = Object.values(bitsByFile);
  return { name, bits_per_value: files.reduce((sum, bits) => sum + bits, 0) / files.length, bits_by_file: bitsByFile, ...speeds((speed) => own.map((turn) => turn[speed])) };
}

interface Ratios extends Readonly<Record<Speed, Spread>> {
  readonly ours: string;
  readonly peer: string;
  readonly bits_per_value: number;
}

function ratioOf(ours: string, peer: string, turns: readonly Turn[]): Ratios {
  const pairs = turns
    .filter(({ name }) => name === ours)
    .flatMap((turn) => turns.filter(({ name, file, round }) => name === peer && file === turn.file && round === turn.round).map((other) => [turn, other] as const));
  const bits = spread(pairs.map(([turn, other]) => turn.bits_per_value / other.bits_per_value)).median;
  return { ours, peer, bits_per_value: bits, ...speeds((speed) => pairs.map(([turn, other]) => turn[speed] / other[speed])) };
}

function speeds(values: (speed: Speed) => readonly number[]): Record<Speed, Spread> {
  const of = (speed: Speed): Spread => spread(values(speed));
  return { encode_MBps: of('encode_MBps'), decode_MBps: of('decode_MBps'), encode_cpu_MBps: of('encode_cpu_MBps'), decode_cpu_MBps: of('decode_cpu_MBps') };
}

function bitsByFile(names: readonly string[], turns: readonly Turn[]): string {
  const files = [...new Set(turns.map(({ file }) => file))];
  const bits = (file: string, name: string): string => turns.find((turn) => turn.file === file && turn.name === name)?.bits_per_value.toFixed(3) ?? '-';
  return table(['FILE', ...names], files.map((file) => [file, ...names.map((name) => bits(file, name))]));
}
