// How long an entry that was put with `ttlMs` lives. It keeps when it was put by two clocks, because each has a weakness: the wall
// clock may be set, and the monotonic clock starts anew with the machine and stands still while that sleeps. The rule:
//
// - Since the same start of the machine, the time is over when either clock says so. A wall clock that is set back changes
//   nothing; one that is set forward ends values early, which is a miss.
// - After another start, or on another machine, only the wall clock can be asked. An entry from its future is believed as far
//   ahead as its time is long: so a clock that was set back makes it live twice its time at most, and never for ever.
import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** The time of one entry. */
export interface Lifetime {
  readonly ttlMs: number;
  /** When it was put, in milliseconds since 1970. */
  readonly wallMs: number;
  /** When it was put, in milliseconds of the monotonic clock. */
  readonly monotonicMs: number;
  /** Which monotonic clock that was. */
  readonly clock: Buffer;
}

const CLOCK_BYTES = 8;
const CLOCK_AT = 24;

/** Size of a lifetime in an entry file. */
export const LIFETIME_BYTES = CLOCK_AT + CLOCK_BYTES;

const CLOCK = createHash('sha256').update(startOfMachine()).digest().subarray(0, CLOCK_BYTES);

/** The lifetime that starts now. */
export function lifetimeFromNow(ttlMs: number): Lifetime {
  return { ttlMs, wallMs: Date.now(), monotonicMs: monotonicMs(), clock: CLOCK };
}

/** Whether the time is over; also if it makes no sense. */
export function isOver({ ttlMs, wallMs, monotonicMs: putMs, clock }: Lifetime): boolean {
  const wallAgeMs = Date.now() - wallMs;
  const ageMs = CLOCK.equals(clock) ? Math.max(wallAgeMs, monotonicMs() - putMs) : Math.abs(wallAgeMs);
  return !(ageMs < ttlMs); // so that NaN is over
}

/** Three float64 and the clock's name, little-endian. */
export function packLifetime({ ttlMs, wallMs, monotonicMs, clock }: Lifetime): Buffer {
  const bytes = Buffer.alloc(LIFETIME_BYTES);
  [ttlMs, wallMs, monotonicMs].forEach((ms, i) => bytes.writeDoubleLE(ms, 8 * i));
  clock.copy(bytes, CLOCK_AT);
  return bytes;
}

/** What `packLifetime` packed. */
export function unpackLifetime(bytes: Buffer): Lifetime {
  return { ttlMs: bytes.readDoubleLE(0), wallMs: bytes.readDoubleLE(8), monotonicMs: bytes.readDoubleLE(16), clock: bytes.subarray(CLOCK_AT, LIFETIME_BYTES) };
}

function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

/** Tells one start of one machine from all others. Where the system has no name for it, only this process knows its clock again. */
function startOfMachine(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8');
  } catch {
    return randomUUID();
  }
}
