// A client of the daemon that says exactly what it is told to, right or wrong.
import { Agent, request, type IncomingMessage, type RequestOptions } from 'node:http';
import { CALL_INDEX, FRAME_HEADER_BYTES, FRAME_TYPE, packFrameHeader, readFrameHeader } from '../../connectors/engine/daemon/frames.js';

export interface Frame {
  readonly index: number;
  readonly status: number;
  readonly payload: Buffer;
}

export interface FrameAnswer {
  readonly status: number;
  readonly frames: readonly Frame[];
  /** What the end frame says; undefined where the answer broke off. */
  readonly summary: Record<string, number> | undefined;
  readonly json: unknown;
}

export interface Answer {
  readonly status: number;
  readonly json: Record<string, unknown>;
}

export interface Client {
  json(method: string, path: string, body?: unknown): Promise<Answer>;
  /** An answer of frames. */
  frames(path: string, body: unknown): Promise<FrameAnswer>;
  /** `POST /v1/store` with a body of frames. */
  storeFrames(head: unknown, payloads: readonly Uint8Array[]): Promise<FrameAnswer>;
  /** Bytes as they are. */
  send(method: string, path: string, body: Uint8Array | string | undefined, headers?: Record<string, string>): Promise<{ readonly status: number; readonly body: Buffer; readonly headers: IncomingMessage['headers'] }>;
  close(): void;
}

export function clientOf(place: Pick<RequestOptions, 'socketPath' | 'host' | 'port'>, token?: string): Client {
  const agent = new Agent({ keepAlive: true });
  const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };

  const send: Client['send'] = (method, path, body, headers = {}) =>
    new Promise((resolve, reject) => {
      const call = request({ ...place, agent, method, path, headers: { ...authorization, ...headers, ...(body !== undefined && { 'content-length': Buffer.byteLength(body) }) } }, (response) => {
        const pieces: Buffer[] = [];
        response.on('data', (piece: Buffer) => pieces.push(piece));
        const done = (): void => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(pieces), headers: response.headers });
        response.on('end', done);
        response.on('error', done); // broken off
      });
      call.on('error', reject);
      call.end(body);
    });

  async function frameAnswer(sent: ReturnType<Client['send']>): Promise<FrameAnswer> {
    const { status, body, headers } = await sent;
    if (headers['content-type'] !== FRAME_TYPE) return { status, frames: [], summary: undefined, json: JSON.parse(body.toString()) };
    const { frames, end } = framesOf(body);
    return { status, frames, summary: end, json: undefined };
  }

  return {
    send,
    async json(method, path, body) {
      const { status, body: bytes } = await send(method, path, body === undefined ? undefined : JSON.stringify(body), { 'content-type': 'application/json' });
      return { status, json: JSON.parse(bytes.toString()) as Record<string, unknown> };
    },
    frames: (path, body) => frameAnswer(send('POST', path, JSON.stringify(body), { 'content-type': 'application/json' })),
    storeFrames: (head, payloads) => frameAnswer(send('POST', '/v1/store', framesBody(head, payloads), { 'content-type': FRAME_TYPE })),
    close: () => agent.destroy(),
  };
}

/** The frames of a body: its head, then one a payload. */
export function framesBody(head: unknown, payloads: readonly Uint8Array[]): Buffer {
  const json = Buffer.from(JSON.stringify(head));
  const parts = payloads.flatMap((payload, index) => [packFrameHeader({ index, status: 0, bytes: payload.byteLength }), payload]);
  return Buffer.concat([packFrameHeader({ index: CALL_INDEX, status: 0, bytes: json.byteLength }), json, ...parts]);
}

/** Splits an answer; what comes after the last whole frame is left out. */
export function framesOf(body: Buffer): { readonly frames: readonly Frame[]; readonly end: Record<string, number> | undefined } {
  const frames: Frame[] = [];
  let end: Record<string, number> | undefined;
  for (let at = 0; at + FRAME_HEADER_BYTES <= body.length; ) {
    const { index, status, bytes } = readFrameHeader(body.subarray(at));
    at += FRAME_HEADER_BYTES;
    if (at + bytes > body.length) break;
    const payload = body.subarray(at, at + bytes);
    at += bytes;
    if (index === CALL_INDEX) end = JSON.parse(payload.toString()) as Record<string, number>;
    else frames.push({ index, status, payload });
  }
  return { frames, end };
}
