// What the engine tests run: a Python with vLLM and LMCache, and models.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

export const ROOT = join(import.meta.dirname, '../..');

/** Models of the environment, by their directory's name. */
export type ModelName = 'smollm2' | 'gemma3';

/** Paths of the environment. */
export interface Environment {
  readonly python: string;
  model(name: ModelName): string;
  /** SGLang's wheel, unpacked. */
  readonly sglang: string;
  /** Variables that its processes run with. */
  readonly env: Readonly<Record<string, string>>;
}

/** The environment, made where it is missing (minutes). */
export function provideEnvironment(): Environment {
  const said = execFileSync(join(import.meta.dirname, 'setup.sh'), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  const directory = said.trimEnd().split('\n').at(-1) ?? '';
  return {
    python: join(directory, 'bin/python'),
    sglang: join(directory, 'sglang'),
    model: (name) => join(directory, 'models', name),
    env: {
      PYTHONPATH: join(ROOT, 'connectors/engine/python/src'),
      // The first start writes what Python makes of some thousand modules, the others read it and are seconds faster.
      PYTHONDONTWRITEBYTECODE: '',
      PYTHONPYCACHEPREFIX: join(directory, 'pycache'),
      // Threads that wait without spinning: daemon and store share the cores with the engine.
      OMP_WAIT_POLICY: 'passive',
      GOMP_SPINCOUNT: '0',
    },
  };
}
