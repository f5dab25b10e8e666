// A Python process with the real LMCache, which writes and reads objects as it is told (objects.py).
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** One object to write or read; `key` are the parts of LMCache's own key. */
export interface JobObject {
  readonly key: Readonly<Record<string, unknown>>;
  /** Where its bytes are left. */
  readonly file: string;
  readonly tokens?: number;
}

/** What LMCache is to do; objects.py says more. */
export interface Job {
  readonly form: string;
  readonly action: 'write' | 'read';
  readonly place: Readonly<Record<string, unknown>>;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly objects: readonly JobObject[];
}

/** A running LMCache. */
export interface Lmcache {
  /** Rejects with what LMCache reports. */
  run(job: Job): Promise<void>;
  stop(): Promise<void>;
}

/** Path of a Python with LMCache, which is installed where it is missing (minutes). */
export function lmcachePython(): string {
  return execFileSync(join(import.meta.dirname, 'setup.sh'), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }).trimEnd().split('\n').at(-1) ?? '';
}

/** Starts Python with LMCache, installing it where it is missing (minutes). `env` is added to its environment. */
export async function startLmcache(env: Readonly<Record<string, string>>): Promise<Lmcache> {
  const child = spawn(lmcachePython(), [join(import.meta.dirname, 'objects.py')], { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  child.stderr.on('data', (text: Buffer) => (said = `${said}${text.toString()}`.slice(-4000)));
  const ended = once(child, 'exit');
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    async run(job) {
      child.stdin.write(`${JSON.stringify(job)}\n`);
      const answer = await answers.next();
      if (answer.done === true) throw new Error(`the Python process ended:\n${said}`);
      const { error } = JSON.parse(answer.value) as { error?: string };
      if (error !== undefined) throw new Error(`LMCache: ${error}\n${said}`);
    },
    async stop() {
      child.stdin.end();
      await ended;
    },
  };
}
