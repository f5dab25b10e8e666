import { KvError, type KvErrorCode } from '../../../lib/errors.js';
import { LostConnection } from '../lost-connection.js';
import { ProtocolError, ReplyError } from './reply-parser.js';

type Answer = readonly [KvErrorCode, string];

/** What went wrong as the KvError that tells what to do; everything else (aborts, mistakes, KvErrors) as it is. */
export function toConnectorError(cause: unknown, attempt: string): unknown {
  const answer = answerTo(cause);
  if (answer === undefined) return cause;
  const [code, advice, detail] = answer;
  // A reply's text can repeat the command, so value or password: it goes into no message and no cause.
  const reason = cause instanceof LostConnection ? cause.cause : cause;
  const options = reason === undefined || reason instanceof ReplyError ? {} : { cause: reason };
  return new KvError(code, `redis could not ${attempt}: ${advice}${detail === '' ? '' : ` (${detail})`}`, options);
}

function answerTo(cause: unknown): readonly [...Answer, string] | undefined {
  if (cause instanceof ReplyError) return [...answerToReply(cause), cause.code];
  if (cause instanceof ProtocolError) return [...GARBAGE, cause.message];
  if (cause instanceof LostConnection) return cause.cause instanceof ReplyError ? answerTo(cause.cause) : lost(cause.cause);
  return undefined;
}

function lost(cause: unknown): readonly [...Answer, string] {
  const code = cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : '';
  const isCertificate = code.startsWith('ERR_TLS_CERT') || /CERT|SELF_SIGNED|ISSUER/.test(code);
  if (isCertificate) return ['KV_PERMISSION', "the server's certificate is not trusted; check `tls.ca` and `tls.servername`", code];
  if (code === 'EACCES' || code === 'EPERM') return ['KV_PERMISSION', 'this user may not connect; check the rights on the socket', code];
  return ['KV_CONNECTOR_UNAVAILABLE', 'the server is not reachable or closed the connection; try again, and check the address and the server if it persists', code];
}

const GARBAGE: Answer = ['KV_CONNECTOR_UNAVAILABLE', 'the answer is not what a Redis server sends; the connection is given up. Check what listens there'];

const TRY_AGAIN: Answer = ['KV_CONNECTOR_UNAVAILABLE', 'the server cannot serve this now; try again'];
const NO_ACCESS: Answer = ['KV_PERMISSION', 'the server wants another user or password; check `username` and `password`'];

const ANSWERS: Readonly<Record<string, Answer>> = {
  LOADING: ['KV_CONNECTOR_UNAVAILABLE', 'the server is still loading its data; try again'],
  BUSY: ['KV_CONNECTOR_UNAVAILABLE', 'the server is busy with a script; try again, and look at that script if it persists'],
  CLUSTERDOWN: ['KV_CONNECTOR_UNAVAILABLE', 'a part of the cluster is down; try again, and check its members if it persists'],
  MASTERDOWN: TRY_AGAIN,
  TRYAGAIN: TRY_AGAIN,
  NOREPLICAS: TRY_AGAIN,
  WRONGPASS: NO_ACCESS,
  NOAUTH: NO_ACCESS,
  NOPERM: ['KV_PERMISSION', 'the user may not; give it echo, get, set, getrange, strlen, exists, unlink, scan, multi and exec on the keys of `prefix`, in a cluster cluster|slots and asking too, with a `database` select'],
  OOM: ['KV_NO_SPACE', "the server's memory is full; raise its maxmemory, or let it evict (maxmemory-policy allkeys-lru)"],
  READONLY: ['KV_CONNECTOR_REFUSED', 'the server is a replica; name its master'],
  MISCONF: ['KV_CONNECTOR_REFUSED', "the server takes no writes because it cannot save its data; see its log, or switch saving off"],
  // Not a miss: a put would then overwrite what belongs to somebody else.
  WRONGTYPE: ['KV_CONNECTOR_REFUSED', 'the key holds something that is no string, so it is not ours; choose another `prefix` or `database`'],
  MOVED: ['KV_CONNECTOR_REFUSED', 'the key belongs to another member of a cluster; set `cluster` to true'],
  ASK: ['KV_CONNECTOR_REFUSED', 'the key belongs to another member of a cluster; set `cluster` to true'],
  CROSSSLOT: ['KV_CONNECTOR_REFUSED', 'the server is a member of a cluster; set `cluster` to true'],
};

/** Replies whose code is just ERR; what they say decides. */
const TEXTS: readonly (readonly [RegExp, Answer])[] = [
  [/max number of clients/, ['KV_CONNECTOR_UNAVAILABLE', 'the server has too many clients; try again, or raise its maxclients']],
  [/bulk length|exceeds maximum/, ['KV_CONNECTOR_REFUSED', 'the value passes what the server takes; store smaller chunks or raise its proto-max-bulk-len']],
  [/DB index|SELECT is not allowed/, ['KV_CONNECTOR_REFUSED', 'the server has no such `database`']],
  [/cluster support disabled/, ['KV_CONNECTOR_REFUSED', 'the server is no member of a cluster; set `cluster` to false']],
  [/[Pp]assword|invalid username/, NO_ACCESS],
  [/unknown command/, ['KV_CONNECTOR_REFUSED', 'the server does not know a command that is needed: is it older than 6.2, or were commands renamed?']],
];

function answerToReply({ code, message }: ReplyError): Answer {
  const known = ANSWERS[code] ?? TEXTS.find(([text]) => text.test(message))?.[1];
  return known ?? ['KV_CONNECTOR_REFUSED', "the server refused; see the server's log"];
}
