import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FORMS, formNamed, type Form } from '../../../connectors/engine/lmcache/forms.js';
import type { LmcacheName } from '../../../connectors/engine/lmcache/key-text.js';
import { engineName, NAMES, objectName } from './golden.js';

function form(name: string): Form {
  const found = formNamed(name);
  if (found === undefined) throw new Error(`there is no form ${name}`);
  return found;
}

/** The object's key in the bucket, from the path that LMCache asks for. */
const bucketKey = (path: string): string => decodeURIComponent(path.slice(1));

describe('names of the engine process are those that LMCache gives', () => {
  it.each(NAMES.engine.map(({ key, stored }) => [stored.resp, key, stored] as const))('%s', (_, key, stored) => {
    const name = engineName(key);
    expect(form('fs').storedName(name)).toBe(stored.fs);
    expect(form('fs-raw').storedName(name)).toBe(stored.fs);
    expect([`${form('redis').storedName(name)}metadata`, `${form('redis').storedName(name)}kv_bytes`]).toEqual(stored.redis);
    expect(form('resp').storedName(name)).toBe(stored.resp);
    expect(form('s3').storedName(name)).toBe(bucketKey(stored.s3));
  });

  it.each(NAMES.engine.map(({ key, stored }) => [stored.resp, key, stored] as const))('and are read back: %s', (_, key, stored) => {
    expect(form('fs').parseName(stored.fs, key.model)).toEqual(engineName(key));
    expect(form('resp').parseName(stored.resp)).toEqual(engineName(key));
    // What stood for a slash in a tag is lost in buckets.
    expect(form('s3').parseName(bucketKey(stored.s3), key.model)?.parts).toMatchObject({ model: key.model, hash: key.hash });
  });
});

describe('names of the multiprocess server are those that LMCache gives', () => {
  it.each(NAMES.multiprocess.map(({ key, stored }) => [stored['mp-resp'], key, stored] as const))('%s', (_, key, stored) => {
    const name = objectName(key);
    expect(form('mp-fs').storedName(name)).toBe(stored['mp-fs']);
    expect(form('mp-resp').storedName(name)).toBe(stored['mp-resp']);
    expect(form('mp-s3').storedName(name)).toBe(bucketKey(stored['mp-s3']));
    expect(form('mp-fs').parseName(stored['mp-fs'], key.model)).toEqual(name);
    expect(form('mp-resp').parseName(stored['mp-resp'])).toEqual(name);
    expect(form('mp-s3').parseName(bucketKey(stored['mp-s3']), key.model)).toEqual(name);
  });
});

describe('the model', () => {
  const stored = 'a-SEP-b@1@0@1@half.data';

  it('has slashes where a file name has -SEP-, as LMCache reads it', () => {
    expect(form('fs').parseName(stored)?.parts.model).toBe('a/b');
  });

  it('is what the caller says, where a file name or a bucket writes several alike', () => {
    expect(form('fs').parseName(stored, 'a-SEP-b')?.parts.model).toBe('a-SEP-b');
    expect(form('s3').parseName('a_b_c@1@0@1@half', 'a/b_c')?.parts.model).toBe('a/b_c');
    expect(form('mp-fs').parseName(`a-SEP-b@0x01000100@0@${'00'.repeat(32)}.data`, 'a-SEP-b')?.parts.model).toBe('a-SEP-b');
  });

  it('of other objects is not the one that was asked for', () => {
    expect(form('fs').parseName(stored, 'a/c')).toBeUndefined();
    expect(form('s3').parseName('a_b@1@0@1@half', 'a/c')).toBeUndefined();
    expect(form('resp').parseName('a/b@1@0@1@half', 'a')).toBeUndefined();
  });

  it('is not taken from a tag that looks like a key', () => {
    expect(form('resp').parseName('real@1@0@ff@half@user%evil@2@1@aa@float')).toEqual({
      kind: 'engine',
      parts: { model: 'real', worldSize: 1, workerId: 0, hash: 'ff', dtype: 'half', tags: [['user', 'evil@2@1@aa@float']] },
    });
  });
});

