// What a client of lm:// sends: requests, with data behind those to put. The first byte says how they are cut on their way.
import { Readable } from 'node:stream';
import { isDeepStrictEqual } from 'node:util';
import { LmProtocolError, packTensorAnswer, parseRequest, REPLY_BYTES, REQUEST_BYTES, type LmRequest } from '../../../connectors/engine/lm/protocol.js';
import { socketReader } from '../../../connectors/engine/lm/socket-reader.js';
import { COMMAND, packRequest, type RawRequest } from '../../lm/client.js';
import { randomOf } from '../random.js';
import { expectThat, type FuzzTarget } from '../target.js';

const KEY = 'org/model.v1@2@1@-274654dcc82ea3f3@bfloat16@user%alice';

const stream = (...requests: readonly RawRequest[]): Uint8Array => Buffer.concat([Buffer.of(1), ...requests.flatMap((request) => [packRequest(request), new Uint8Array(request.command === COMMAND.put ? (request.length ?? 0) : 0)])]);
const put = (over: Partial<RawRequest>): RawRequest => ({ command: COMMAND.put, length: 96, dtype: 3, shape: [2, 2, 3, 4], key: KEY, ...over });

export const lm: FuzzTarget = {
  name: 'lm',

  seeds: () => ({
    put: stream(put({})),
    'put-mla': stream(put({ format: 6, shape: [1, 4, 3, 4] })),
    'put-layer': stream(put({ format: 2, shape: [3, 2, 8, 0], key: 'm@1@0@0@bfloat16@3' })),
    'put-binary': stream(put({ format: 5, dtype: 0, shape: [96, 0, 0, 0] })),
    asked: stream({ command: COMMAND.exist, key: KEY }, { command: COMMAND.get, key: KEY }, { command: COMMAND.health }, { command: COMMAND.list }),
    mixed: stream(put({}), { command: COMMAND.get, key: KEY }, put({ key: 'nothing' }), { command: COMMAND.exist, key: KEY }),
  }),

  async meet(input) {
    const [seed = 0] = input;
    const bytes = input.subarray(1);
    const whole = await outcomeOf([bytes]);
    expectThat(isDeepStrictEqual(await outcomeOf(cut(bytes, seed)), whole), 'how requests are cut on their way does not change what they say');
    return whole.end;
  },
};

interface Outcome {
  readonly requests: readonly LmRequest[];
  readonly end: string;
}

async function outcomeOf(pieces: readonly Uint8Array[]): Promise<Outcome> {
  const reader = socketReader(Readable.from(pieces, { objectMode: false }));
  const header = new Uint8Array(REQUEST_BYTES);
  const requests: LmRequest[] = [];
  try {
    while (await reader.hasMore()) {
      if (!(await reader.fill(header))) return { requests, end: 'ends inside a request' };
      const request = parseRequest(header);
      requests.push(request);
      if (request.command !== 'put') continue;
      expectThat(request.length >= 0 && request.length < 2 ** 31, 'a length can be waited for');
      if ('metadata' in request) expectAnswered(request.metadata, header);
      if (!(await reader.skip(request.length))) return { requests, end: 'ends inside a tensor' };
    }
    return { requests, end: 'accepted' };
  } catch (error) {
    if (error instanceof LmProtocolError) return { requests, end: 'LmProtocolError' };
    throw error;
  }
}

// What a get of it will tell is what the put told, but for the place of the location.
function expectAnswered(metadata: Parameters<typeof packTensorAnswer>[0], header: Uint8Array): void {
  const integers = (bytes: Uint8Array): number[] => Array.from({ length: 9 }, (_, i) => new DataView(bytes.buffer, bytes.byteOffset).getInt32(4 * i, true));
  const [, length, format, dtype, , ...shape] = integers(header);
  const answer = packTensorAnswer(metadata);
  expectThat(answer.length === REPLY_BYTES, 'an answer has its length');
  expectThat(isDeepStrictEqual(integers(answer), [200, length, format, dtype === 1 ? 2 : dtype, ...shape, 0]), 'a get tells of the tensor that was put');
}

function cut(bytes: Uint8Array, seed: number): Uint8Array[] {
  const random = randomOf(seed, bytes.length);
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) pieces.push(bytes.subarray(at, (at += 1 + random.below(seed % 2 === 0 ? 9 : 200))));
  return pieces;
}
