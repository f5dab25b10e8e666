import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { DaemonEvents } from './events.js';
import { makeExchange } from './exchange.js';
import { routeTable, type Match, type Route } from './routes.js';
import { wireFailure, WireError } from './wire-error.js';

/** Python's clients keep connections while the engine is idle. */
const KEEP_ALIVE_MS = 15 * 60_000;
/** A client that stopped in the middle of its request. */
const REQUEST_MS = 5 * 60_000;
/** How a request is counted whose client has gone. */
const CLIENT_GONE = 499;

export interface HttpOptions {
  readonly routes: readonly Route[];
  readonly events: DaemonEvents;
  readonly isStopping: () => boolean;
  /** Ends all work when it aborts. */
  readonly stopping: AbortSignal;
  /** Wanted of every request that is not open. Default: none. */
  readonly token?: string;
}

/** Makes a server, which does not listen yet. */
export function httpServer({ routes, events, isStopping, stopping, token }: HttpOptions): Server {
  const table = routeTable(routes);

  function find(request: IncomingMessage, path: string): Match {
    const { method = '' } = request;
    const match = table.match(method, path);
    if (token !== undefined && match?.route.isOpen !== true && !isAuthorized(request, token)) {
      throw new WireError(401, 'KV_PERMISSION', 'expected the header `Authorization: Bearer TOKEN` with the token of this daemon');
    }
    if (match === undefined) {
      const methods = table.methodsOf(path);
      if (methods.length === 0) throw new WireError(404, 'KV_INVALID_INPUT', 'there is no such path; GET /openapi.json lists them');
      throw new WireError(405, 'KV_INVALID_INPUT', `expected ${methods.join(' or ')} for this path`);
    }
    if (isStopping() && match.route.isAnsweredToTheEnd !== true) throw new WireError(503, 'KV_CLOSED', 'the daemon is stopping; try again when it is back');
    return match;
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const begin = performance.now();
    const [path = '', ...query] = (request.url ?? '').split('?');
    let route = 'unknown';
    let status: number;
    const exchange = makeExchange(request, response, { params: {}, query: new URLSearchParams() }, stopping);
    try {
      const match = find(request, path);
      route = match.route.path;
      await match.route.handle({ ...exchange, params: match.params, query: new URLSearchParams(query.join('?')) });
      status = response.statusCode;
    } catch (error) {
      status = fail(error, exchange.signal.aborted);
    }
    events.request({ method: request.method ?? '', route, status, ms: performance.now() - begin });

    function fail(error: unknown, isGone: boolean): number {
      const { status: failed, code, message } = wireFailure(error);
      if (failed === 500 && !isGone) events.notice({ level: 'error', message: `${route} failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}` });
      if (isGone || response.headersSent) {
        // Without an end frame the client knows that it is no whole answer.
        request.socket.destroy();
        return isGone ? CLIENT_GONE : failed;
      }
      // The rest of the body is not read: the connection is of no more use.
      if (!request.complete) response.setHeader('connection', 'close');
      exchange.answer(failed, { error: { code, message } });
      return failed;
    }
  }

  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS, requestTimeout: REQUEST_MS }, (request, response) => {
    request.on('error', () => undefined); // the exchange's signal tells
    void serve(request, response);
  });
  return server;
}

function isAuthorized(request: IncomingMessage, token: string): boolean {
  const given = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(token));
}
