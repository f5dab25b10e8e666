import { randomBytes } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { KvError } from '../../lib/errors.js';
import { bufferPool } from '../../lib/store/buffer-pool.js';
import type { ByteRange, CallOptions, GetOptions, ListedValue, PutOptions, SoundnessCheck, StorageConnector } from '../../lib/store/connector.js';
import { checkFields, checkKey, checkPut, checkRange, placeRead, type ReadPlace } from './arguments.js';
import { corrupt, HEADER_BYTES, parseHeader, SALT_BYTES, SEALED_BYTES, SEGMENT_BYTES, segmentCount, segmentOffset, storedBytes, valueBytesOf, type Header } from './encrypted/format.js';
import { keyRing, type EncryptionKeys } from './encrypted/keys.js';
import { recent } from './encrypted/recent.js';
import { segmentCipher, type SegmentCipher } from './encrypted/segments.js';
import { lifeCycle } from './life-cycle.js';

export { parseEncryptionKeys, type EncryptionKey, type EncryptionKeys, type EncryptionKeySource } from './encrypted/keys.js';

/** Ciphers of values that were read by range lately, about a kilobyte each: the next range of such a value takes one read. */
const RECENT_VALUES = 1000;

/** How much a first read asks for at most; a value that is longer takes a second one. */
const MAX_FRONT_BYTES = 64 << 20;

/** Attempts that one get may need where others keep replacing the value; more would be no accident. */
const MAX_ATTEMPTS = 5;

/** What came of one attempt: a value or miss, or segments that do not belong to this header. */
type Attempt = { readonly value: Uint8Array | undefined } | { readonly strangerTo: Header };

/**
 * Keeps values in `inner` encrypted and authenticated with AES-256-GCM, as docs/format-encrypted.md tells. Who has no key can neither
 * read a value nor make one. Who can write to `inner` can still delete a value or bring back an older one of the same key; keys of
 * values, sizes and times are not hidden. Only `get` opens a value: `has` and `list` say what is there, sound or not.
 *
 * Beside what `inner` rejects with: KV_CORRUPT_OBJECT for a value that is not as it was put under its key, KV_UNSUPPORTED for one sealed with
 * a key that is not among `keys`, KV_UNSUPPORTED_VERSION, and KV_CONNECTOR_UNAVAILABLE if the source of a key failed. `close` closes `inner` too.
 */