describe('what others stored is no name', () => {
  it.each([
    ['fs', 'README.data'],
    ['fs', 'org-SEP-model@1@0@1@half.tmp'],
    ['fs', 'org-SEP-model@1@0@01@half.data'],
    ['fs', 'org-SEP-model@1@0@FF@half.data'],
    ['fs', 'org-SEP-model@1@0@1@float128.data'],
    ['fs', 'org/model@1@0@1@half.data'],
    ['fs', `org-SEP-model@0x01000100@0@${'00'.repeat(32)}.data`],
    ['resp', '@1@0@1'],
    ['resp', 'm@0@0@1@half'],
    ['mp-fs', `m@01000100@0@${'00'.repeat(32)}.data`],
    ['mp-resp', `m@0x01000100@0@${'00'.repeat(32)}`],
    ['mp-resp', `m@1000100@0@${'00'.repeat(32)}`],
    ['mp-resp', 'm@01000100@0@abc'],
    ['mp-resp', `m@01000100@0@${'00'.repeat(32)}@`],
    ['mp-resp', `m@01000100@0@${'00'.repeat(32)}@a/b`],
  ])('%s %s', (name, stored) => {
    expect(form(name).parseName(stored)).toBeUndefined();
  });

  it.each(FORMS.map(({ name }) => name))('%s takes any text without failing, and only gives back what it would write', (name) => {
    const text = fc.oneof(fc.string({ unit: 'grapheme' }), fc.string({ unit: fc.constantFrom('@', '%', '/', '-', '0', '1', 'a', 'f', 'half', '.data', '-SEP-', '01000100') }));
    fc.assert(
      fc.property(text, (stored) => {
        const found = form(name).parseName(stored);
        if (found) expect(form(name).storedName(found)).toBe(stored);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('every name is read back', () => {
  const part = fc.string({ unit: fc.constantFrom('a', 'B', '/', '_', '-', '.', ' ', '%', 'ü', '-SEP-', '語'), maxLength: 12 });
  const model = part.filter((text) => text !== '');
  const engine = fc
    .record({
      model,
      worldSize: fc.integer({ min: 1, max: 999 }),
      workerId: fc.integer({ min: 0, max: 999 }),
      hash: fc.bigInt(-(2n ** 63n), 2n ** 64n - 1n).map((hash) => hash.toString(16)),
      dtype: fc.constantFrom('half', 'bfloat16', 'float', 'uint8', 'fp8_e4m3fn', 'fp8_e5m2'),
      tags: fc.array(fc.tuple(part.map((text) => text.replaceAll('%', '')), part), { minLength: 1, maxLength: 3 }),
    })
    .map((parts) => ({ kind: 'engine', parts }) as LmcacheName);
  const object = fc
    .record({
      model,
      hash: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((hash) => Buffer.from(hash).toString('hex')),
      kvRank: fc.integer({ min: 0, max: 0xffffffff }),
      objectGroup: fc.integer({ min: 0, max: 300 }),
      cacheSalt: part.map((text) => `s${text.replaceAll('/', '')}`),
    })
    .map((parts) => ({ kind: 'object', parts }) as LmcacheName);

  it.each([
    ['redis', engine],
    ['resp', engine],
    ['mp-resp', object],
    ['mp-s3', object],
  ])('%s, whatever it is made of', (name, names) => {
    fc.assert(
      fc.property(names, (key) => {
        expect(form(name).parseName(form(name).storedName(key))).toEqual(key);
      }),
      { numRuns: 500 },
    );
  });

  it.each([
    ['fs', engine],
    ['s3', engine],
    ['mp-fs', object],
  ])('%s, if the model is said: model, hash and rank', (name, names) => {
    fc.assert(
      fc.property(names, (key) => {
        const found = form(name).parseName(form(name).storedName(key), key.parts.model);
        expect(found?.parts).toMatchObject({ model: key.parts.model, hash: key.parts.hash });
      }),
      { numRuns: 500 },
    );
  });
});
