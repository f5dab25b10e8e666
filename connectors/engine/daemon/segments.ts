// Memory that clients and the daemon both have. A client may be killed at any moment, so each segment is held by a lease.
import { randomBytes, randomInt } from 'node:crypto';
import { readdirSync, unlinkSync } from 'node:fs';
import { KvError } from '../../../lib/errors.js';
import type { SegmentRange } from './requests.js';
import { MAX_RANGE_BYTES, openSharedFile, type SharedFile } from './shared-file.js';
import { invalid } from './wire-error.js';

const FOLDER = '/dev/shm';
const OWN_PREFIX = 'kvreel-';
const OWN_NAME = /^kvreel-[0-9a-f]{32}$/;
const NAME = /^\/dev\/shm\/(?!\.{1,2}$)[^/\0]{1,200}$/;
const MAX_SEGMENTS = 4096;

/** What a client is told of a segment. */
export interface SegmentInfo {
  readonly id: string;
  /** Belongs to every use: an id that is given again, say by a daemon that was restarted, has another. */
  readonly generation: number;
  readonly path: string;
  readonly bytes: number;
  readonly leaseMs: number;
}

/** Memory of a segment that a call works in. */
export interface SegmentUse {
  readonly bytes: Uint8Array;
  release(): void;
}

export interface Segments {
  /** Makes a file and maps it. Rejects with KV_NO_SPACE or KV_UNSUPPORTED. */
  create(bytes: number): Promise<SegmentInfo>;
  /** Maps a file of the client's. Throws KV_INVALID_INPUT, KV_PERMISSION or KV_UNSUPPORTED. */
  attach(path: string): SegmentInfo;
  /** Begins the lease again; `generation` if the client names it. Throws KV_STALE_SEGMENT. */
  renew(id: string, generation: number | undefined): SegmentInfo;
  /** Resolves when nothing works in it any more and it is unmapped. Throws KV_STALE_SEGMENT. */
  release(id: string): Promise<void>;
  /** `length` bytes of a segment, whose lease lasts while they are used. Rejects with KV_STALE_SEGMENT, KV_INVALID_INPUT for a range that it does not have, KV_NO_SPACE. */
  use(range: SegmentRange, length: number): Promise<SegmentUse>;
  /** Releases all of them. */
  close(): Promise<void>;
}

interface Segment {
  readonly info: SegmentInfo;
  readonly file: SharedFile;
  readonly isOwn: boolean;
  readonly lease: NodeJS.Timeout;
  readonly gone: Promise<void>;
  uses: number;
  isReleased: boolean;
  settle(): void;
}

export interface SegmentsOptions {
  readonly leaseMs: number;
  /** Most bytes of the segments that the daemon makes. */
  readonly maxBytes: number;
}

