// Our HEVC writer and reader beside x265 and libavcodec: the C++ benchmark of test/addon/hevc, built and run.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { table } from '../../connectors/engine/cli/table.js';
import type { BenchContext, BenchResult } from './bench.js';
import { HOW_TO_GET_PEERS, PYTHON } from './peers/peer-process.js';

const HEVC = join(import.meta.dirname, '../addon/hevc');

/** A row of hevc_bench --json; speeds in million values a CPU second. */
interface HevcRow {
  readonly name: string;
  readonly entropy_bits: number;
  readonly bits_per_value: number;
  readonly x265_bits_per_value: number;
  readonly write_scalar_mvalues_s: number;
  readonly write_fast_mvalues_s: number;
  readonly x265_mvalues_s: number;
  readonly read_scalar_mvalues_s: number;
  readonly read_fast_mvalues_s: number;
  readonly libavcodec_mvalues_s: number;
}

/** Sizes and speeds on random values, and on the captures' values where Python is there to quantise them. */
export async function hevcBench({ captures, rounds, note }: BenchContext): Promise<BenchResult> {
  const folder = mkdtempSync(join(tmpdir(), 'kvreel-hevc-'));
  try {
    const built = spawnSync('sh', [join(HEVC, 'build.sh'), folder, 'hevc_bench'], { encoding: 'utf8' });
    if (built.status !== 0) {
      note(`left out: hevc: it needs a C++17 compiler, libx265-dev, libavcodec-dev and libavutil-dev: ${built.stderr.trim().split('\n')[0] ?? ''}`);
      return { rows: [], text: 'left out' };
    }
    const values = quantised(captures, folder, note);
    const output = execFileSync(join(folder, 'hevc_bench'), ['--json', '--rounds', String(Math.min(rounds, 5)), ...values], { encoding: 'utf8' });
    const rows = JSON.parse(output) as HevcRow[];
    return { rows, text: hevcTable(rows) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function quantised(captures: readonly string[], folder: string, note: (text: string) => void): string[] {
  if (!existsSync(PYTHON)) {
    note(`left out: the captures' values: ${HOW_TO_GET_PEERS}`);
    return [];
  }
  const values = join(folder, 'values');
  execFileSync(PYTHON, [join(HEVC, 'quantise_captures.py'), values, ...captures]);
  return readdirSync(values).sort().map((name) => join(values, name));
}

function hevcTable(rows: readonly HevcRow[]): string {
  const heading = ['VALUES', 'ENTROPY', 'BITS/VALUE', '/ ENTROPY', '/ X265', 'WRITE MV/S', '/ X265', '/ SCALAR', 'READ MV/S', '/ LIBAVCODEC', '/ SCALAR'];
  const cells = rows.map((row) => [
    row.name,
    row.entropy_bits.toFixed(3),
    row.bits_per_value.toFixed(3),
    (row.bits_per_value / row.entropy_bits).toFixed(3),
    (row.bits_per_value / row.x265_bits_per_value).toFixed(3),
    row.write_fast_mvalues_s.toFixed(0),
    (row.write_fast_mvalues_s / row.x265_mvalues_s).toFixed(1),
    (row.write_fast_mvalues_s / row.write_scalar_mvalues_s).toFixed(2),
    row.read_fast_mvalues_s.toFixed(0),
    (row.read_fast_mvalues_s / row.libavcodec_mvalues_s).toFixed(2),
    (row.read_fast_mvalues_s / row.read_scalar_mvalues_s).toFixed(2),
  ]);
  return table(heading, cells);
}