export function encrypted(inner: StorageConnector, options: EncryptionKeys): StorageConnector {
  checkFields(options, ['keys', 'writeKeyId']);
  const { writeKeyId } = options;
  const ring = keyRing(options);
  const { name, supports } = inner;
  const [sweep, repair] = [inner.sweep?.bind(inner), inner.repair?.bind(inner)];
  const life = lifeCycle(name);
  const buffers = bufferPool(4);
  const ciphers = recent<SegmentCipher>(RECENT_VALUES);
  let usualBytes = (1 << 20) - 1; // values of one store are alike: the longest yet tells how much to ask for at once

  async function read(key: string, options: GetOptions, call: CallOptions): Promise<Uint8Array | undefined> {
    let stranger: Header | undefined;
    for (let attempts = 1; ; attempts++) {
      const known = ciphers.get(key);
      const attempt = known !== undefined && canServe(known.header, options) ? await readSegments(known, key, options, call) : await readFront(key, options, call);
      if ('value' in attempt) return attempt.value;
      ciphers.delete(key);
      // A value that was replaced between two reads has another salt now. If it has not, its bytes are wrong.
      if (attempts === MAX_ATTEMPTS || (stranger !== undefined && isSame(stranger, attempt.strangerTo))) throw unproven(key);
      stranger = attempt.strangerTo;
    }
  }

  /** Reads from the first byte on: header, first segment, and as much more as is wanted or usual. */
  function readFront(key: string, options: GetOptions, call: CallOptions): Promise<Attempt> {
    const asked = Math.min(wantedFront(options.range), usualBytes) + 1; // one more byte shows whether the value ends there
    return buffers.use(asked, async (buffer) => {
      const front = await inner.get(key, supports.range ? { ...call, range: { offset: 0, length: asked }, into: buffer.subarray(0, asked) } : call);
      if (front === undefined) return { value: undefined };
      const { cipher, first } = await openFront(front, key);
      const stored = storedBytes(cipher.header.valueBytes);
      const isWhole = !supports.range || stored < asked;
      if (front.byteLength !== (isWhole ? stored : asked)) throw unproven(key);
      ciphers.set(key, cipher);
      usualBytes = Math.max(usualBytes, Math.min(stored, MAX_FRONT_BYTES));

      const place = placeRead(cipher.header.valueBytes, options);
      const span = spanOf(place, cipher.header);
      // Also where the last byte that was read is wanted: it may be the value's last one, or not.
      if (!isWhole && span.end >= front.byteLength) return readSegments(cipher, key, options, call);
      const isProved = await openSegments(cipher, { place, sealed: front.subarray(span.begin, span.end), first }, call);
      if (!isProved) throw unproven(key);
      return { value: place.target };
    });
  }

  /** Header and first segment of some stored bytes, of which the segment's tag proves both. Until then no length decides how much memory is taken. */
  async function openFront(front: Uint8Array, key: string): Promise<{ readonly cipher: SegmentCipher; readonly first: Uint8Array }> {
    const header = parseHeader(front, key);
    const master = await ring.find(header.keyId);
    if (Buffer.compare(header.keyCheck, master.check) !== 0) {
      throw new KvError('KV_UNSUPPORTED', `the value at "${key}" is sealed with another key of the id "${header.keyId}" than the one given; give it the right one, and each key an id of its own`);
    }
    const cipher = segmentCipher(header, key, master.key);
    const first = cipher.open(0, front.subarray(HEADER_BYTES, HEADER_BYTES + SEALED_BYTES));
    if (first === undefined) throw unproven(key);
    return { cipher, first };
  }

  /** Whether a stored copy is sound and what it holds is. One that cannot be read here may be sound for somebody else. */
  async function isSoundCopy(stored: Uint8Array, key: string, isSound: SoundnessCheck, call: CallOptions): Promise<boolean> {
    try {
      const { cipher, first } = await openFront(stored, key);
      if (stored.byteLength !== storedBytes(cipher.header.valueBytes)) return false;
      const place = placeRead(cipher.header.valueBytes, {});
      const isProved = await openSegments(cipher, { place, sealed: stored.subarray(HEADER_BYTES), first }, call);
      return isProved && (await isSound(place.target, key));
    } catch (error) {
      if (!(error instanceof KvError) || error.retryable) throw error;
      return error.code !== 'KV_CORRUPT_OBJECT';
    }
  }

  /** Reads only the segments that hold the wanted bytes, of which there must be one at least. */
  async function readSegments(cipher: SegmentCipher, key: string, options: GetOptions, call: CallOptions): Promise<Attempt> {
    const place = placeRead(cipher.header.valueBytes, options);
    const { begin, end } = spanOf(place, cipher.header);
    const isLast = end === storedBytes(cipher.header.valueBytes);
    const length = end - begin + (isLast ? 1 : 0); // one more byte shows whether the value ends there
    return buffers.use(length, async (buffer) => {
      const sealed = await inner.get(key, { ...call, range: { offset: begin, length }, into: buffer.subarray(0, length) });
      if (sealed === undefined) return { value: undefined };
      const isProved = sealed.byteLength === end - begin && (await openSegments(cipher, { place, sealed }, call));
      return isProved ? { value: place.target } : { strangerTo: cipher.header };
    });
  }

  async function write(key: string, value: Uint8Array, options: PutOptions): Promise<void> {
    const master = await ring.find(writeKeyId);
    const header = { keyId: writeKeyId, valueBytes: value.byteLength, salt: randomBytes(SALT_BYTES), keyCheck: master.check };
    const cipher = segmentCipher(header, key, master.key);
    const bytes = storedBytes(value.byteLength);
    await buffers.use(bytes, async (buffer) => {
      const stored = buffer.subarray(0, bytes);
      stored.set(cipher.headerBytes);
      for (let i = 0; i < segmentCount(value.byteLength); i++) {
        if (i > 0) await pause(options);
        cipher.seal(i, value.subarray(i * SEGMENT_BYTES, (i + 1) * SEGMENT_BYTES), stored.subarray(segmentOffset(i)));
      }
      ciphers.delete(key);
      await inner.put(key, stored, options);
    });
  }

  return {
    name,
    supports,

    get: (key: string, options: GetOptions = {}) =>
      life.run(options, async (signal) => {
        checkKey(key);
        if (options.range !== undefined && !supports.range) throw new TypeError(`expected no \`range\`: ${name} cannot read by range`);
        checkRange(options.range);
        return read(key, options, signal ? { signal } : {});
      }),

    put: (key: string, value: Uint8Array, options: PutOptions = {}) =>
      life.run(options, async () => {
        checkKey(key);
        checkPut(value, options, supports.ttl);
        return write(key, value, options);
      }),

    has: (key, options = {}) => life.run(options, () => inner.has(key, options)),

    delete: (key, options = {}) =>
      life.run(options, async () => {
        ciphers.delete(key);
        return inner.delete(key, options);
      }),

    /** Sizes are those of the values. Something of a size that none can have counts as 0 bytes, so that it is found and deleted. */
    async *list(prefix, options = {}): AsyncGenerator<ListedValue> {
      for await (const listed of inner.list(prefix, options)) yield { ...listed, bytes: valueBytesOf(listed.bytes) };
    },

    ...(sweep && { sweep: (options: CallOptions = {}) => life.run(options, () => sweep(options)) }),
    ...(repair && {
      repair: (key: string, isSound: SoundnessCheck, options: CallOptions = {}) =>
        life.run(options, (signal) => repair(key, (stored) => isSoundCopy(stored, key, isSound, signal ? { signal } : {}), options)),
    }),

    async close() {
      await life.close();
      await inner.close();
      buffers.clear();
    },
  };
}

