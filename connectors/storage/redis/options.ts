export interface RedisTlsOptions {
  /** Certificates in PEM that the server's must descend from. Default: those that Node trusts. */
  readonly ca?: string;
  /** The name that the server's certificate must have. Default: the host that is connected to. */
  readonly servername?: string;
}

export interface RedisOptions {
  /**
   * `redis://[user:password@]host[:port][/database]`, `rediss://...` with TLS, or `redis+unix:///path/of/socket[?database=N]`, with
   * a password `redis+unix://user:password@localhost/path/of/socket`.
   * `?cluster=true` and `?prefix=...` are understood too. Other options win over what it says.
   */
  readonly url?: string;
  /** Name or address of the server. Default 127.0.0.1. */
  readonly host?: string;
  /** TCP port, 1 to 65535. Default 6379. */
  readonly port?: number;
  /** Path of a Unix socket, instead of host and port. */
  readonly socketPath?: string;
  /** Encrypts the connection and verifies the server's certificate. Default: plain text. */
  readonly tls?: boolean | RedisTlsOptions;
  /** User of the server's access control list. Default: the server's `default` user. */
  readonly username?: string;
  /** Password, or a function that gives it for each new connection. Default: none. */
  readonly password?: string | (() => string | Promise<string>);
  /** Number of the database, 0 to 2^31 - 1. Default 0; a cluster has no other. */
  readonly database?: number;
  /** Whether the server is a member of a Redis Cluster; the other members are learned from it. Default false. */
  readonly cluster?: boolean;
  /** Put before each key on the server, printable ASCII: keeps this store apart from what else is there. Default: nothing. */
  readonly prefix?: string;
  /** Milliseconds that one call may take, connecting included, beside its own signal. Default 10,000; Infinity for no limit. */
  readonly timeoutMs?: number;
  /** Connections per server for gets, and as many for puts, 1 to 64. Default 4: raise it where the round trip is long. */
  readonly connections?: number;
  /**
   * Largest value in bytes that is put, or taken from a server. Default 536,870,912, which is a server's own limit: where its
   * proto-max-bulk-len is lower, lower this too, because the server just hangs up on larger values.
   */
  readonly maxValueBytes?: number;
}
