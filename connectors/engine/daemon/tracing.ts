// A span of each request, below the span of the client that sent one. Storage calls make spans below it (measured/opentelemetry.ts).
import { context, propagation, SpanKind, SpanStatusCode, type Tracer } from '@opentelemetry/api';
import type { Route } from './routes.js';
import { wireFailure } from './wire-error.js';

/** Asked every few seconds by machines: spans of them tell nobody anything. */
const UNTRACED: ReadonlySet<string> = new Set(['/health', '/ready', '/metrics', '/v1/stats', '/']);

/** The same route, each request of which makes a span. Spans hold no keys. */
export function tracedRoute(route: Route, tracer: Tracer): Route {
  if (UNTRACED.has(route.path)) return route;
  return {
    ...route,
    handle(exchange) {
      const parent = propagation.extract(context.active(), exchange.request.headers);
      const attributes = { 'http.request.method': route.method, 'http.route': route.path };
      return tracer.startActiveSpan(`${route.method} ${route.path}`, { kind: SpanKind.SERVER, attributes }, parent, async (span) => {
        try {
          await route.handle(exchange);
          span.setAttribute('http.response.status_code', exchange.response.statusCode);
        } catch (error) {
          const { status, code } = wireFailure(error);
          span.setAttributes({ 'http.response.status_code': status, 'error.type': code });
          if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
          throw error;
        } finally {
          span.end();
        }
      });
    },
  };
}
