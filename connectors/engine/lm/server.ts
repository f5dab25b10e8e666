// The lm:// server: what LMCache in an engine's process talks to where its remote_url is lm://host:port, with a store of ours behind it.
// The protocol knows no password: whoever reaches the port reads and writes every chunk.
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { listenOnPort } from '../daemon/listen.js';
import { makeLmChunks } from './chunks.js';
import { serveClient } from './connection.js';
import type { LmEvents } from './events.js';
import { FIXED_LIMITS } from './limits.js';
import { checkLmOptions, LM_DEFAULTS, type LmServerOptions } from './options.js';
import { pendingPuts } from './pending-puts.js';

/** A running lm:// server. */
export interface LmServer {
  readonly port: number;
  /** Clients that are connected. */
  readonly clients: number;
  /** Takes no more requests, and finishes those that are being answered and the puts that were received, if that takes no more than some seconds. Calling it twice is fine. */
  close(): Promise<void>;
}

/** Starts a server. Rejects with a TypeError or RangeError for an option that cannot be, KV_EXISTS, KV_PERMISSION or KV_INVALID_INPUT where it cannot listen. */
export async function startLmServer(options: LmServerOptions): Promise<LmServer> {
  checkLmOptions(options);
  const { connector, host, port, geometry, quality, deadlineMs, maxBytes, maxClients } = { ...LM_DEFAULTS, ...options };
  const events: LmEvents = { onRequest: () => undefined, onClientLost: () => undefined, onWarning: () => undefined, ...options.events };
  const chunks = makeLmChunks({ connector, quality, maxBytes, onWarning: events.onWarning, ...(geometry !== undefined && { geometry }) });
  const service = { chunks, puts: pendingPuts(), events, limits: { ...FIXED_LIMITS, maxBytes, deadlineMs } };
  const stop = new AbortController();
  const clients = new Set<Promise<void>>();

  const server = createServer({ noDelay: true, keepAlive: true }, (socket: Socket) => {
    if (clients.size >= maxClients) {
      socket.destroy();
      events.onClientLost(`sent away: ${maxClients} clients are connected`);
      return;
    }
    const client = serveClient(socket, service, stop.signal).finally(() => clients.delete(client));
    clients.add(client);
  });
  await listenOnPort(server, host, port);

  const close = async (): Promise<void> => {
    server.close();
    stop.abort();
    await Promise.all(clients);
    await service.puts.end(FIXED_LIMITS.stopMs);
    await chunks.close();
  };
  let closed: Promise<void> | undefined;
  return {
    port: (server.address() as AddressInfo).port,
    get clients() {
      return clients.size;
    },
    close: () => (closed ??= close()),
  };
}
