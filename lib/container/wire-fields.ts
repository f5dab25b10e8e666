import { KvError } from '../errors.js';

/** Reads fields of decoded msgpack that may be hostile. Every function throws KV_CORRUPT_OBJECT for a value of another kind. */
export interface FieldReader {
  record(value: unknown, name: string): Record<string, unknown>;
  stringRecord(value: unknown, name: string): Record<string, string>;
  list(value: unknown, name: string): readonly unknown[];
  text(value: unknown, name: string): string;
  boolean(value: unknown, name: string): boolean;
  /** A whole number from 0. */
  integer(value: unknown, name: string): number;
  finite(value: unknown, name: string): number;
  binary(value: unknown, name: string): Uint8Array;
  /** Throws KV_UNSUPPORTED for a field that is not among the known ones: what it means might matter. */
  refuseUnknown(record: Record<string, unknown>, known: readonly string[]): void;
  /** The error to throw for another finding. */
  corrupt(finding: string, cause?: unknown): KvError;
}

/** A reader whose errors name `what` is read. */
export function fieldReader(what: string): FieldReader {
  const corrupt = (finding: string, cause?: unknown): KvError => new KvError('KV_CORRUPT_OBJECT', `${what} is damaged: ${finding}`, { cause });
  function read<T>(value: unknown, name: string, kind: string, isKind: (value: unknown) => value is T): T {
    if (!isKind(value)) throw corrupt(`${name} is not ${kind}`);
    return value;
  }
  const record = (value: unknown, name: string) => read(value, name, 'a map', isRecord);
  const text = (value: unknown, name: string) => read(value, name, 'a string', isString);
  return {
    record,
    text,
    corrupt,
    stringRecord: (value, name) => Object.fromEntries(Object.entries(record(value, name)).map(([field, entry]) => [field, text(entry, `${name}.${field}`)])),
    list: (value, name) => read(value, name, 'a list', isList),
    boolean: (value, name) => read(value, name, 'true or false', isBoolean),
    integer: (value, name) => read(value, name, 'a whole number from 0', isInteger),
    finite: (value, name) => read(value, name, 'a finite number', isFinite),
    binary: (value, name) => read(value, name, 'binary', isBinary),
    refuseUnknown(fields, known) {
      const unknown = Object.keys(fields).find((field) => !known.includes(field));
      if (unknown !== undefined) throw new KvError('KV_UNSUPPORTED', `${what} has the field \`${unknown}\`, which this version does not know; a newer kvreel wrote it`);
    },
  };
}

const isString = (value: unknown): value is string => typeof value === 'string';
const isBoolean = (value: unknown): value is boolean => typeof value === 'boolean';
const isList = (value: unknown): value is readonly unknown[] => Array.isArray(value);
const isBinary = (value: unknown): value is Uint8Array => value instanceof Uint8Array;
const isFinite = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value);
const isInteger = (value: unknown): value is number => typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}
