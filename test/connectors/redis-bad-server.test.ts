// Faults that no good server shows, played by test/faults/resp-server.ts. Right bytes or an error, in time, and never a hang.
import type { Socket } from 'node:net';
import { inspect } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { redis, type RedisOptions } from '../../connectors/storage/redis.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import { expectSameBytes, listed, patternBytes } from '../contract/storage-connector.js';
import { startRespServer, type Answer, type RespServer } from '../faults/resp-server.js';

async function start(answer: Answer): Promise<RespServer> {
  const server = await startRespServer(answer);
  onTestFinished(() => server.close());
  return server;
}

function open(options: RedisOptions): StorageConnector {
  const connector = redis(options);
  onTestFinished(() => connector.close());
  return connector;
}

const UNAVAILABLE = { name: 'KvError', code: 'KV_CONNECTOR_UNAVAILABLE', retryable: true };
const REFUSED = { name: 'KvError', code: 'KV_CONNECTOR_REFUSED', retryable: false };

const range = { offset: 10, length: 5 };
const verbs: Record<string, (connector: StorageConnector) => Promise<unknown>> = {
  get: (connector) => connector.get('key'),
  'get into': (connector) => connector.get('key', { into: new Uint8Array(100) }),
  range: (connector) => connector.get('key', { range }),
  put: (connector) => connector.put('key', patternBytes(3)),
  has: (connector) => connector.has('key'),
  delete: (connector) => connector.delete('key'),
  list: (connector) => listed(connector, ''),
};

const largeEnough = (connector: StorageConnector) => connector.get('key', { into: new Uint8Array(1_000_000) });

const bulk = (text: string) => `$${text.length}\r\n${text}\r\n`;
/** What a good server that has a value of twenty bytes says. */
const good: Answer = ([name = '']) =>
  ({
    GET: bulk('abcdefghijklmnopqrst'),
    SET: '+OK\r\n',
    MULTI: '+OK\r\n',
    EXISTS: ':1\r\n',
    STRLEN: '+QUEUED\r\n',
    GETRANGE: '+QUEUED\r\n',
    EXEC: `*3\r\n:1\r\n:20\r\n${bulk('klmno')}`,
    UNLINK: ':1\r\n',
    SCAN: '*2\r\n$1\r\n0\r\n*0\r\n',
    AUTH: '+OK\r\n',
  })[name];

