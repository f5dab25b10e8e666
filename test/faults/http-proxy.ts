// An HTTP proxy on 127.0.0.1 before a real S3 server. A twist takes the server's true answer and alters it, answers by itself, or
// does with the connection what it likes. Host and signature go through as they are, so the server accepts what it is passed.
import { once } from 'node:events';
import { createServer, request as sendRequest, type IncomingHttpHeaders, type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

export interface ProxiedRequest {
  readonly method: string;
  /** Path and query, as they came. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface ProxiedAnswer {
  readonly status: number;
  /** Lower case. */
  readonly headers: OutgoingHttpHeaders;
  readonly body: Buffer;
}

/** One request on its way through the proxy. */
export interface Passage {
  readonly request: ProxiedRequest;
  /** How many requests came before this one since the twist was set. */
  readonly index: number;
  /** The server's answer to the request, or to the same one with another body. */
  forward(body?: Buffer): Promise<ProxiedAnswer>;
  /** Answers the client and leaves the connection open. */
  send(answer: ProxiedAnswer): void;
  /** The client's connection, for answers that are no HTTP: nothing else writes to it any more. */
  readonly socket: Socket;
}

/** What the proxy does with a request. One that neither sends nor writes leaves the client waiting. */
export type Twist = (passage: Passage) => Promise<void> | void;

export interface HttpProxy {
  /** `http://127.0.0.1:<port>`. */
  readonly endpoint: string;
  /** What came since the twist was set. */
  readonly requests: readonly ProxiedRequest[];
  /** Connections that are open now. */
  readonly openConnections: number;
  /** Treats requests like this from now on; undefined: passes them on as they are. */
  set(twist: Twist | undefined): void;
  close(): Promise<void>;
}

/** Passes everything on. */
const honest: Twist = async ({ forward, send }) => send(await forward());

/** Starts a proxy before the server at `endpoint`. */
export async function startHttpProxy(endpoint: string): Promise<HttpProxy> {
  const target = new URL(endpoint);
  const sockets = new Set<Socket>();
  let twist = honest;
  let requests: ProxiedRequest[] = [];

  const server = createServer((incoming, response) => {
    void pass(incoming, response).catch(() => incoming.socket.destroy());
  });
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  async function pass(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await bytesOf(incoming);
    const { method = '', url: path = '', headers, socket } = incoming;
    const request = { method, path, headers, body };
    const index = requests.push(request) - 1;
    await twist({
      request,
      index,
      socket,
      forward: (other = body) => ask(target, { ...request, body: other }),
      send: ({ status, headers, body }) => response.writeHead(status, headers).end(method === 'HEAD' ? undefined : body),
    });
  }

  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get requests() {
      return requests;
    },
    get openConnections() {
      return sockets.size;
    },
    set(next) {
      twist = next ?? honest;
      requests = [];
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The head of an answer as text, for twists that write to the connection themselves. */
export function headText(status: number, headers: OutgoingHttpHeaders): string {
  return [`HTTP/1.1 ${status} Twisted`, ...Object.entries(headers).map(([name, value]) => `${name}: ${String(value)}`), '', ''].join('\r\n');
}

async function ask(target: URL, { method, path, headers, body }: ProxiedRequest): Promise<ProxiedAnswer> {
  const request = sendRequest({ host: target.hostname, port: target.port, method, path, headers, agent: false });
  request.end(body);
  const [answer] = (await once(request, 'response')) as [IncomingMessage];
  const { connection: _, 'transfer-encoding': __, ...passed } = answer.headers;
  return { status: answer.statusCode ?? 0, headers: passed, body: await bytesOf(answer) };
}

async function bytesOf(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}
