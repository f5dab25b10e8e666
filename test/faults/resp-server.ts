// A server that speaks RESP and does what a good one never would: each command is answered by what the test says.
import { createServer, type AddressInfo, type Socket } from 'node:net';

/** What a command, its name in capitals, gets: bytes to send as they are, or undefined for no answer. May do anything else to the socket itself. */
export type Answer = (words: readonly string[], socket: Socket) => string | Buffer | undefined;

/** A running server of this kind, on 127.0.0.1. */
export interface RespServer {
  readonly port: number;
  /** Every command that came, on all connections, as its words. */
  readonly commands: (readonly string[])[];
  /** How many connections were made. */
  connections(): number;
  /** How many of them are open. */
  open(): number;
  /** Answers otherwise from now on. */
  answer(answer: Answer): void;
  /** Sends bytes on every open connection, though nobody asked. */
  send(bytes: string): void;
  close(): Promise<void>;
}

/** Starts one. It answers ECHO as it should, so that what `answer` says is about the command after it, unless it `answersEcho` too. */
export async function startRespServer(first: Answer, { answersEcho = false } = {}): Promise<RespServer> {
  const sockets = new Set<Socket>();
  const commands: (readonly string[])[] = [];
  let answer = first;
  let connections = 0;
  const server = createServer((socket) => {
    connections++;
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => undefined); // clients that hang up are what is tested
    socket.on('close', () => sockets.delete(socket));
    let pending = Buffer.alloc(0);
    socket.on('data', (bytes) => {
      pending = Buffer.concat([pending, bytes]);
      for (;;) {
        const request = readCommand(pending);
        if (request === undefined) return;
        pending = pending.subarray(request.bytes);
        commands.push(request.words);
        const [name, text = ''] = request.words;
        const reply = name === 'ECHO' && !answersEcho ? `$${text.length}\r\n${text}\r\n` : answer(request.words, socket);
        if (reply !== undefined && !socket.destroyed) socket.write(reply);
      }
    });
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    commands,
    connections: () => connections,
    open: () => sockets.size,
    answer: (next) => void (answer = next),
    send: (bytes) => sockets.forEach((socket) => socket.write(bytes)),
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The first whole command in `bytes`: an array of bulk strings. */
function readCommand(bytes: Buffer): { readonly words: string[]; readonly bytes: number } | undefined {
  let at = 0;
  const number = (): number | undefined => {
    const end = bytes.indexOf('\r\n', at);
    if (end === -1) return undefined;
    const value = Number(bytes.toString('latin1', at + 1, end));
    at = end + 2;
    return value;
  };
  const count = number();
  const words: string[] = [];
  for (let i = 0; count !== undefined && i < count; i++) {
    const length = number();
    if (length === undefined || bytes.length < at + length + 2) return undefined;
    words.push(bytes.toString('latin1', at, at + length));
    at += length + 2;
  }
  const [name = '', ...rest] = words;
  return count === undefined ? undefined : { words: [name.toUpperCase(), ...rest], bytes: at };
}
