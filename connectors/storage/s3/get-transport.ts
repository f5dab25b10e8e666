import { ConnectionPool } from '../connection-pool.js';
import { LostConnection } from '../lost-connection.js';
import { failedConnection } from './failure.js';
import { GetConnection } from './get-connection.js';
import type { S3Settings } from './options.js';
import { requestText } from './request-text.js';
import type { Transport } from './transport.js';

/**
 * For GETs of objects: their bytes go straight into the caller's memory, where undici copies each of them three times
 * (`undici, signed` in test/bench/s3.bench.ts). Connections are made when they are needed.
 */
export function getTransport(settings: S3Settings): Transport {
  const pool = new ConnectionPool(settings.maxConnections, (signal) => GetConnection.open(settings, signal));
  return {
    async exchange(request, receive, signal) {
      const text = requestText(request);
      try {
        return await pool.use((connection) => connection.exchange(text, receive, signal), signal);
      } catch (cause) {
        throw cause instanceof LostConnection ? failedConnection(cause.cause ?? cause) : cause;
      }
    },
    close: async () => pool.close(),
  };
}