describe('redis with a server that', () => {
  it('is good gets what it sent', async () => {
    const server = await start(good);
    const connector = open({ port: server.port });
    expectSameBytes(await connector.get('key'), Buffer.from('abcdefghijklmnopqrst'));
    expectSameBytes(await connector.get('key', { range }), Buffer.from('klmno'));
    await connector.put('key', patternBytes(3));
    expect([await connector.has('key'), await connector.delete('key'), await listed(connector, '')]).toEqual([true, true, []]);
  });

  describe('refuses everything (fault 10)', () => {
    it.each([
      ['LOADING Redis is loading the dataset in memory', UNAVAILABLE],
      ['BUSY Redis is busy running a script', UNAVAILABLE],
      ['CLUSTERDOWN The cluster is down', UNAVAILABLE],
      ['MASTERDOWN Link with MASTER is down', UNAVAILABLE],
      ['TRYAGAIN Multiple keys request during rehashing of slot', UNAVAILABLE],
      ['ERR max number of clients reached', UNAVAILABLE],
      ['MISCONF Redis is configured to save RDB snapshots', REFUSED],
      ["READONLY You can't write against a read only replica.", REFUSED],
      ['MOVED 3999 127.0.0.1:6381', REFUSED],
      ['ASK 3999 127.0.0.1:6381', REFUSED],
      ['ERR unknown command', REFUSED],
      ['NOPERM this user has no permissions', { code: 'KV_PERMISSION' }],
      ['NOAUTH Authentication required.', { code: 'KV_PERMISSION' }],
      ['OOM command not allowed when used memory > maxmemory', { code: 'KV_NO_SPACE' }],
    ])('with %s: every verb says so, and works when it is over', async (text, expected) => {
      const server = await start(() => `-${text}\r\n`);
      const connector = open({ port: server.port });
      for (const [name, verb] of Object.entries(verbs)) await expect(verb(connector), name).rejects.toMatchObject(expected);
      server.answer(good);
      for (const verb of Object.values(verbs)) await verb(connector);
    });
  });

  describe('answers something else than was asked for (fault 11)', () => {
    it.each([
      ['a status', '+OK\r\n', ['get', 'get into', 'range', 'has', 'delete', 'list']],
      ['a number', ':7\r\n', ['get', 'get into', 'range', 'put', 'has', 'delete', 'list']],
      ['a value', bulk('abcde'), ['range', 'put', 'has', 'delete', 'list']],
      ['nothing there', '$-1\r\n', ['range', 'put', 'has', 'delete', 'list']],
      ['an empty array', '*0\r\n', ['get', 'get into', 'range', 'put', 'has', 'delete', 'list']],
      ['an array of arrays', '*1\r\n*1\r\n*1\r\n:1\r\n', ['get', 'get into', 'range', 'put', 'has', 'delete', 'list']],
      ['two replies', '+OK\r\n+OK\r\n', ['get', 'get into', 'range', 'put', 'has', 'delete', 'list']],
      ['an answer and the start of another', '+OK\r\n$3', ['get', 'get into', 'range', 'put']],
      ['a longer value than it announced', '$3\r\nabcdef\r\n', ['get', 'get into', 'range', 'put']],
      ['a negative length', '$-2\r\n', ['get', 'get into', 'range', 'put']],
      ['a length that is no number', '$1e3\r\n', ['get', 'get into', 'range', 'put']],
      ['an endless array', '*1000000000\r\n', ['get', 'get into', 'range', 'put']],
      ['RESP3', '_\r\n', ['get', 'get into', 'range', 'put']],
      ['HTTP', 'HTTP/1.1 400 Bad Request\r\n\r\n', ['get', 'get into', 'range', 'put', 'has', 'delete', 'list']],
      ['zeros', '\0'.repeat(5000), ['get', 'get into', 'range', 'put']],
      ['an endless line', 'x'.repeat(100_000), ['get', 'get into', 'range', 'put']],
    ])('%s: that call fails, its connection is given up, and the next call works', async (_, bytes, affected) => {
      for (const name of affected) {
        const server = await start(() => bytes);
        const connector = open({ port: server.port });
        await expect(verbs[name]?.(connector), name).rejects.toMatchObject(UNAVAILABLE);
        server.answer(good);
        await verbs[name]?.(connector);
        await expect.poll(() => server.open()).toBeLessThanOrEqual(1);
      }
    });

    it('of a range, with another length than the value has (faults 13, 19 and 20)', async () => {
      for (const parts of [`:1\r\n:20\r\n${bulk('klm')}`, `:1\r\n:20\r\n${bulk('klmnopq')}`, `:1\r\n:3\r\n${bulk('klmno')}`, `:1\r\n:20\r\n$-1\r\n`, `:0\r\n:20\r\n${bulk('klmno')}:`]) {
        const server = await start((words, socket) => (words[0] === 'EXEC' ? `*3\r\n${parts}` : good(words, socket)));
        const connector = open({ port: server.port });
        await expect(connector.get('key', { range }), parts).rejects.toMatchObject(UNAVAILABLE);
        server.answer(good);
        expectSameBytes(await connector.get('key', { range }), Buffer.from('klmno'));
      }
    });

    it('without being asked: nobody gets that', async () => {
      for (const stale of [bulk('stale bytes of somebody else'), '+OK\r\n', `${bulk('x'.repeat(13))}${bulk('stale')}`]) {
        const server = await start(good);
        const connector = open({ port: server.port });
        for (let i = 0; i < 5; i++) {
          await connector.get('key').catch(() => undefined);
          server.send(stale); // comes before the answer to the next call
          const outcome = await connector.get('key').catch((cause: unknown) => cause);
          if (outcome instanceof Uint8Array) expectSameBytes(outcome, Buffer.from('abcdefghijklmnopqrst'));
          else expect(outcome).toMatchObject(UNAVAILABLE);
        }
      }
    });

    it('one answer late, to each call that of the one before: no call gets the value of another', async () => {
      let late: string | Buffer = '+PONG\r\n';
      const server = await startRespServer(
        ([name = '', word = '']) => {
          const reply = late;
          late = bulk(name === 'ECHO' ? word : `value of ${word}`);
          return reply;
        },
        { answersEcho: true },
      );
      onTestFinished(() => server.close());
      const connector = open({ port: server.port, connections: 1 });
      for (let i = 0; i < 20; i++) await expect(connector.get(`key/${i}`)).rejects.toMatchObject(UNAVAILABLE);
    });
  });

  it('announces more than a value may have (fault 21) is refused before memory is made for it', async () => {
    for (const length of ['536870913', '4294967296', '999999999999999']) {
      const server = await start(() => `$${length}\r\nabc`);
      const before = process.memoryUsage().arrayBuffers;
      await expect(open({ port: server.port }).get('key')).rejects.toMatchObject(REFUSED);
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 24);
    }
  });

  it('never stops sending (fault 21) is given up when the announced length is there', async () => {
    const server = await start((_, socket) => {
      const send = (): void => void (socket.destroyed || socket.write(Buffer.alloc(100_000), () => setImmediate(send)));
      socket.write('$10\r\n');
      send();
      return undefined;
    });
    await expect(open({ port: server.port }).get('key')).rejects.toMatchObject(UNAVAILABLE);
    await expect.poll(() => server.open()).toBe(0);
  });

  it.each([
    ['trickles (fault 29)', (socket: Socket) => void setInterval(() => socket.write('a'), 5).unref()],
    ['falls silent (fault 28)', () => undefined],
  ])('%s in a value is given up at the deadline', async (_, go) => {
    const server = await start((words, socket) => {
      if (words[0] !== 'GET') return undefined;
      socket.write('$1000000\r\nabc');
      go(socket);
      return undefined;
    });
    const connector = open({ port: server.port, timeoutMs: 200 });
    const started = performance.now();
    const outcomes = await Promise.allSettled(Object.values({ ...verbs, 'get into': largeEnough }).map((verb) => verb(connector)));
    expect(performance.now() - started).toBeLessThan(300);
    for (const outcome of outcomes) expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'KV_CONNECTOR_TIMEOUT' } });
    await connector.close();
    await expect.poll(() => server.open()).toBe(0);
  });

  it.each([
    ['resets the connection (fault 45)', 'resetAndDestroy'],
    ['ends its half of it (fault 46)', 'end'],
    ['closes it', 'destroy'],
  ] as const)('%s in the middle of an answer gives KV_CONNECTOR_UNAVAILABLE at once', async (_, way) => {
    for (const part of ['', '$20\r\nabc', '$20\r\nabcdefghijklmnopqrst', '+O', ':']) {
      const server = await start((_words, socket) => {
        socket.write(part, () => socket[way]());
        return undefined;
      });
      const connector = open({ port: server.port });
      for (const [name, verb] of Object.entries(verbs)) {
        await expect(verb(connector), `${name} after ${part}`).rejects.toMatchObject(UNAVAILABLE);
      }
    }
  });

  it('hangs up after each answer is asked over a new connection', async () => {
    const server = await start((words, socket) => {
      socket.end(good(words, socket) ?? '');
      return undefined;
    });
    const connector = open({ port: server.port, connections: 1 });
    for (let i = 0; i < 20; i++) expectSameBytes(await connector.get('key'), Buffer.from('abcdefghijklmnopqrst'));
    for (let i = 0; i < 20; i++) await connector.put('key', patternBytes(10));
  });

  it('repeats the password in its refusal does not get it into an error', async () => {
    const server = await start((words) => `-ERR unknown command '${words[0]}', with args beginning with: ${words.slice(1).map((word) => `'${word}'`).join(' ')}\r\n`);
    const connector = open({ port: server.port, username: 'user', password: 'hush-hush' });
    for (const verb of Object.values(verbs)) {
      const error: unknown = await verb(connector).catch((cause: unknown) => cause);
      expect(error).toMatchObject(REFUSED);
      expect(inspect(error, { depth: 10, showHidden: true })).not.toContain('hush-hush');
    }
  });
});

