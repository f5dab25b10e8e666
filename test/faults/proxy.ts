// A TCP proxy on 127.0.0.1 that plays the faults which a good server and a good network will not.
//
// A fault holds for all connections, open and new. Byte counts are those of one connection and direction, from the moment the
// fault was set or the connection opened. What a stall or blackhole holds back is not lost: it goes on when the fault is lifted.
import { once, setMaxListeners } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomSource } from '../lib/tensors.js';

/** Which way the bytes go that a fault meets. */
export type Direction = 'toClient' | 'toServer';

/** What the proxy does instead of just passing bytes on. */
export type Fault =
  /** Nobody listens: open connections are reset, new ones refused. */
  | { readonly kind: 'refuse' }
  /** Connections are accepted, but no byte passes, neither way. */
  | { readonly kind: 'blackhole' }
  /** No byte passes after the first `afterBytes` (default 0). */
  | { readonly kind: 'stall'; readonly afterBytes?: number; readonly direction?: Direction }
  /** `bytes` bytes pass every `everyMs`. */
  | { readonly kind: 'trickle'; readonly bytes: number; readonly everyMs: number; readonly direction?: Direction }
  /** Bytes arrive `ms` late, and up to `jitterMs` later, in order. */
  | { readonly kind: 'delay'; readonly ms: number; readonly jitterMs?: number; readonly direction?: Direction }
  /**
   * Both ends get a RST after `afterBytes` (default 0: at once, idle connections too). Node reports a RST that arrives together
   * with bytes as an ordinary end.
   */
  | { readonly kind: 'reset'; readonly afterBytes?: number; readonly direction?: Direction }
  /** The receiver gets a FIN after `afterBytes` (default 0: at once), and no byte more; the other direction goes on. */
  | { readonly kind: 'half-close'; readonly afterBytes?: number; readonly direction?: Direction }
  /** The receiver gets a FIN after `afterBytes` (default 0: at once), and the sender's connection ends. */
  | { readonly kind: 'truncate'; readonly afterBytes?: number; readonly direction?: Direction }
  /** One bit of byte `atByte` arrives as its opposite. */
  | { readonly kind: 'flip'; readonly atByte: number; readonly direction?: Direction }
  /** All connections together carry this much. */
  | { readonly kind: 'bandwidth'; readonly bytesPerSecond: number; readonly direction?: Direction };

export interface Proxy {
  /** Where it listens on 127.0.0.1; the same for its whole life. */
  readonly port: number;
  readonly connections: { readonly open: number; readonly accepted: number };
  /** Bytes handed on so far, all connections together. */
  readonly bytes: Readonly<Record<Direction, number>>;
  /** Plays this fault from now on instead of the one before; undefined for none. Resolves when it is in force. */
  set(fault: Fault | undefined): Promise<void>;
  /** Ends everything. */
  close(): Promise<void>;
}

export interface ProxyOptions {
  /** For jitter and the choice of flipped bits. Default 1. */
  readonly seed?: number;
}

/** Starts a proxy before the server at `target`. */
export async function startProxy(target: { readonly port: number; readonly host?: string } | { readonly path: string }, options: ProxyOptions = {}): Promise<Proxy> {
  const links = new Set<Link>();
  const scene = newScene(randomSource(options.seed ?? 1));
  let accepted = 0;
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    accepted++;
    const upstream = connect({ ...('path' in target ? target : { host: '127.0.0.1', ...target }), allowHalfOpen: true, noDelay: true });
    const link = new Link(scene, client, upstream, 'path' in target);
    links.add(link);
    link.closed.then(() => links.delete(link));
  });
  const port = await listen(server, 0);
  const stopListening = (): void => void (server.listening && server.close());

  return {
    port,
    get connections() {
      return { open: links.size, accepted };
    },
    get bytes() {
      return { ...scene.bytes };
    },
    async set(fault) {
      scene.play(fault);
      if (fault?.kind === 'refuse') {
        stopListening();
        for (const link of links) link.reset();
      } else if (!server.listening) await listen(server, port);
      for (const link of links) link.onNewFault();
    },
    async close() {
      stopListening();
      for (const link of links) link.reset();
      scene.play(undefined);
      await Promise.all([...links].map(({ closed }) => closed));
    },
  };
}

