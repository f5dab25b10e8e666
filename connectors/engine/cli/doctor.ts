import { KvError } from '../../../lib/errors.js';
import type { Namespace } from '../../../lib/store/namespace.js';
import { readSpace } from '../daemon/space.js';
import { compareKeys, keysReport, REPORT, seedWarning, type KeysDifference, type KeysReport } from '../doctor/keys-report.js';
import { UsageError, type Call, type Command } from './command.js';
import { readJsonFile } from './json-file.js';
import { list, table } from './table.js';
import { version } from './version.js';

const MOST_SHOWN = 60;

export const doctorCommand: Command = {
  name: 'doctor',
  operands: [],
  summary: 'Tells how this node names chunks, and whether another node names them the same: what one stores the other must find.',
  options: {
    keys: { help: 'examine keys: every hash algorithm on the same tokens, names of every engine, the seed of Python' },
    space: { value: 'FILE', help: 'a space as engines register it (JSON with model and geometry): its digest is examined too' },
    against: { value: 'REPORT', help: 'what `kvreel doctor --keys --json` printed on another node' },
  },
  async run(call) {
    if (!call.isSet('keys')) throw new UsageError('expected --keys: what to examine');
    const seed = call.variable('PYTHONHASHSEED');
    const report = keysReport({ kvreel: version(), node: process.version }, seed, await spaceOf(call));
    const warning = seedWarning(seed);
    if (warning !== undefined) call.screen.warn(`warning: ${warning}`);
    const other = call.text('against');
    if (other === undefined) return call.screen.result(report, reportText(report));
    const differences = compareKeys(report, await readReport(other, call));
    call.screen.result({ agree: differences.length === 0, differences }, differences.length === 0 ? `the nodes agree on every key${report.space ? '' : ' (no --space was compared)'}` : differencesText(differences));
    if (differences.length > 0) throw new KvError('KV_KEYS_DIFFER', `the nodes name chunks differently, and miss what the other stored: ${differences.map(({ field }) => field).join(', ')}`);
  },
};

async function spaceOf(call: Call): Promise<Namespace | undefined> {
  const path = call.text('space');
  if (path === undefined) return undefined;
  const value = await readJsonFile(path, call);
  try {
    return readSpace(value, 'exact');
  } catch (cause) {
    throw new UsageError(`${path}: ${cause instanceof Error ? cause.message : ''}`, { cause });
  }
}

async function readReport(path: string, call: Call): Promise<KeysReport> {
  const value = await readJsonFile(path, call);
  if (typeof value !== 'object' || value === null || !('report' in value) || value.report !== REPORT) {
    throw new UsageError(`${path}: expected what \`kvreel doctor --keys --json\` printed on another node, with a version of kvreel that compares them as this one does (${REPORT})`);
  }
  return value as KeysReport;
}

function reportText({ versions, python_hash_seed: seed, hashes, names, space }: KeysReport): string {
  const entries: [string, string][] = [
    ['kvreel', `${versions.kvreel}, Node ${versions.node}`],
    ['PYTHONHASHSEED', seed ?? 'not set'],
    ...Object.entries(hashes).map(([algorithm, values]): [string, string] => [algorithm, values?.at(-1) ?? 'another in each process']),
    ...Object.entries(names),
    ['space', space === null ? 'none was said; --space FILE' : String(space.digest)],
  ];
  return `${list(entries)}\n\nOn the other node: kvreel doctor --keys --json > report.json; here: kvreel doctor --keys --against report.json`;
}

function differencesText(differences: readonly KeysDifference[]): string {
  return table(['DIFFERS', 'HERE', 'THERE'], differences.map(({ field, here, there }) => [field, shown(here), shown(there)]));
}

function shown(value: unknown): string {
  const text = typeof value === 'string' ? value : Array.isArray(value) ? String(value.at(-1)) : JSON.stringify(value);
  return text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}...` : text;
}
