// The fields of a request's JSON, checked one by one. Each message says which field, what was expected and what came.
import { invalid } from './wire-error.js';

export type JsonRecord = Readonly<Record<string, unknown>>;

export function record(value: unknown, name: string, known: ReadonlySet<string>): JsonRecord {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(`expected ${name} to be an object, got ${kindOf(value)}`);
  for (const field of Object.keys(value)) if (!known.has(field)) throw invalid(`unknown field ${shown(field)} in ${name}; known are ${[...known].join(', ')}`);
  return value as JsonRecord;
}

export function text(value: unknown, name: string): string {
  if (typeof value !== 'string') throw invalid(`expected ${name} to be text, got ${kindOf(value)}`);
  return value;
}

export function finite(value: unknown, name: string): number {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw invalid(`expected ${name} to be a number, got ${kindOf(value)}`);
  return value;
}

export function integer(value: unknown, name: string, least: number, most = Number.MAX_SAFE_INTEGER): number {
  if (!Number.isSafeInteger(value) || Number(value) < least || Number(value) > most) {
    throw invalid(`expected ${name} to be a whole number from ${least} to ${most}, got ${typeof value === 'number' ? value : kindOf(value)}`);
  }
  return Number(value);
}

export function list(value: unknown, name: string, most: number): readonly unknown[] {
  if (!Array.isArray(value)) throw invalid(`expected ${name} to be a list, got ${kindOf(value)}`);
  if (value.length > most) throw invalid(`expected ${name} to have at most ${most} entries, got ${value.length}; split the call`);
  return value;
}

/** `read` of a field that may be left out. */
export function optional<T>(value: unknown, read: (value: unknown) => T): T | undefined {
  return value === undefined ? undefined : read(value);
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  return value === undefined ? 'nothing' : typeof value === 'object' ? 'an object' : typeof value === 'string' ? 'text' : String(value);
}

// What a client sent is not repeated at length.
function shown(field: string): string {
  return JSON.stringify(field.slice(0, 40));
}