async function listen(server: Server, port: number): Promise<number> {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** What all connections of one proxy share. */
interface Scene {
  readonly fault: Fault | undefined;
  /** Another number after each `play`. */
  readonly act: number;
  readonly bytes: Record<Direction, number>;
  readonly random: () => number;
  play(fault: Fault | undefined): void;
  /** Waits, but no longer than the fault holds. */
  wait(ms: number): Promise<void>;
  /** Waits for the room that `bytes` bytes take on a link of this bandwidth. */
  takeBandwidth(bytes: number, bytesPerSecond: number): Promise<void>;
}

const LONGEST_TIMER_MS = 2 ** 31 - 1;

function newScene(random: () => number): Scene {
  let fault: Fault | undefined;
  let act = 0;
  let lifted = new AbortController();
  let linkIsFreeAt = 0;

  return {
    random,
    bytes: { toClient: 0, toServer: 0 },
    get fault() {
      return fault;
    },
    get act() {
      return act;
    },
    play(next) {
      fault = next;
      act++;
      linkIsFreeAt = 0;
      lifted.abort();
      lifted = new AbortController();
      setMaxListeners(0, lifted.signal);
    },
    async wait(ms) {
      const { signal } = lifted;
      await sleep(Math.min(ms, LONGEST_TIMER_MS), undefined, { signal }).catch(() => undefined);
    },
    async takeBandwidth(bytes, bytesPerSecond) {
      linkIsFreeAt = Math.max(linkIsFreeAt, performance.now()) + (1000 * bytes) / bytesPerSecond;
      const ms = linkIsFreeAt - performance.now();
      if (ms >= 1) await this.wait(ms); // timers count whole milliseconds; the rest is made up by a later piece
    },
  };
}

/** One client's connection and the one to the server that belongs to it. */
class Link {
  readonly closed: Promise<void>;
  readonly #pipes: readonly Pipe[];
  readonly #sockets: readonly Socket[];
  readonly #unixSocket: Socket | undefined;

  constructor(scene: Scene, client: Socket, server: Socket, isUnix: boolean) {
    this.#unixSocket = isUnix ? server : undefined;
    this.#sockets = [client, server];
    this.closed = Promise.all(this.#sockets.map(closeOf)).then(() => undefined);
    const reset = (): void => this.reset();
    this.#pipes = [new Pipe(scene, 'toClient', server, client, reset), new Pipe(scene, 'toServer', client, server, reset)];
  }

  /** Ends both connections with a RST. */
  reset(): void {
    for (const socket of this.#sockets) {
      if (socket.destroyed) continue;
      // Unix sockets know no RST. A TCP one whose FIN is on its way cannot be reset: Node would leave it open for ever.
      const isEnding = socket.writableEnded && !socket.writableFinished;
      if (socket === this.#unixSocket || isEnding) socket.destroy();
      else socket.resetAndDestroy();
    }
  }

  onNewFault(): void {
    for (const pipe of this.#pipes) pipe.onNewFault();
  }
}

function closeOf(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.on('close', () => resolve()));
}

interface Arrival {
  readonly bytes: Buffer;
  readonly atMs: number;
}

/** Bytes held at most between the two sockets; more is left in the sender's kernel. */
const MOST_HELD_BYTES = 1 << 20;
const BANDWIDTH_PIECE_BYTES = 16 << 10;

/** One direction of one link. */
class Pipe {
  readonly #scene: Scene;
  readonly #direction: Direction;
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #resetLink: () => void;
  readonly #held: Arrival[] = [];
  #heldBytes = 0;
  #hasEnded = false;
  #passed = 0;
  #isFlowing = false;

  constructor(scene: Scene, direction: Direction, from: Socket, to: Socket, resetLink: () => void) {
    this.#scene = scene;
    this.#direction = direction;
    this.#from = from;
    this.#to = to;
    this.#resetLink = resetLink;
    // What one end does to its connection, the other end sees: an error or a RST as a RST.
    from.on('error', resetLink);
    from.on('data', (bytes: Buffer) => this.#onData(bytes));
    from.on('end', () => {
      this.#hasEnded = true;
      void this.#flow();
    });
    this.#endIfDue();
  }

  onNewFault(): void {
    this.#passed = 0;
    this.#endIfDue();
    void this.#flow();
  }

  get #fault(): Fault | undefined {
    const { fault } = this.#scene;
    if (fault === undefined || fault.kind === 'refuse' || fault.kind === 'blackhole') return fault;
    return (fault.direction ?? 'toClient') === this.#direction ? fault : undefined;
  }

  #onData(bytes: Buffer): void {
    if (!this.#to.writable) return;
    this.#held.push({ bytes, atMs: performance.now() });
    this.#heldBytes += bytes.byteLength;
    if (this.#heldBytes >= MOST_HELD_BYTES) this.#from.pause();
    void this.#flow();
  }

  async #flow(): Promise<void> {
    if (this.#isFlowing) return;
    this.#isFlowing = true;
    while (this.#to.writable && (this.#held.length > 0 || this.#hasEnded)) await this.#step();
    this.#isFlowing = false;
  }

  /** Waits as the fault says, then hands on the next piece, or the end. */
  async #step(): Promise<void> {
    const { act } = this.#scene;
    const fault = this.#fault;
    const [next] = this.#held;
    const room = roomUnder(fault, this.#passed);
    if (room === 0) return this.#scene.wait(Infinity);
    if (next === undefined) return void this.#to.end();
    if (fault?.kind === 'delay') await this.#waitForDelay(fault.ms + (fault.jitterMs ?? 0) * this.#scene.random(), next.atMs);
    if (fault?.kind === 'trickle') await this.#scene.wait(fault.everyMs);
    const piece = next.bytes.subarray(0, room);
    if (fault?.kind === 'bandwidth') await this.#scene.takeBandwidth(piece.byteLength, fault.bytesPerSecond);
    if (this.#scene.act !== act || !this.#to.writable) return; // the world changed meanwhile: look again
    await this.#handOn(next, piece);
    this.#endIfDue();
  }

  async #waitForDelay(ms: number, arrivedAtMs: number): Promise<void> {
    const left = arrivedAtMs + ms - performance.now();
    if (left > 0) await this.#scene.wait(left);
  }

  async #handOn(arrival: Arrival, piece: Buffer): Promise<void> {
    const bytes = this.#flipped(piece);
    this.#passed += piece.byteLength;
    this.#scene.bytes[this.#direction] += piece.byteLength;
    this.#heldBytes -= piece.byteLength;
    this.#held.shift();
    const rest = arrival.bytes.subarray(piece.byteLength);
    if (rest.byteLength > 0) this.#held.unshift({ ...arrival, bytes: rest });
    if (this.#heldBytes < MOST_HELD_BYTES && this.#from.isPaused()) this.#from.resume();
    if (!this.#to.write(bytes)) await drainOf(this.#to);
  }

  #flipped(piece: Buffer): Buffer {
    const fault = this.#fault;
    const at = fault?.kind === 'flip' ? fault.atByte - this.#passed : -1;
    if (at < 0 || at >= piece.byteLength) return piece;
    const copy = Buffer.from(piece);
    copy.writeUInt8(copy.readUInt8(at) ^ (1 << Math.floor(8 * this.#scene.random())), at);
    return copy;
  }

  /** Ends the connection where the fault wants it ended at this byte. */
  #endIfDue(): void {
    const fault = this.#fault;
    if (fault?.kind !== 'reset' && fault?.kind !== 'half-close' && fault?.kind !== 'truncate') return;
    if (this.#passed < (fault.afterBytes ?? 0)) return;
    if (fault.kind === 'reset') return this.#resetLink();
    this.#to.end();
    this.#held.length = 0;
    // What still comes is read and dropped: closing a socket that has bytes to read would send a RST after the FIN.
    if (fault.kind === 'truncate') this.#from.destroy();
    else this.#from.resume();
  }
}

/** How many bytes may go on in one piece, after `passed` bytes. */
function roomUnder(fault: Fault | undefined, passed: number): number {
  switch (fault?.kind) {
    case 'blackhole':
      return 0;
    case 'stall':
    case 'reset':
    case 'half-close':
    case 'truncate':
      return Math.max(0, (fault.afterBytes ?? 0) - passed);
    case 'trickle':
      return fault.bytes;
    case 'bandwidth':
      return BANDWIDTH_PIECE_BYTES;
    default:
      return Infinity;
  }
}

/** Resolves when the socket takes more, or never will. */
function drainOf(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off('drain', done).off('close', done);
      resolve();
    };
    socket.on('drain', done).on('close', done);
  });
}
