// What went wrong with a request, before it is known for which call. Never holds a header, a body or an SDK error: a server that
// refuses a signature sends back what was signed, session token included.
import { KvError, type KvErrorCode } from '../../../lib/errors.js';

/** A failed request; `run` of the connector makes a KvError of it. */
export class S3Failure extends Error {
  readonly code: KvErrorCode;
  /** Whether the same request may succeed in a moment. */
  readonly isTransient: boolean;
  /** Milliseconds that the server asked to wait before the next try. */
  readonly retryAfterMs: number | undefined;
  /** What S3 named it, where it did. */
  readonly errorCode: string | undefined;

  constructor(code: KvErrorCode, advice: string, options: FailureDetails = {}) {
    super(advice, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.isTransient = options.isTransient ?? false;
    this.retryAfterMs = options.retryAfterMs;
    this.errorCode = options.errorCode;
  }
}

interface FailureDetails {
  readonly cause?: unknown;
  readonly isTransient?: boolean;
  readonly retryAfterMs?: number | undefined;
  readonly errorCode?: string | undefined;
}

/** An S3Failure as the KvError that says what was tried; everything else (aborts, mistakes) as it is. */
export function toConnectorError(cause: unknown, attempt: string): unknown {
  if (!(cause instanceof S3Failure)) return cause;
  const options = cause.cause === undefined ? {} : { cause: cause.cause };
  return new KvError(cause.code, `s3 could not ${attempt}: ${cause.message}`, options);
}

/** An answer that S3 does not give: something else answers, or something between alters answers. */
export function notS3(finding: string): S3Failure {
  return new S3Failure('KV_CONNECTOR_REFUSED', `the answer ${finding}, which S3 does not do; check that \`endpoint\` is an S3 server and what proxies stand before it`);
}

/** An answer that breaks the protocol: something else answers, or a connection brought it damaged. */
export function notHttp(finding: string): S3Failure {
  const advice = `the answer ${finding}, which breaks the HTTP/1.1 protocol; check that \`endpoint\` is an S3 server and what proxies stand before it`;
  return new S3Failure('KV_CONNECTOR_UNAVAILABLE', advice, { isTransient: true });
}

/** A value or object above `maxValueBytes`. */
export function tooLarge(bytes: number, maxValueBytes: number): S3Failure {
  return new S3Failure('KV_CONNECTOR_REFUSED', `${bytes} bytes are more than \`maxValueBytes\` (${maxValueBytes}); store smaller chunks or raise it`);
}

/** An answer whose status is no success. `errorCode` is what S3 named it, where it did. */
export function failedAnswer(status: number, errorCode: string | undefined, retryAfterMs?: number): S3Failure {
  const [code, advice, isTransient = false] = (errorCode === undefined ? undefined : BY_ERROR_CODE[errorCode]) ?? byStatus(status, errorCode);
  const name = `${status}${errorCode === undefined ? '' : ` ${errorCode}`}`;
  return new S3Failure(code, `${advice} (${name})`, { isTransient, retryAfterMs, errorCode });
}

/** A connection that could not be made, or broke. */
export function failedConnection(cause: unknown): S3Failure {
  const { code = 'unknown', message = '' } = cause instanceof Error ? { code: codeOf(cause), message: cause.message } : {};
  if (/CERT|SELF_SIGNED|UNABLE_TO_/.test(code)) {
    return new S3Failure('KV_PERMISSION', `the server's certificate is not trusted; give its authority as \`tls.ca\`, or check \`endpoint\` (${code})`, { cause });
  }
  // An answer that is no HTTP stands in the error, and may repeat what was sent.
  const origin = cause instanceof Error && 'data' in cause ? {} : { cause };
  const detail = /^[\w .,:'()/-]{1,200}$/.test(message) ? `${code}: ${message}` : code;
  return new S3Failure('KV_CONNECTOR_UNAVAILABLE', `the connection failed; check that the server at \`endpoint\` runs and can be reached (${detail})`, { ...origin, isTransient: true });
}

function codeOf(cause: Error): string {
  return 'code' in cause && typeof cause.code === 'string' ? cause.code : cause.name;
}

type Finding = readonly [code: KvErrorCode, advice: string, isTransient?: boolean];

const NO_SPACE: Finding = ['KV_NO_SPACE', 'the storage or its quota is full; delete values or enlarge it'];
const BAD_KEYS: Finding = ['KV_PERMISSION', 'the server does not accept these credentials; check `credentials` and `region`'];
const ENDED_KEYS: Finding = ['KV_PERMISSION', 'the temporary credentials have ended; give a function as `credentials`, which is asked again in time'];
const DAMAGED: Finding = ['KV_CONNECTOR_UNAVAILABLE', 'the value arrived damaged or cut, and the server refused it; try again, and check the network if it persists', true];
const BUSY: Finding = ['KV_CONNECTOR_UNAVAILABLE', 'the server is busy; try again later or make fewer calls at once', true];

const BY_ERROR_CODE: Readonly<Record<string, Finding>> = {
  NoSuchBucket: ['KV_CONNECTOR_REFUSED', 'there is no such bucket; make it, or correct `bucket` and `endpoint`'],
  NoSuchUpload: ['KV_CONNECTOR_UNAVAILABLE', 'the upload was ended by somebody else; try again', true],
  RequestTimeTooSkewed: ['KV_PERMISSION', 'the clock of this machine differs too much from the server\'s; set it right'],
  SignatureDoesNotMatch: BAD_KEYS,
  InvalidAccessKeyId: BAD_KEYS,
  AuthorizationHeaderMalformed: BAD_KEYS,
  ExpiredToken: ENDED_KEYS,
  TokenRefreshRequired: ENDED_KEYS,
  InvalidToken: ENDED_KEYS,
  BadDigest: DAMAGED,
  XAmzContentSHA256Mismatch: DAMAGED,
  IncompleteBody: DAMAGED,
  ClientDisconnected: DAMAGED,
  RequestTimeout: BUSY,
  SlowDown: BUSY,
  OperationAborted: BUSY,
  ConditionalRequestConflict: BUSY,
  QuotaExceeded: NO_SPACE,
  InsufficientCapacity: NO_SPACE,
  XMinioStorageFull: NO_SPACE,
  EntityTooLarge: ['KV_CONNECTOR_REFUSED', 'the server takes no value of this size; store smaller chunks'],
};

function byStatus(status: number, errorCode: string | undefined): Finding {
  if (status >= 300 && status < 400) return ['KV_CONNECTOR_REFUSED', 'the server points elsewhere, where this connector does not follow; correct `endpoint` and `region`'];
  if (status === 401 || status === 403) {
    return ['KV_PERMISSION', 'these credentials may not; allow s3:GetObject, PutObject, DeleteObject, AbortMultipartUpload and ListBucket (without the last, a miss is refused too)'];
  }
  if (status === 404 && errorCode === undefined) return ['KV_CONNECTOR_REFUSED', 'the answer is 404 without a reason as S3 gives; check that `endpoint` is an S3 server'];
  if (status === 408 || status === 429) return BUSY;
  if (status === 507) return NO_SPACE;
  if (status === 500 || (status >= 502 && status < 600)) return ['KV_CONNECTOR_UNAVAILABLE', 'the server failed; try again, and look at its log if it persists', true];
  return ['KV_CONNECTOR_REFUSED', 'the server refuses the request; check `endpoint`, `bucket` and the server\'s version'];
}
