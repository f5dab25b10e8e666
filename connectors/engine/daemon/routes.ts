import type { Exchange } from './exchange.js';

/** One thing that can be asked of the daemon over HTTP. */
export interface Route {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** Parts that begin with a colon stand for one part of any name: `/v1/segments/:id/renew`. */
  readonly path: string;
  /** Answered over TCP without the token too: tells nothing that is anybody's business. */
  readonly isOpen?: boolean;
  /** Answered while the daemon stops. */
  readonly isAnsweredToTheEnd?: boolean;
  /** Rejects for what becomes an answer with an error. */
  handle(exchange: Exchange): Promise<void> | void;
}

/** A route that fits a path. */
export interface Match {
  readonly route: Route;
  readonly params: Readonly<Record<string, string>>;
}

/** Finds routes by method and path. */
export interface RouteTable {
  match(method: string, path: string): Match | undefined;
  /** Methods that a path has. */
  methodsOf(path: string): readonly string[];
}

/** Makes a table of the routes; the first that fits is taken. */
export function routeTable(routes: readonly Route[]): RouteTable {
  const split = routes.map((route) => ({ route, parts: route.path.split('/') }));
  const fitting = (path: string): Match[] => {
    const parts = path.split('/');
    return split.flatMap(({ route, parts: wanted }) => {
      const fits = wanted.length === parts.length && wanted.every((part, i) => part.startsWith(':') || part === parts[i]);
      if (!fits) return [];
      const named = wanted.flatMap((part, i) => (part.startsWith(':') ? [[part.slice(1), parts[i] ?? ''] as const] : []));
      return [{ route, params: Object.fromEntries(named) }];
    });
  };
  return {
    match: (method, path) => fitting(path).find(({ route }) => route.method === method),
    methodsOf: (path) => fitting(path).map(({ route }) => route.method),
  };
}
