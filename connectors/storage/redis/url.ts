import type { RedisOptions } from './options.js';

const URL_FORM = 'redis://[user:password@]host[:port][/database], rediss://... or redis+unix:///path, with % before what is special in a URL';

/** The options that a URL says. Throws a TypeError, which never repeats it: a password may stand in it. */
export function optionsOfUrl(text: string): RedisOptions {
  const url = typeof text === 'string' && URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['redis:', 'rediss:', 'redis+unix:'].includes(url.protocol)) throw new TypeError(`expected \`url\` to be ${URL_FORM}`);
  const isUnix = url.protocol === 'redis+unix:';
  const unknown = [...url.searchParams.keys()].find((name) => !['database', 'cluster', 'prefix'].includes(name));
  if (unknown !== undefined) throw new TypeError(`expected only database, cluster and prefix after the ? of \`url\`, got ${JSON.stringify(unknown)}`);
  const path = decoded(url.pathname);
  const database = isUnix ? url.searchParams.get('database') : (url.searchParams.get('database') ?? (path.slice(1) === '' ? null : path.slice(1)));
  const cluster = url.searchParams.get('cluster');
  const prefix = url.searchParams.get('prefix');
  if (cluster !== null && cluster !== 'true' && cluster !== 'false') throw new TypeError('expected `cluster` in `url` to be true or false');
  if (database !== null && !/^\d+$/.test(database)) throw new TypeError('expected the database in `url` to be a number');
  if (isUnix ? !['', 'localhost'].includes(url.hostname) || path.length < 2 : url.hostname === '') throw new TypeError(`expected \`url\` to be ${URL_FORM}`);
  return {
    ...(isUnix ? { socketPath: path } : { host: url.hostname.replace(/^\[(.*)\]$/, '$1') }),
    ...(url.port === '' ? {} : { port: Number(url.port) }),
    ...(url.protocol === 'rediss:' ? { tls: true } : {}),
    ...(url.username === '' ? {} : { username: decoded(url.username) }),
    ...(url.password === '' ? {} : { password: decoded(url.password) }),
    ...(database === null ? {} : { database: Number(database) }),
    ...(cluster === null ? {} : { cluster: cluster === 'true' }),
    ...(prefix === null ? {} : { prefix }),
  };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new TypeError(`expected \`url\` to be ${URL_FORM}`);
  }
}
