// A process of its own with a llama.cpp of its own, which sessions.live.ts starts. Prints lines of JSON.
//
//   child.ts '{"path":"...","name":"chat","then":"generate","token":5,"count":16}'
import { loadSession, saveSession } from '../../connectors/engine/llama.js';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { greedy, startEngine } from './engine.js';

export interface ChildTask {
  /** Of the store. */
  readonly path: string;
  readonly name: string;
  /** Generate some tokens, or save with some tokens more and hang in the second put, to be killed there. */
  readonly then: 'generate' | 'hang';
  /** The token that comes next. */
  readonly token: number;
  readonly count: number;
}

const task = JSON.parse(process.argv[2] ?? '') as ChildTask;
const engine = await startEngine();
const model = await engine.load(engine.smollm2);
const sequence = (await model.createContext({ contextSize: 1024, threads: 1 })).getSequence();
const connector = filesystem({ path: task.path });
const place = { connector, name: task.name, modelPath: engine.smollm2 };

const loaded = await loadSession(sequence, place);
const tokens = await greedy(sequence, task.token, task.count);
if (task.then === 'hang') {
  let puts = 0;
  const hanging = {
    ...connector,
    put: (...args: Parameters<typeof connector.put>) => {
      if (++puts < 2) return connector.put(...args);
      console.log(JSON.stringify({ hangs: true }));
      return new Promise<void>(() => setInterval(() => undefined, 1000));
    },
  };
  await saveSession(sequence, { ...place, connector: hanging, chunkTokens: 32 });
}
console.log(JSON.stringify({ loaded: loaded?.tokens, tokens }));
process.exit(0);
