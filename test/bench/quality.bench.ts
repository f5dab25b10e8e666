// Bits against what a model says, beside LMCache's CacheGen: test/quality/measure.py on the models that its setup.sh made.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { table } from '../../connectors/engine/cli/table.js';
import type { BenchContext, BenchResult } from './bench.js';
import { CACHE, PYTHON } from './peers/peer-process.js';

const ROOT = join(import.meta.dirname, '../..');
const MODELS = ['smollm2-135m', 'gemma-3-270m'];

interface QualityRow {
  readonly codec: string;
  readonly bits_per_value: number;
  readonly kl: number;
  readonly worst_kl: number;
  readonly top1_percent: number;
}

/** KL and bits of each rung on each model that is there; about three minutes a model. Needs `npm run build`. */
export async function qualityBench({ note }: BenchContext): Promise<BenchResult> {
  const models = MODELS.map((name) => join(CACHE, 'models', name)).filter((path) => existsSync(path));
  if (!existsSync(PYTHON) || models.length === 0) {
    note('left out: quality: run `sh test/quality/setup.sh smollm2` (and `gemma`, under its own terms)');
    return { rows: [], text: 'left out' };
  }
  const reports = models.map((model) => {
    const done = spawnSync(PYTHON, [join(ROOT, 'test/quality/measure.py'), '--model', model, '--json'], { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
    if (done.status !== 0) throw new Error(`measure.py ended with ${done.status ?? done.signal}`);
    return JSON.parse(done.stdout) as { model: string; rows: QualityRow[] };
  });
  const cells = reports.flatMap(({ model, rows }) => {
    const cachegen = rows.find(({ codec }) => codec.includes('cachegen'));
    const against = (row: QualityRow, field: 'bits_per_value' | 'kl'): string => (cachegen ? (row[field] / cachegen[field]).toPrecision(2) : '-');
    return rows.map((row) => [model, row.codec, row.bits_per_value.toFixed(3), row.kl.toExponential(2), row.worst_kl.toExponential(2), row.top1_percent.toFixed(1), against(row, 'bits_per_value'), against(row, 'kl')]);
  });
  return { rows: reports, text: table(['MODEL', 'CODEC', 'BITS/VALUE', 'MEAN KL', 'WORST KL', 'TOP-1 %', 'BITS / CACHEGEN', 'KL / CACHEGEN'], cells) };
}