/** Stored bytes from the start that a get needs: all of them, or those up to a range's end if it begins in the first segment. */
function wantedFront(range: ByteRange | undefined): number {
  if (range === undefined) return Infinity;
  const isAtStart = range.offset < SEGMENT_BYTES;
  return segmentOffset(isAtStart ? segmentCount(range.offset + range.length) : 1);
}

/** Whether a remembered header tells which segments to read, and reading them tells whether it still holds. */
function canServe({ valueBytes }: Header, { range, into }: GetOptions): boolean {
  if (range === undefined || range.length === 0 || range.offset >= valueBytes) return false;
  return into === undefined || into.byteLength >= Math.min(range.length, valueBytes - range.offset);
}

function isSame(one: Header, other: Header): boolean {
  return Buffer.compare(one.salt, other.salt) === 0;
}

/** Where the segments that hold the wanted bytes begin and end in the stored bytes. */
function spanOf({ offset, target }: ReadPlace, { valueBytes }: Header): { readonly begin: number; readonly end: number } {
  const first = Math.floor(offset / SEGMENT_BYTES);
  const begin = segmentOffset(first);
  if (target.byteLength === 0) return { begin: HEADER_BYTES, end: HEADER_BYTES };
  const end = segmentOffset(Math.ceil((offset + target.byteLength) / SEGMENT_BYTES));
  return { begin, end: Math.min(end, storedBytes(valueBytes)) };
}

interface SegmentRead {
  readonly place: ReadPlace;
  /** The segments that hold the wanted bytes, sealed. */
  readonly sealed: Uint8Array;
  /** What the value's first segment holds, where it has been opened already. */
  readonly first?: Uint8Array;
}

/** Opens segments and copies the wanted bytes of each as soon as it is proved. False if one is not what was sealed. */
async function openSegments(cipher: SegmentCipher, { place, sealed, first }: SegmentRead, call: CallOptions): Promise<boolean> {
  const { offset, target } = place;
  const firstIndex = Math.floor(offset / SEGMENT_BYTES);
  for (let at = 0; at < sealed.byteLength; at += SEALED_BYTES) {
    if (at > 0) await pause(call);
    const index = firstIndex + at / SEALED_BYTES;
    const plain = index === 0 && first !== undefined ? first : cipher.open(index, sealed.subarray(at, at + SEALED_BYTES));
    if (plain === undefined) return false;
    const start = index * SEGMENT_BYTES;
    const from = Math.max(offset, start);
    target.set(plain.subarray(from - start, offset + target.byteLength - start), from - offset);
  }
  return true;
}

/** Lets others have the event loop between two segments. Throws the signal's reason once that is aborted. */
async function pause({ signal }: CallOptions): Promise<void> {
  await setImmediate();
  signal?.throwIfAborted();
}

function unproven(key: string): KvError {
  return corrupt(key, 'is not what was put there: it was altered, cut short, or put under another key');
}
