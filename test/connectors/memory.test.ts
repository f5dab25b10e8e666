import { describe, expect, it } from 'vitest';
import { memory } from '../../connectors/storage/memory.js';
import { expectSameBytes, patternBytes, storageConnectorContract } from '../contract/storage-connector.js';

let clock = 0;

storageConnectorContract('memory', {
  make: () => memory({ now: () => clock }),
  advanceClock: (ms) => void (clock += ms),
});

describe('memory', () => {
  it('keeps its own copy of a Buffer, whose slice() would share memory', async () => {
    const connector = memory();
    const value = Buffer.from(patternBytes(100));
    await connector.put('key', value);
    value.fill(0);
    const read = await connector.get('key');
    expectSameBytes(read, patternBytes(100));
    expect(Buffer.isBuffer(read)).toBe(false);
  });

  it('refuses a put beyond maxBytes and keeps what it had', async () => {
    const connector = memory({ maxBytes: 1000 });
    await connector.put('old', patternBytes(600));
    await expect(connector.put('new', patternBytes(401))).rejects.toMatchObject({ code: 'KV_NO_SPACE', retryable: false });
    await expect(connector.put('old', patternBytes(1001))).rejects.toMatchObject({ code: 'KV_NO_SPACE' });
    expectSameBytes(await connector.get('old'), patternBytes(600));
    expect(await connector.has('new')).toBe(false);
    await connector.put('new', patternBytes(400));
  });

  it('counts a replaced or deleted value no longer', async () => {
    const connector = memory({ maxBytes: 1000 });
    for (const size of [1000, 1, 1000]) await connector.put('key', patternBytes(size));
    await connector.delete('key');
    await connector.delete('key');
    await connector.put('another', patternBytes(1000));
    await expect(connector.put('third', patternBytes(1))).rejects.toMatchObject({ code: 'KV_NO_SPACE' });
  });

  it('gives up the room of values whose time is over', async () => {
    let now = 0;
    const connector = memory({ maxBytes: 1000, now: () => now });
    await connector.put('short', patternBytes(1000), { ttlMs: 10 });
    now = 9;
    await expect(connector.put('key', patternBytes(1000))).rejects.toMatchObject({ code: 'KV_NO_SPACE' });
    now = 10;
    await connector.put('key', patternBytes(1000));
    await expect(connector.put('short', patternBytes(1))).rejects.toMatchObject({ code: 'KV_NO_SPACE' });
  });

  it.each([0, -1, NaN])('refuses maxBytes = %d', (maxBytes) => {
    expect(() => memory({ maxBytes })).toThrow(RangeError);
  });

  it('refuses an option it does not know', () => {
    expect(() => memory({ maxSize: 5 } as object)).toThrow(new TypeError('expected only the options maxBytes, now, got `maxSize`'));
  });
});
