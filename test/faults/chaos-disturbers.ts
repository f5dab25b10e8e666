// What disturbs a store under chaos: a proxy that plays another fault each moment, a server that is stopped, files that are damaged.
import { execFile } from 'node:child_process';
import { closeSync, copyFileSync, ftruncateSync, lstatSync, mkdirSync, openSync, readdirSync, readSync, renameSync, rmSync, statSync, symlinkSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Fault, Proxy } from './proxy.js';

/** Makes the next thing go wrong each time it is called. */
export interface Disturber {
  /** Says what, for the report. */
  next(random: () => number): Promise<string> | string;
  /** Milliseconds between two faults at most. */
  readonly everyMs: number;
  /** Makes all well again. */
  calm(): Promise<void>;
}

/** A server that can be disturbed directly. */
export interface DisturbedServer {
  pause(): void;
  resume(): void;
  /** More that can happen to it, by name. */
  readonly events?: Readonly<Record<string, () => Promise<unknown>>>;
}

/** Plays faults of the network, with flipped bits only if asked, and stops the server behind it. Every third moment is a quiet one. */
export function networkDisturber(proxy: Proxy, server: DisturbedServer, withFlips: boolean): Disturber {
  return {
    everyMs: 150,
    async next(random) {
      server.resume();
      const [fault, event] = [faultOf(random, withFlips), eventOf(random, server)];
      await proxy.set(fault);
      await event?.[1]();
      return event?.[0] ?? fault?.kind ?? 'none';
    },
    async calm() {
      server.resume();
      await proxy.set(undefined);
    },
  };
}

function eventOf(random: () => number, server: DisturbedServer): [string, () => Promise<unknown>] | undefined {
  if (random() > 0.12) return undefined;
  const events: [string, () => Promise<unknown>][] = [['pause', async () => server.pause()], ...Object.entries(server.events ?? {})];
  return events[Math.floor(events.length * random())];
}

function faultOf(random: () => number, withFlips: boolean): Fault | undefined {
  const below = (limit: number): number => Math.floor(limit * random());
  const direction = random() < 0.3 ? 'toServer' : 'toClient';
  const faults: (Fault | undefined)[] = [
    { kind: 'refuse' },
    { kind: 'blackhole' },
    { kind: 'stall', afterBytes: below(20_000), direction },
    { kind: 'trickle', bytes: 1 + below(100), everyMs: 1 + below(10), direction },
    { kind: 'delay', ms: below(20), jitterMs: below(20), direction },
    { kind: 'reset', afterBytes: below(20_000), direction },
    { kind: 'half-close', afterBytes: below(20_000), direction },
    { kind: 'truncate', afterBytes: below(20_000), direction },
    { kind: 'bandwidth', bytesPerSecond: 100_000 + below(10_000_000), direction },
    ...Array.from({ length: 5 }, () => undefined),
    ...(withFlips ? Array.from({ length: 6 }, (): Fault => ({ kind: 'flip', atByte: below(3000), direction })) : []),
  ];
  return faults[below(faults.length)];
}

/**
 * Damages the entry files of a filesystem store: in ways that the connector notices by itself, or, with `withFlips`, also in
 * ways that only checksums do.
 */
export function fileDisturber(root: string, withFlips: boolean): Disturber {
  const directories = new Set<string>();
  const removeDirectories = (): void => {
    for (const directory of directories) rmSync(directory, { recursive: true, force: true });
    directories.clear();
  };
  const damages: readonly (readonly [string, (entry: FoundEntry, random: () => number) => void])[] = [
    ['delete', ({ path }) => rmSync(path)],
    ['truncate', ({ path, bytes }, random) => truncateSync(path, Math.floor(bytes * random()))],
    ['extend', ({ path }) => overwrite(path, statSync(path).size, Buffer.alloc(100, 7))],
    ['zero the end', ({ path, bytes }, random) => overwrite(path, bytes - 1 - Math.floor(500 * random()), Buffer.alloc(501).subarray(0, 501))],
    ['another entry', ({ path, other }) => replace(path, (place) => copyFileSync(other, place))],
    ['symbolic link', ({ path, other }) => replace(path, (place) => symlinkSync(other, place))],
    ['FIFO', ({ path }) => replace(path, makeFifo)],
    ['directory', ({ path }) => {
      rmSync(path);
      mkdirSync(path);
      directories.add(path);
    }],
  ];
  const silentDamages: typeof damages = [
    ['flip', ({ path, bytes }, random) => flipBit(path, Math.floor(bytes * random()), Math.floor(8 * random()))],
    ['flip', ({ path, bytes }, random) => flipBit(path, Math.floor(bytes * random()), Math.floor(8 * random()))],
    ['flip', ({ path, bytes }, random) => flipBit(path, Math.floor(bytes * random()), Math.floor(8 * random()))],
    ['zeros inside', ({ path, bytes }, random) => overwrite(path, Math.floor(bytes * random()), Buffer.alloc(1 + Math.floor(300 * random())))],
    ['overwrite in place', ({ path, other }) => copyFileSync(other, path)],
  ];
  const all = withFlips ? [...damages, ...silentDamages] : damages;

  return {
    everyMs: 6,
    async next(random) {
      removeDirectories();
      const entry = findEntry(root, random);
      const [name, damage] = all[Math.floor(all.length * random())] ?? [];
      if (entry === undefined || name === undefined || damage === undefined) return 'none';
      // A FIFO or a link that is damaged again, or an entry that was deleted meanwhile: as well.
      try {
        await damage(entry, random);
      } catch (cause) {
        if (!(cause instanceof Error && 'code' in cause)) throw cause;
      }
      return name;
    },
    async calm() {
      removeDirectories();
    },
  };
}

interface FoundEntry {
  readonly path: string;
  readonly bytes: number;
  readonly other: string;
}

function findEntry(root: string, random: () => number): FoundEntry | undefined {
  const pick = <T>(of: readonly T[]): T | undefined => of[Math.floor(of.length * random())];
  const pickFile = (): string | undefined => {
    const directory = pick(namesIn(root).filter((name) => name.length === 2));
    const name = directory && pick(namesIn(join(root, directory)));
    return directory && name && join(root, directory, name);
  };
  const [path, other] = [pickFile(), pickFile()];
  if (path === undefined || other === undefined || !isFile(path) || !isFile(other)) return undefined;
  return { path, other, bytes: statSync(path).size };
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return []; // before the first put
  }
}

function isFile(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

function overwrite(path: string, at: number, bytes: Uint8Array): void {
  const file = openSync(path, 'r+');
  writeSync(file, bytes, 0, bytes.byteLength, Math.max(0, at));
  closeSync(file);
}

function flipBit(path: string, at: number, bit: number): void {
  const file = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  if (readSync(file, byte, 0, 1, at) === 1) writeSync(file, Buffer.from([byte.readUInt8() ^ (1 << bit)]), 0, 1, at);
  else ftruncateSync(file, 0);
  closeSync(file);
}

/** Puts something else in an entry's place at once, as a rename does. */
async function replace(path: string, make: (place: string) => void | Promise<unknown>): Promise<void> {
  const place = `${path}.new`;
  rmSync(place, { force: true });
  await make(place);
  renameSync(place, path);
}

function makeFifo(path: string): Promise<unknown> {
  return promisify(execFile)('mkfifo', [path]);
}
