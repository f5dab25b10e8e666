import type { DaemonCore } from '../core.js';
import type { Route } from '../routes.js';
import { readSpace } from '../space.js';
import { invalid } from '../wire-error.js';

export function spaceRoutes({ spaces }: DaemonCore, defaultQuality: string): Route[] {
  return [
    {
      method: 'POST',
      path: '/v1/spaces',
      async handle(exchange) {
        const namespace = readSpace(await exchange.json(), defaultQuality);
        exchange.answer(200, { space: refusedAsInvalid(() => spaces.register(namespace)).digest });
      },
    },
  ];
}

// What the namespace refuses, the client got wrong.
function refusedAsInvalid<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) throw invalid(error.message);
    throw error;
  }
}
