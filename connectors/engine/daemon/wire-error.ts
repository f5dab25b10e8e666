import { KvError, type KvErrorCode } from '../../../lib/errors.js';

const STATUSES: Readonly<Partial<Record<string, number>>> = {
  KV_INVALID_INPUT: 400,
  KV_UNSUPPORTED: 400,
  KV_PERMISSION: 401,
  KV_STALE_SEGMENT: 404,
  KV_EXISTS: 409,
  KV_UNKNOWN_SPACE: 409,
  KV_CLOSED: 503,
  KV_CONNECTOR_UNAVAILABLE: 503,
  KV_OVERLOADED: 503,
  KV_CONNECTOR_TIMEOUT: 504,
  KV_NO_SPACE: 507,
};

/** A refusal whose HTTP status is not that of its code. */
export class WireError extends Error {
  override readonly name = 'WireError';
  readonly status: number;
  readonly code: KvErrorCode;

  constructor(status: number, code: KvErrorCode, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** What a client is told of a failure. */
export interface WireFailure {
  readonly status: number;
  readonly code: string;
  readonly message: string;
}

/** A failure as clients see it. What has no code is a fault of ours: its message stays here. */
export function wireFailure(error: unknown): WireFailure {
  if (error instanceof WireError) return { status: error.status, code: error.code, message: error.message };
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' && error.code.startsWith('KV_') ? error.code : undefined;
  if (code === undefined || !(error instanceof Error)) return { status: 500, code: 'KV_INTERNAL', message: 'a fault of the daemon; its log tells more' };
  return { status: STATUSES[code] ?? 500, code, message: error.message };
}

/** Its code and message, for frames and observers. */
export function describeFailure(error: unknown): Pick<WireFailure, 'code' | 'message'> {
  const { code, message } = wireFailure(error);
  return { code, message };
}

/** Refuses a request that makes no sense. */
export function invalid(message: string): KvError {
  return new KvError('KV_INVALID_INPUT', message);
}
