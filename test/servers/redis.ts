// Redis and Valkey servers of a test. One function for all of them: only the program differs.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeCertificate } from './certificate.js';
import { ask, startServer, type ServerPlace, type TestServer } from './server.js';

/** What a server is started with beside its program. */
export interface RedisServerOptions {
  /** Lines of redis.conf as arguments, without the dashes: `['maxmemory', '64mb']`. */
  readonly config?: readonly (readonly string[])[];
  /** Listens for TLS only, with a certificate of its own for `localhost` and 127.0.0.1. */
  readonly tls?: boolean;
}

/** A running Redis or Valkey. */
export interface RedisServer extends TestServer {
  /** Path of its Unix socket. */
  readonly socketPath: string;
  /** The certificate that a TLS client must trust; only with `tls`. */
  certificate(): string;
  /** Runs one command as the default user, outside the connector under test; gives the reply as text. */
  command(...args: readonly string[]): Promise<string>;
}

/** Starts `program` (see `provideServers`) without persistence. */
export async function startRedis(program: string, options: RedisServerOptions = {}): Promise<RedisServer> {
  const { config = [], tls = false } = options;
  const certificatePath = (place: ServerPlace) => join(place.directory, 'server.crt');
  const keyPath = (place: ServerPlace) => join(place.directory, 'server.key');
  const socketPath = (place: ServerPlace) => join(place.directory, 'socket');

  const server = await startServer({
    command: program,
    args(place) {
      const port = String(place.port);
      if (tls) makeCertificate(keyPath(place), certificatePath(place));
      const listen = tls
        ? [['port', '0'], ['tls-port', port], ['tls-cert-file', certificatePath(place)], ['tls-key-file', keyPath(place)], ['tls-auth-clients', 'no']]
        : [['port', port]];
      const all = [...listen, ['bind', '127.0.0.1'], ['unixsocket', socketPath(place)], ['save', ''], ['appendonly', 'no'], ...config];
      return all.flatMap(([name, ...values]) => [`--${name}`, ...values]);
    },
    // Over the Unix socket, because TLS is on the port. A server with a password answers NOAUTH, and is as ready.
    isReady: async (place) => /^(\+PONG|-NOAUTH)/.test(await ask(socketPath(place), 'PING\r\n')),
  });

  return {
    ...server,
    socketPath: socketPath(server),
    certificate: () => readFileSync(certificatePath(server), 'utf8'),
    command: (...args) => ask(socketPath(server), `*${args.length}\r\n${args.map((arg) => `$${Buffer.byteLength(arg)}\r\n${arg}\r\n`).join('')}`),
  };
}

/** Several servers that are one cluster. */
export interface RedisCluster {
  readonly servers: readonly RedisServer[];
  stop(): Promise<void>;
}

const SLOTS = 16_384;

/** Starts three masters that share the slots, and waits until each of them says that the cluster is whole. */
export async function startRedisCluster(program: string): Promise<RedisCluster> {
  const config = [['cluster-enabled', 'yes'], ['cluster-node-timeout', '5000']];
  const servers = await Promise.all([0, 1, 2].map(() => startRedis(program, { config })));
  const [first, ...others] = servers;
  for (const [i, server] of servers.entries()) {
    const [start, end] = [Math.floor((i * SLOTS) / servers.length), Math.floor(((i + 1) * SLOTS) / servers.length)];
    const slots = Array.from({ length: end - start }, (_, slot) => String(start + slot));
    await server.command('CLUSTER', 'ADDSLOTS', ...slots); // ADDSLOTSRANGE is not in 6.2
    await server.command('CLUSTER', 'SET-CONFIG-EPOCH', String(i + 1));
  }
  for (const other of others) await first?.command('CLUSTER', 'MEET', '127.0.0.1', String(other.port));
  const isWhole = async (server: RedisServer) => {
    const info = await server.command('CLUSTER', 'INFO');
    return info.includes('cluster_state:ok') && info.includes(`cluster_known_nodes:${servers.length}`) && info.includes(`cluster_slots_ok:${SLOTS}`);
  };
  while (!(await Promise.all(servers.map(isWhole))).every(Boolean)) await new Promise((resolve) => setTimeout(resolve, 50));
  return { servers, stop: async () => void (await Promise.all(servers.map((server) => server.stop()))) };
}
