// A real `kvreel serve` in a process of its own.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ask, startServer, type TestServer } from '../servers/server.js';
import { ROOT } from './environment.js';
import type { Store } from './stores.js';

/** A path for a socket, which daemons may take one after another. */
export function newSocket(): string {
  return join(mkdtempSync(join(tmpdir(), 'kvreel-engines-')), 'kvreel.sock');
}

/** Starts a daemon over a store. */
export function startDaemon(socket: string, store: Pick<Store, 'url' | 'env'>): Promise<TestServer> {
  return startServer({
    command: process.execPath,
    args: () => [join(ROOT, 'node_modules/vite-node/vite-node.mjs'), join(ROOT, 'connectors/engine/cli.ts'), '--', 'serve', '--store', store.url, '--socket', socket],
    isReady: async () => (await ask(socket, 'GET /health HTTP/1.1\r\nHost: daemon\r\nConnection: close\r\n\r\n')).startsWith('HTTP/1.1 200'),
    startLimitMs: 60_000,
    env: { ...store.env },
  });
}
