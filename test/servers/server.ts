// One server process of a test: on 127.0.0.1, with a directory of its own, and gone when the test process is, however that ends.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Where a server runs. */
export interface ServerPlace {
  /** A TCP port that was free; so was the one 10,000 above it, which clusters and gRPC take. */
  readonly port: number;
  /** An empty directory, removed after `stop()`. */
  readonly directory: string;
}

/** How to start a server. */
export interface ServerRecipe {
  readonly command: string;
  args(place: ServerPlace): readonly string[];
  /** Whether it does its work; asked again and again after the start. May reject while it does not. */
  isReady(place: ServerPlace): Promise<boolean>;
  /** Milliseconds from start to ready at most. Default 30,000. */
  readonly startLimitMs?: number;
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A running server. */
export interface TestServer extends ServerPlace {
  /** SIGSTOP: it keeps its connections and does not answer. */
  pause(): void;
  /** SIGCONT. */
  resume(): void;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** Starts it again in the same place, killing it first if it runs; resolves when it is ready. */
  restart(): Promise<void>;
  /** Kills it and removes its directory. */
  stop(): Promise<void>;
  /** What it printed. */
  log(): string;
}

/** Starts a server and waits until it is ready. Rejects with what it printed if it ends or is not ready in time. */
export async function startServer(recipe: ServerRecipe): Promise<TestServer> {
  const place: ServerPlace = { port: await freePort(), directory: mkdtempSync(join(tmpdir(), 'kvreel-server-')) };
  const logPath = join(place.directory, 'log');
  const log = () => readFileSync(logPath, 'utf8');
  let running: Running | undefined;

  async function start(): Promise<void> {
    running = run(recipe, place, logPath);
    const deadline = performance.now() + (recipe.startLimitMs ?? 30_000);
    while (!(await recipe.isReady(place).catch(() => false))) {
      if (running.hasEnded()) throw new Error(`${recipe.command} ended at its start:\n${log()}`);
      if (performance.now() > deadline) throw new Error(`${recipe.command} was not ready in time:\n${log()}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  const server: TestServer = {
    ...place,
    pause: () => void running?.child.kill('SIGSTOP'),
    resume: () => void running?.child.kill('SIGCONT'),
    kill: async () => running?.kill(),
    restart: async () => {
      await server.kill();
      await start();
    },
    stop: async () => {
      await server.kill();
      rmSync(place.directory, { recursive: true, force: true });
    },
    log,
  };
  try {
    await start();
  } catch (cause) {
    await server.stop();
    throw cause;
  }
  return server;
}

interface Running {
  readonly child: ChildProcess;
  hasEnded(): boolean;
  kill(): Promise<void>;
}

function run(recipe: ServerRecipe, place: ServerPlace, logPath: string): Running {
  const log = openSync(logPath, 'a');
  const env = { ...process.env, ...recipe.env };
  const child = spawn(recipe.command, recipe.args(place), { cwd: place.directory, stdio: ['ignore', log, log], env });
  closeSync(log);
  const ended = once(child, 'exit').catch(() => undefined); // a program that is not there gives `error` instead
  let hasEnded = false;
  const watchdog = child.pid === undefined ? undefined : watch(child.pid, place.directory);
  void ended.then(() => {
    hasEnded = true;
    watchdog?.kill('SIGKILL'); // its number may soon be another's
  });
  return {
    child,
    hasEnded: () => hasEnded,
    async kill() {
      if (!hasEnded) child.kill('SIGKILL');
      await ended;
    },
  };
}

/** A process that waits for this one to end, which closes the pipe between them, and then clears up. */
function watch(pid: number, directory: string): ChildProcess {
  const script = 'read -r line; kill -KILL "$1"; rm -rf "$2"';
  const watchdog = spawn('sh', ['-c', script, 'sh', String(pid), directory], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
  watchdog.unref();
  return watchdog;
}

const FIRST_PORT = 15_000;
const LAST_PORT = 32_000; // the system gives outgoing connections ports above this
const BUS_OFFSET = 10_000;

/** A port of 127.0.0.1 that nothing listens on, nor on the one 10,000 above it. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = FIRST_PORT + Math.floor(Math.random() * (LAST_PORT - FIRST_PORT));
    if ((await canListen(port)) && (await canListen(port + BUS_OFFSET))) return port;
  }
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}

/** Sends `text` to a port of 127.0.0.1 or a Unix socket and gives what comes back first. For readiness checks. */
export function ask(where: number | string, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = typeof where === 'number' ? connect(where, '127.0.0.1') : connect(where);
    socket.setTimeout(10_000, () => socket.destroy(new Error('no answer')));
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('closed without an answer')));
    socket.once('data', (bytes) => {
      resolve(bytes.toString('latin1'));
      socket.destroy();
    });
    socket.write(text);
  });
}