/** Makes the segments of one daemon; what daemons that died have left is removed. */
export function makeSegments({ leaseMs, maxBytes }: SegmentsOptions): Segments {
  const segments = new Map<string, Segment>();
  let generation = randomInt(2 ** 31);
  let ownBytes = 0;
  removeAbandoned();

  function add(path: string, file: SharedFile, isOwn: boolean): SegmentInfo {
    const id = randomBytes(8).toString('hex');
    const info = { id, generation: ++generation, path, bytes: file.bytes, leaseMs };
    let settle = (): void => undefined;
    const gone = new Promise<void>((resolve) => (settle = resolve));
    const lease = setTimeout(() => expire(id), leaseMs).unref();
    segments.set(id, { info, file, isOwn, lease, gone, uses: 0, isReleased: false, settle });
    return info;
  }

  function find(id: string, wanted?: number): Segment {
    const segment = segments.get(id);
    if (segment === undefined) throw new KvError('KV_STALE_SEGMENT', 'there is no such segment: its lease ran out, or the daemon was restarted; make or attach it again');
    const { generation: current } = segment.info;
    if (wanted !== undefined && current !== wanted) throw new KvError('KV_STALE_SEGMENT', `the segment is of generation ${current}, not ${wanted}`);
    return segment;
  }

  function expire(id: string): void {
    const segment = segments.get(id);
    if (segment === undefined) return;
    if (segment.uses > 0) segment.lease.refresh();
    else void drop(segment);
  }

  /** Refuses new uses, and unmaps it when the running ones are over. */
  function drop(segment: Segment): Promise<void> {
    segments.delete(segment.info.id);
    clearTimeout(segment.lease);
    segment.isReleased = true;
    if (segment.uses === 0) unmap(segment);
    return segment.gone;
  }

  function unmap({ file, info, isOwn, settle }: Segment): void {
    file.close();
    if (isOwn) {
      removeFile(info.path);
      ownBytes -= info.bytes;
    }
    settle();
  }

  function endUse(segment: Segment): void {
    segment.uses--;
    if (!segment.isReleased) segment.lease.refresh();
    else if (segment.uses === 0) unmap(segment);
  }

  function createdFile(path: string, bytes: number): SharedFile {
    try {
      return openSharedFile(path, bytes);
    } catch (error) {
      ownBytes -= bytes;
      throw error;
    }
  }

  function refuseMore(): void {
    if (process.platform !== 'linux') throw new KvError('KV_UNSUPPORTED', 'segments need /dev/shm, which this system does not have; send the bytes in bodies');
    if (segments.size >= MAX_SEGMENTS) throw new KvError('KV_NO_SPACE', `there are ${MAX_SEGMENTS} segments already; release some`);
  }

  return {
    async create(bytes) {
      refuseMore();
      if (ownBytes + bytes > maxBytes) throw new KvError('KV_NO_SPACE', `a segment of ${bytes} bytes would pass the ${maxBytes} that segments of the daemon may have; release some, or raise --segment-bytes`);
      ownBytes += bytes;
      const path = `${FOLDER}/${OWN_PREFIX}${randomBytes(16).toString('hex')}`;
      const file = createdFile(path, bytes);
      try {
        if (!file.lock()) throw new KvError('KV_OVERLOADED', 'another daemon is starting and took the new segment for one that was left; try again');
        // All of it now: better no segment than one that the first use finds no memory for.
        for (let offset = 0; offset < bytes; offset += MAX_RANGE_BYTES) await file.range(offset, Math.min(MAX_RANGE_BYTES, bytes - offset));
      } catch (error) {
        file.close();
        removeFile(path);
        ownBytes -= bytes;
        throw error;
      }
      return add(path, file, true);
    },

    attach(path) {
      refuseMore();
      if (!NAME.test(path)) throw invalid(`expected the path of a file directly under ${FOLDER}`);
      const file = openSharedFile(path);
      if (file.bytes > 0) return add(path, file, false);
      file.close();
      throw invalid(`${path} is empty`);
    },

    renew(id, generation) {
      const { lease, info } = find(id, generation);
      lease.refresh();
      return info;
    },

    release: async (id) => drop(find(id)),

    async use({ id, generation: wanted, offset }, length) {
      const segment = find(id, wanted);
      const { info, file } = segment;
      if (length > MAX_RANGE_BYTES) throw invalid(`expected at most ${MAX_RANGE_BYTES} bytes of a segment in one entry, got ${length}`);
      if (offset > info.bytes - length) throw invalid(`expected a range inside the segment's ${info.bytes} bytes, got ${length} bytes at ${offset}`);
      segment.uses++;
      try {
        const bytes = await file.range(offset, length);
        let isOver = false;
        return {
          bytes,
          release() {
            if (!isOver) endUse(segment);
            isOver = true;
          },
        };
      } catch (error) {
        endUse(segment);
        throw error;
      }
    },

    async close() {
      await Promise.all([...segments.values()].map(drop));
    },
  };
}

/** Removes files of daemons that were killed: nobody holds their locks. */
function removeAbandoned(): void {
  if (process.platform !== 'linux') return;
  for (const name of readdirSync(FOLDER)) {
    if (!OWN_NAME.test(name)) continue;
    const path = `${FOLDER}/${name}`;
    try {
      const file = openSharedFile(path);
      if (file.lock()) removeFile(path);
      file.close();
    } catch {
      continue; // of another user, or just gone
    }
  }
}

function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error; // the client may have removed it
  }
}
