// A peer is a Python program (peer.py) that is kept running, so that its turns can alternate with ours.
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** What test/quality/setup.sh made. */
export const CACHE = process.env.KV_CACHE_DIR ?? join(homedir(), '.cache/kvreel');
export const PYTHON = join(CACHE, 'quality/bin/python');
export const HOW_TO_GET_PEERS = 'run `sh test/quality/setup.sh` (Python 3.11, about 1.5 GB under ~/.cache/kvreel or $KV_CACHE_DIR)';

/** One timed run of one codec over one capture; MB are 10^6 bytes of the original tensor. */
export interface Sample {
  readonly name: string;
  readonly file: string;
  readonly bits_per_value: number;
  readonly encode_MBps: number;
  readonly decode_MBps: number;
  /** By CPU time of the whole process. */
  readonly encode_cpu_MBps: number;
  readonly decode_cpu_MBps: number;
}

export class PeerProcess {
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;
  #stderr = '';

  /** Starts the peer `script` of this folder. Throws where the Python environment is missing. */
  constructor(script: string, args: readonly string[] = []) {
    if (!existsSync(PYTHON)) throw new Error(`no Python environment: ${HOW_TO_GET_PEERS}`);
    // One thread each for what a peer's libraries might use.
    const env = { ...process.env, OMP_NUM_THREADS: '1', MKL_NUM_THREADS: '1' };
    this.#child = spawn(PYTHON, [join(import.meta.dirname, script), ...args], { stdio: ['pipe', 'pipe', 'pipe'], env });
    this.#child.on('error', (error) => (this.#stderr += error.message));
    this.#child.stdin?.on('error', () => {}); // it is gone; `measure` says so with what it printed
    this.#child.stderr?.on('data', (text) => (this.#stderr += String(text)));
    this.#answers = createInterface({ input: this.#child.stdout ?? process.stdin })[Symbol.asyncIterator]();
  }

  /** One turn. Rejects with what the peer printed if it has ended. */
  async measure(path: string): Promise<Sample[]> {
    this.#child.stdin?.write(`${path}\n`);
    const { value, done } = await this.#answers.next();
    if (done === true) throw new Error(this.#stderr.trim().split('\n').at(-1) ?? 'it ended');
    return JSON.parse(value) as Sample[];
  }

  close(): void {
    this.#child.kill();
  }
}
