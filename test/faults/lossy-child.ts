// The process that network.test.ts starts in a network namespace of its own: a server, a connector, and a loopback between them
// that loses one packet in a hundred. Prints what became of the calls as one line of JSON. The namespace goes with its processes.
//
//   unshare --net node vite-node.mjs lossy-child.ts redis|s3
import { execFileSync } from 'node:child_process';
import type { StorageConnector } from '../../lib/store/connector.js';
import { dataOf } from './chaos-values.js';
import { NETWORK_STORES } from './network-stores.js';

export interface LossyReport {
  /** Packets that were lost on their way to the server or from it. */
  readonly lostPackets: number;
  /** Calls with time to spare: how many gave the right bytes, and what the others did. */
  readonly right: number;
  readonly failures: readonly string[];
  /** Calls with a deadline that a loss may break: how many gave the right bytes, how many ended with the deadline, and how many were not over 50 ms after it. */
  readonly inTime: number;
  readonly ended: number;
  readonly overdue: number;
  /** Sockets that are open after close(). */
  readonly open: number;
}

const VALUE_BYTES = 256 * 1024;
const FIRST = dataOf(0, 0, VALUE_BYTES);
const CALLERS = 8;
/** Less than the system waits before it sends the last packets of an answer again. */
const SHORT_DEADLINE_MS = 100;

const DEADLINE = new Error('the deadline is over');

async function run(name: keyof typeof NETWORK_STORES): Promise<LossyReport> {
  // Ethernet's packets, and none of the bundles that the loopback would make of them: each is lost alone.
  execFileSync('ip', ['link', 'set', 'lo', 'mtu', '1500', 'gso_max_segs', '1', 'up']);
  const store = await NETWORK_STORES[name]();
  const connector = store.connect(store.port, 'lossy');
  try {
    await connector.put('first', FIRST);
    losePackets(store.port);
    const patient = await callAll(6, (i) => patientCall(connector, i));
    const hasty = await callAll(15, (i) => hastyCall(connector, i));
    await connector.close();
    const count = (outcomes: readonly Outcome[], kind: string): number => outcomes.filter(({ what }) => what === kind).length;
    return {
      lostPackets: lostPackets(),
      right: count(patient, 'right'),
      failures: [...patient, ...hasty].map(({ what }) => what).filter((what) => what !== 'right' && what !== 'ended'),
      inTime: count(hasty, 'right'),
      ended: count(hasty, 'ended'),
      overdue: hasty.filter(({ isOverdue }) => isOverdue).length,
      open: await openSockets(),
    };
  } finally {
    await connector.close();
    await store.stop();
  }
}

/** Only between client and server: what a server has to say to itself is not what is tested. */
function losePackets(port: number): void {
  for (const side of ['--sport', '--dport']) {
    execFileSync('iptables', ['-A', 'INPUT', '-p', 'tcp', side, String(port), '-m', 'statistic', '--mode', 'random', '--probability', '0.01', '-j', 'DROP']);
  }
}

function lostPackets(): number {
  const rules = execFileSync('iptables', ['-L', 'INPUT', '-n', '-v', '-x'], { encoding: 'utf8' }).split('\n').filter((line) => line.includes('DROP'));
  return rules.reduce((sum, line) => sum + Number(line.trim().split(/\s+/)[0]), 0);
}

interface Outcome {
  /** `right`, `ended` by its deadline, or what else happened. */
  readonly what: string;
  readonly isOverdue?: boolean;
}

/** Some callers, each of which calls that often. */
async function callAll(times: number, call: (i: number) => Promise<Outcome>): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  await Promise.all(
    Array.from({ length: CALLERS }, async (_, caller) => {
      for (let i = 0; i < times; i++) outcomes.push(await call(caller * times + i));
    }),
  );
  return outcomes;
}

/** Puts a value and gets it, whole and by range, each within the connector's own limit of five seconds. */
async function patientCall(connector: StorageConnector, i: number): Promise<Outcome> {
  const value = dataOf(i, 1, VALUE_BYTES);
  const range = { offset: 1000 * (i % 8), length: 100_000 };
  try {
    await connector.put(`key/${i}`, value);
    const whole = await connector.get(`key/${i}`);
    const part = await connector.get(`key/${i}`, { range });
    const isRight = isSame(whole, value) && isSame(part, value.subarray(range.offset, range.offset + range.length));
    return { what: isRight ? 'right' : `wrong bytes of key/${i}` };
  } catch (cause) {
    return { what: String(cause) };
  }
}

/** Gets a value with a deadline. Whether in time, a timer says: on a busy machine it comes as late as the call. */
async function hastyCall(connector: StorageConnector, i: number): Promise<Outcome> {
  const controller = new AbortController();
  let isOver = false;
  const isOverdue = new Promise<boolean>((resolve) => {
    setTimeout(() => {
      controller.abort(DEADLINE);
      setTimeout(() => resolve(!isOver), 50);
    }, SHORT_DEADLINE_MS);
  });
  const what = await connector.get('first', { signal: controller.signal }).then(
    (value) => (isSame(value, FIRST) ? 'right' : `wrong bytes in call ${i}`),
    (cause: unknown) => (cause === DEADLINE ? 'ended' : String(cause)),
  );
  isOver = true;
  return { what, isOverdue: await isOverdue };
}

/** What is open of a connector that is closed, when its last sockets had some time to end: a handle goes some turns after its socket. */
async function openSockets(): Promise<number> {
  const limit = performance.now() + 1000;
  for (;;) {
    const open = process.getActiveResourcesInfo().filter((resource) => resource.startsWith('TCP')).length;
    if (open === 0 || performance.now() > limit) return open;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function isSame(one: Uint8Array | undefined, other: Uint8Array): boolean {
  return one !== undefined && Buffer.compare(one, other) === 0;
}

const [, , name] = process.argv;
if (name !== 'redis' && name !== 's3') throw new Error(`expected redis or s3, got ${name}`);
console.log(JSON.stringify(await run(name)));
process.exit();
