// The daemon: one a node, which holds the store and serves engines. docs/daemon.md tells the protocol.
import { unlink } from 'node:fs/promises';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { KvError } from '../../lib/errors.js';
import { checkDaemonOptions, DAEMON_DEFAULTS, type DaemonOptions } from './daemon/options.js';
import { byteBudget } from './daemon/byte-budget.js';
import { makeCore, type DaemonCore } from './daemon/core.js';
import { allOf } from './daemon/events.js';
import { httpServer } from './daemon/http-server.js';
import { listenOnPort, listenOnSocket } from './daemon/listen.js';
import { openApiRoute } from './daemon/openapi.js';
import { makeSegments } from './daemon/segments.js';
import { contentRoutes } from './daemon/verbs/contents.js';
import { fetchRoutes } from './daemon/verbs/fetch.js';
import { healthRoutes } from './daemon/verbs/health.js';
import { segmentRoutes } from './daemon/verbs/segments.js';
import { lookRoutes } from './daemon/verbs/looks.js';
import { spaceRoutes } from './daemon/verbs/spaces.js';
import { storeRoutes } from './daemon/verbs/store.js';

export type { DaemonOptions } from './daemon/options.js';
export type { DaemonCore } from './daemon/core.js';
export type { DaemonEvents, MissCause, Verb } from './daemon/events.js';
export type { Exchange } from './daemon/exchange.js';
export type { Route } from './daemon/routes.js';

/** Tensors that are on their way through bodies at once, in bytes. */
const BODY_BYTES = 512 * 2 ** 20;
/** How often idle connections are closed while it stops. */
const SWEEP_MS = 50;

/** A running daemon. */
export interface Daemon {
  readonly core: DaemonCore;
  /** Port that it listens on over TCP, if it does. */
  readonly port: number | undefined;
  /**
   * Stops: new calls are refused, running ones have `graceMs` to end and are then aborted. Resolves when nothing works any more and the store
   * is closed. Calling it twice is fine.
   */
  stop(): Promise<void>;
}

/**
 * Starts a daemon over a store, which it closes when it stops. Throws a TypeError or RangeError for an option that cannot be; rejects with
 * KV_EXISTS where a daemon listens already, KV_PERMISSION or KV_INVALID_INPUT where it cannot listen. The store is closed then too.
 */
export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  checkDaemonOptions(options);
  const { connector, socket, tcp, routes = [], observers = [], around = (route) => route } = options;
  const { quality, deadlineMs, graceMs, leaseMs, segmentBytes } = { ...DAEMON_DEFAULTS, ...options };
  const events = allOf(observers);
  const core = makeCore({ connector, events, coding: options.coding ?? {}, ...(options.memory && { memory: options.memory }) });
  const segments = makeSegments({ leaseMs, maxBytes: segmentBytes });
  const budget = byteBudget(BODY_BYTES);
  const stopping = new AbortController();
  let isStopping = false;
  const moving = { core, budget, segments, defaultDeadlineMs: deadlineMs };
  const all = [
    ...spaceRoutes(core, quality),
    ...lookRoutes(core, deadlineMs),
    ...fetchRoutes(moving),
    ...storeRoutes(moving),
    ...contentRoutes(core, options.maxBytes),
    ...segmentRoutes(segments),
    openApiRoute,
    ...healthRoutes(core, () => isStopping),
    ...(typeof routes === 'function' ? routes(core) : routes),
  ];
  const http = { routes: all.map(around), events, isStopping: () => isStopping, stopping: stopping.signal };
  const servers: Server[] = [];
  let port: number | undefined;

  async function stopServers(): Promise<void> {
    const timer = setTimeout(() => {
      stopping.abort(new KvError('KV_CLOSED', 'the daemon stopped before the call was done'));
      for (const server of servers) server.closeAllConnections();
    }, graceMs);
    // Also those that become idle later: clients keep them for their next call.
    const sweep = setInterval(() => servers.forEach((server) => server.closeIdleConnections()), SWEEP_MS);
    await Promise.all(servers.map(closeServer));
    clearTimeout(timer);
    clearInterval(sweep);
  }

  async function stop(): Promise<void> {
    isStopping = true;
    await stopServers();
    stopping.abort(new KvError('KV_CLOSED', 'the daemon stopped'));
    await core.close(new KvError('KV_CLOSED', 'the daemon stopped'));
    await segments.close();
    await connector.close();
    if (socket !== undefined) await unlink(socket).catch(() => undefined);
  }

  try {
    if (socket !== undefined) {
      const server = httpServer(http);
      await listenOnSocket(server, socket);
      servers.push(server);
    }
    if (tcp !== undefined) {
      const server = httpServer({ ...http, token: tcp.token });
      await listenOnPort(server, tcp.host, tcp.port);
      servers.push(server);
      port = (server.address() as AddressInfo).port;
    }
  } catch (error) {
    await Promise.all(servers.map(closeServer));
    await connector.close();
    throw error;
  }
  let stopped: Promise<void> | undefined;
  return { core, port, stop: () => (stopped ??= stop()) };
}

async function closeServer(server: Server): Promise<void> {
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
}
