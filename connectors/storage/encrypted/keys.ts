// No message here says what a key or an attempt at one looks like: messages end up in logs.
import { createSecretKey, hkdfSync, type KeyObject } from 'node:crypto';
import { KvError } from '../../../lib/errors.js';
import { isKeyId, KEY_CHECK_BYTES } from './format.js';

/** A key: 32 random bytes, or the same as base64 (43 or 44 characters) or hex (64 characters). */
export type EncryptionKey = Uint8Array | string;

/** Where a key comes from: itself, or a function that is asked for it when it is first needed. */
export type EncryptionKeySource = EncryptionKey | (() => EncryptionKey | Promise<EncryptionKey>);

/** Keys by id, and which of them seals new values. */
export interface EncryptionKeys {
  readonly keys: Readonly<Record<string, EncryptionKeySource>>;
  readonly writeKeyId: string;
}

/** One key, ready for use. */
export interface MasterKey {
  readonly key: KeyObject;
  /** Tells it from other keys, and nothing else about it. */
  readonly check: Uint8Array;
}

/** The keys of one connector. */
export interface KeyRing {
  /** Rejects with KV_UNSUPPORTED if there is no such key, or KV_CONNECTOR_UNAVAILABLE if its source failed. */
  find(id: string): Promise<MasterKey>;
}

const KEY_BYTES = 32;
const CHECK_INFO = 'kvreel encrypted key check 1';
const BASE64 = /^[A-Za-z0-9+/_-]{43}=?$/;
const HEX = /^[0-9A-Fa-f]{64}$/;
const WHAT_A_KEY_IS = '32 bytes, as a Uint8Array, base64 or hex';

/** Checks all keys that are at hand. Throws a TypeError or RangeError for one that cannot be. */
export function keyRing({ keys, writeKeyId }: EncryptionKeys): KeyRing {
  if (typeof keys !== 'object' || keys === null) throw new TypeError('expected `keys` to be an object of keys by id');
  const known = new Map<string, () => Promise<MasterKey>>();
  for (const [id, source] of Object.entries(keys)) {
    checkKeyId(id);
    if (typeof source === 'function') known.set(id, askOnce(async () => masterKey(id, await source())));
    else {
      const key = Promise.resolve(masterKey(id, source));
      known.set(id, () => key);
    }
  }
  if (!known.has(writeKeyId)) throw new RangeError('expected `writeKeyId` to be the id of one of `keys`');

  return {
    async find(id) {
      const key = known.get(id);
      if (key === undefined) {
        throw new KvError('KV_UNSUPPORTED', `a value is sealed with the key "${id}", which is not among \`keys\`; add that key, or delete the value if the key was given up`);
      }
      try {
        return await key();
      } catch (cause) {
        throw new KvError('KV_CONNECTOR_UNAVAILABLE', `the source of the key "${id}" failed; see the cause and try again`, { cause });
      }
    },
  };
}

/**
 * Reads `id=key` entries, one a line or separated by commas; keys are base64 or hex, blank lines and lines that start with `#`
 * are left out. The first key seals new values, the others only open old ones. Throws a TypeError that names the entry's number.
 */
export function parseEncryptionKeys(text: string): EncryptionKeys {
  const lines = text.split('\n').filter((line) => !line.trimStart().startsWith('#'));
  const entries = lines.flatMap((line) => line.split(',')).map((entry) => entry.trim()).filter((entry) => entry !== '');
  const keys = new Map<string, Uint8Array>();
  entries.forEach((entry, i) => {
    const [, id = '', key = ''] = /^([^=\s]+)\s*=\s*(\S+)$/.exec(entry) ?? [];
    if (!isKeyId(id) || keys.has(id)) throw new TypeError(`expected key ${i + 1} to be written id=key, its id of 1 to 16 letters, digits, dots, dashes or underscores and used once`);
    keys.set(id, keyBytes(id, key));
  });
  const [writeKeyId] = keys.keys();
  if (writeKeyId === undefined) throw new TypeError('expected at least one key, written id=key');
  return { keys: Object.fromEntries(keys), writeKeyId };
}

/** Asks at the first call, and again at the next one if that failed. */
function askOnce<T>(ask: () => Promise<T>): () => Promise<T> {
  let answer: Promise<T> | undefined;
  return async () => {
    try {
      return await (answer ??= ask());
    } catch (cause) {
      answer = undefined;
      throw cause;
    }
  };
}

function checkKeyId(id: string): void {
  if (!isKeyId(id)) throw new TypeError('expected the id of each key to be 1 to 16 letters, digits, dots, dashes or underscores');
}

function masterKey(id: string, text: EncryptionKey): MasterKey {
  const key = createSecretKey(keyBytes(id, text));
  return { key, check: new Uint8Array(hkdfSync('sha256', key, '', CHECK_INFO, KEY_CHECK_BYTES)) };
}

function keyBytes(id: string, key: EncryptionKey): Uint8Array {
  const bytes = typeof key === 'string' ? fromText(key) : key;
  if (bytes instanceof Uint8Array && bytes.byteLength === KEY_BYTES) return bytes;
  throw new TypeError(`expected the key "${id}" to be ${WHAT_A_KEY_IS}`);
}

function fromText(text: string): Uint8Array | undefined {
  if (HEX.test(text)) return Buffer.from(text, 'hex');
  return BASE64.test(text) ? Buffer.from(text, 'base64') : undefined;
}