describe('a cluster whose member', () => {
  const slots = (port: number) => `*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n${bulk('127.0.0.1')}:${port}\r\n${bulk('a'.repeat(40))}`;

  it('sends calls to a server that is not in the map is not followed there (fault 10)', async () => {
    const foreign = await start(good);
    for (const redirect of ['MOVED', 'ASK']) {
      const member = await start(([name]) => (name === 'AUTH' ? '+OK\r\n' : name === 'CLUSTER' ? slots(member.port) : `-${redirect} 12539 127.0.0.1:${foreign.port}\r\n`));
      const connector = open({ port: member.port, cluster: true, password: 'hush-hush' });
      const { list: _list, ...keyed } = verbs;
      for (const [name, verb] of Object.entries(keyed)) await expect(verb(connector), name).rejects.toMatchObject(UNAVAILABLE);
      expect(member.commands.filter(([name]) => name === 'GET').length).toBeLessThanOrEqual(12); // two gets, five redirects each
    }
    expect(foreign.connections()).toBe(0);
  });

  it('does not know its own name is asked by the one that it was reached by', async () => {
    const member = await start((words, socket) => (words[0] === 'CLUSTER' ? slots(member.port).replace(bulk('127.0.0.1'), '$-1\r\n') : good(words, socket)));
    const connector = open({ host: 'localhost', port: member.port, cluster: true });
    expectSameBytes(await connector.get('key'), Buffer.from('abcdefghijklmnopqrst'));
  });

  it('hands out a map that cannot be is not believed', async () => {
    for (const map of ['+OK\r\n', '*1\r\n:5\r\n', '*1\r\n*3\r\n:0\r\n:99999\r\n*2\r\n$1\r\nh\r\n:1\r\n', '*1\r\n*3\r\n:5\r\n:0\r\n*2\r\n$1\r\nh\r\n:1\r\n', '*1\r\n*3\r\n:0\r\n:5\r\n*2\r\n$1\r\nh\r\n:99999\r\n']) {
      const member = await start(([name]) => (name === 'CLUSTER' ? map : '+OK\r\n'));
      await expect(open({ port: member.port, cluster: true }).get('key'), map).rejects.toMatchObject(UNAVAILABLE);
    }
  });

  it('is asked for a key that is being moved to another member goes there with ASKING', async () => {
    const target = await start((words, socket) => (words[0] === 'ASKING' ? '+OK\r\n' : good(words, socket)));
    const half = (port: number, start: number, end: number) => `*3\r\n:${start}\r\n:${end}\r\n*2\r\n${bulk('127.0.0.1')}:${port}\r\n`;
    const owner = await start(([name]) => (name === 'CLUSTER' ? `*2\r\n${half(owner.port, 1, 16_383)}${half(target.port, 0, 0)}` : `-ASK 12539 127.0.0.1:${target.port}\r\n`));
    const connector = open({ port: owner.port, cluster: true });
    expectSameBytes(await connector.get('key'), Buffer.from('abcdefghijklmnopqrst'));
    expectSameBytes(await connector.get('key', { range }), Buffer.from('klmno'));
    await connector.put('key', patternBytes(3));
    expect([await connector.has('key'), await connector.delete('key')]).toEqual([true, true]);
    expect(target.commands.map(([name]) => name).filter((name) => name === 'ASKING')).toHaveLength(5);
  });
});
