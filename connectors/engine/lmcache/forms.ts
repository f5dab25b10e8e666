// The forms in which LMCache 0.5.6 stores objects: how each names them, and where it puts their metadata. Pure.
import { objectFileName } from '../../../lib/key/object-key.js';
import { parseEngineKey, parseObjectKey, textOf, type LmcacheName } from './key-text.js';

/** One form of storing objects. */
export interface Form {
  readonly name: string;
  readonly kind: LmcacheName['kind'];
  /** Where the metadata stands: before the data, under a name of its own, or nowhere. */
  readonly metadata: 'before' | 'beside' | 'none';
  /** LMCache reads only chunks of its full length from it. */
  readonly isFullOnly: boolean;
  /** The name that an object is stored under; with `metadata: 'beside'` both names start so. */
  storedName(name: LmcacheName): string;
  /**
   * Reads a stored name; undefined for what others stored. `model` says which one is meant where the form writes several alike; other
   * models' objects are then undefined too.
   */
  parseName(stored: string, model?: string): LmcacheName | undefined;
}

/** Ends of the two names of a `redis` object. */
export const REDIS_METADATA = 'metadata';
export const REDIS_DATA = 'kv_bytes';

const FILE_END = '.data';
// LMCache takes every one in a file name for a slash; a model that has one in its own name must be said.
const SLASH_IN_FILES = '-SEP-';

const unchanged = (text: string): string => text;
const inFiles = (text: string): string => text.replaceAll('/', SLASH_IN_FILES);
const inBuckets = (text: string): string => text.replaceAll('/', '_');

export const FORMS: readonly Form[] = [
  form({ name: 'fs', ...engineFiles(), metadata: 'before' }),
  form({ name: 'fs-raw', ...engineFiles(), metadata: 'none' }),
  form({ name: 'redis', ...texts('engine'), metadata: 'beside' }),
  form({ name: 'resp', ...texts('engine'), metadata: 'none', isFullOnly: true }),
  // What stood for a slash is known only if the model is.
  form({ name: 's3', ...texts('engine'), metadata: 'none', isFullOnly: true, flat: inBuckets, write: (name) => inBuckets(textOf(name)) }),
  form({ name: 'mp-fs', kind: 'object', metadata: 'none', isFullOnly: true, flat: inFiles, write: objectFile, read: readObjectFile }),
  form({ name: 'mp-resp', ...texts('object'), metadata: 'none', isFullOnly: true }),
  form({ name: 'mp-s3', ...texts('object'), metadata: 'none', isFullOnly: true }),
];

/** The form called `name`, if there is one. */
export function formNamed(name: string): Form | undefined {
  return FORMS.find((candidate) => candidate.name === name);
}

interface Recipe {
  readonly name: string;
  readonly kind: LmcacheName['kind'];
  readonly metadata: Form['metadata'];
  readonly isFullOnly?: boolean;
  /** What the form makes of a model's name. */
  readonly flat: (model: string) => string;
  readonly write: (name: LmcacheName) => string;
  readonly read: (stored: string) => LmcacheName | undefined;
}

function form({ name, kind, metadata, isFullOnly = false, flat, write, read }: Recipe): Form {
  return {
    name,
    kind,
    metadata,
    isFullOnly,
    storedName: write,
    parseName(stored, model) {
      const found = read(stored);
      const meant = found && model !== undefined ? renamed(found, model, flat) : found;
      return meant && write(meant) === stored ? meant : undefined;
    },
  };
}

function engineFiles(): Pick<Recipe, 'kind' | 'flat' | 'write' | 'read'> {
  return { kind: 'engine', flat: inFiles, write: (name) => `${inFiles(textOf(name))}${FILE_END}`, read: (stored) => parseEngineKey(withSlashes(textOfFile(stored))) };
}

function texts(kind: LmcacheName['kind']): Pick<Recipe, 'kind' | 'flat' | 'write' | 'read'> {
  return { kind, flat: unchanged, write: textOf, read: kind === 'engine' ? parseEngineKey : parseObjectKey };
}

function objectFile(name: LmcacheName): string {
  if (name.kind !== 'object') throw new TypeError('expected the name of an object of the multiprocess server');
  return objectFileName(name.parts);
}

// A salt has no slash, so only the model's come back.
function readObjectFile(stored: string): LmcacheName | undefined {
  const name = parseObjectKey(textOfFile(stored));
  return name?.kind === 'object' ? { ...name, parts: { ...name.parts, model: withSlashes(name.parts.model) } } : undefined;
}

function textOfFile(stored: string): string {
  return stored.slice(0, -FILE_END.length);
}

function withSlashes(text: string): string {
  return text.replaceAll(SLASH_IN_FILES, '/');
}

function renamed(name: LmcacheName, model: string, flat: (model: string) => string): LmcacheName | undefined {
  if (flat(model) !== flat(name.parts.model)) return undefined;
  return name.kind === 'engine' ? { ...name, parts: { ...name.parts, model } } : { ...name, parts: { ...name.parts, model } };
}
