import { KvError, type KvErrorCode } from '../../lib/errors.js';
import type { Random } from './random.js';

/** One parser of foreign bytes, and what it has to keep to. */
export interface FuzzTarget {
  readonly name: string;
  /** Real inputs by name: what test/fuzz/make-corpus.ts writes to corpus/<target>/. */
  seeds(): Promise<Readonly<Record<string, Uint8Array>>> | Readonly<Record<string, Uint8Array>>;
  /** A change that keeps to the format, so that it gets past its checksums and lengths; undefined where the input has not the form. */
  reshape?(input: Uint8Array, random: Random): Uint8Array | undefined;
  /**
   * Meets an input. Gives the code of the refusal, or `accepted` after it has checked what came out. Throws for everything else:
   * an unexpected error, or a value that is not as it must be.
   */
  meet(input: Uint8Array): Promise<string> | string;
}

/** The code of a refusal that may be. Throws every other error on: also a TypeError, which is how a missing check shows. */
export function refusal(error: unknown, codes: readonly KvErrorCode[]): string {
  if (error instanceof KvError && codes.includes(error.code)) return error.code;
  throw error;
}

/** Throws unless both are the same bytes. */
export function expectSame(actual: Uint8Array, expected: Uint8Array, what: string): void {
  if (Buffer.compare(actual, expected) !== 0) throw new Error(`${what} differ`);
}

/** Throws unless `condition` holds. */
export function expectThat(condition: boolean, what: string): void {
  if (!condition) throw new Error(`it does not hold that ${what}`);
}
