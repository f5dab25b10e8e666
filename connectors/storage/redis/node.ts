import { ConnectionPool } from '../connection-pool.js';
import { BulkConnection } from './bulk-connection.js';
import { ControlClient } from './control-client.js';
import type { Access, Address } from './settings.js';

/** One server. Gets, puts and small commands have connections of their own, so none of them waits for another kind. */
export interface RedisNode {
  readonly address: Address;
  readonly gets: ConnectionPool<BulkConnection>;
  readonly puts: ConnectionPool<BulkConnection>;
  readonly control: ControlClient;
  close(): void;
}

/** Nothing is connected before the first call. */
export function redisNode(address: Address, access: Access, connections: number): RedisNode {
  const open = (signal: AbortSignal | undefined) => BulkConnection.open(address, access, signal);
  const gets = new ConnectionPool(connections, open);
  const puts = new ConnectionPool(connections, open);
  const control = new ControlClient(address, access);
  return {
    address,
    gets,
    puts,
    control,
    close() {
      gets.close();
      puts.close();
      control.close();
    },
  };
}
