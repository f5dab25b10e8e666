// A daemon in this process over files of its own, and what tests say to it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startDaemon, type Daemon, type DaemonEvents, type DaemonOptions } from '../../connectors/engine/daemon.js';
import { filesystem } from '../../connectors/storage/filesystem.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import { clientOf, type Client } from './client.js';

/** 2 layers of 2 heads and 8 dims in bf16: 128 bytes a token. */
export const GEOMETRY = { order: 'split', dtype: 'bf16', layers: 2, kv_heads: 2, head_dim: 8 } as const;
export const SPACE = { model: 'tiny', geometry: GEOMETRY } as const;
export const TOKEN_BYTES = 2 * 2 * 2 * 8 * 2;

export interface TestDaemon {
  readonly daemon: Daemon;
  readonly client: Client;
  readonly socket: string;
  readonly folder: string;
  /** What was told to observers. */
  readonly told: { readonly [K in keyof DaemonEvents]: Parameters<DaemonEvents[K]>[0][] };
  register(space?: unknown): Promise<string>;
  /** Stores tensors in a body; fails unless all are stored. */
  store(space: string, tensors: Readonly<Record<string, Uint8Array>>): Promise<void>;
  stop(): Promise<void>;
}

/** Starts one; `wrap` may put something in front of its files. */
export async function testDaemon(options: Partial<DaemonOptions> = {}, wrap: (files: StorageConnector) => StorageConnector = (files) => files): Promise<TestDaemon> {
  const folder = mkdtempSync(join(tmpdir(), 'kvreel-daemon-'));
  const socket = join(folder, 'd.sock');
  const told: { [K in keyof DaemonEvents]: Parameters<DaemonEvents[K]>[0][] } = { lookup: [], hit: [], miss: [], stored: [], failed: [], request: [], notice: [] };
  const observer: Partial<DaemonEvents> = {
    hit: (event) => told.hit.push(event),
    miss: (event) => told.miss.push(event),
    stored: (event) => told.stored.push(event),
    failed: (event) => told.failed.push(event),
    lookup: (event) => told.lookup.push(event),
    request: (event) => told.request.push(event),
    notice: (event) => told.notice.push(event),
  };
  const connector = wrap(filesystem({ path: join(folder, 'store') }));
  const daemon = await startDaemon({ connector, socket, ...options, observers: [observer, ...(options.observers ?? [])] });
  const client = clientOf({ socketPath: socket });
  return {
    daemon,
    client,
    socket,
    folder,
    told,
    async register(space = SPACE) {
      const { status, json } = await client.json('POST', '/v1/spaces', space);
      if (status !== 200) throw new Error(JSON.stringify(json));
      return String(json.space);
    },
    async store(space, tensors) {
      const entries = Object.entries(tensors).map(([hash, { byteLength }]) => ({ hash, bytes: byteLength }));
      const { summary } = await client.storeFrames({ space, entries }, Object.values(tensors));
      if (summary?.hits !== entries.length) throw new Error(`stored ${JSON.stringify(summary)}`);
    },
    async stop() {
      client.close();
      await daemon.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A tensor of so many tokens, of bytes that differ from place to place and by seed. */
export function tensorOf(tokens: number, seed: number, tokenBytes = TOKEN_BYTES): Uint8Array {
  return Uint8Array.from({ length: tokens * tokenBytes }, (_, i) => (i * 31 + seed * 97 + (i >> 7)) & 0x7f);
}
