import { rmSync } from 'node:fs';
import { defineConfig, type Options } from 'tsup';

// Not tsup's own `clean`: the two builds run side by side, and one would remove what the other has written.
rmSync('dist', { recursive: true, force: true });

// What package.json exports as kvreel/connectors/...
const CONNECTORS = ['memory', 'filesystem', 'redis', 's3', 'tiered', 'bounded', 'prefixed', 'breaker', 'throttle', 'measured', 'measured/prometheus', 'measured/opentelemetry', 'encrypted', 'kit'];

const common: Options = {
  target: 'node20',
  outDir: 'dist',
  external: ['@bokuweb/zstd-wasm'],
  // p-queue is ESM only, and Node 20 cannot require() that.
  noExternal: ['p-queue'],
};

export default [
  defineConfig({
    ...common,
    entry: {
      'lib/index': 'lib/index.ts',
      'connectors/engine/store-url': 'connectors/engine/store-url.ts',
      'connectors/engine/daemon': 'connectors/engine/daemon.ts',
      'connectors/engine/llama': 'connectors/engine/llama.ts',
      ...Object.fromEntries(CONNECTORS.map((name) => [`connectors/storage/${name}`, `connectors/storage/${name}.ts`])),
    },
    format: ['esm', 'cjs'],
    dts: true,
    // Shared files, so that the library and its connectors have one KvError.
    splitting: true,
    // With it, CommonJS is made from ES modules, and `import.meta` would be left in.
    shims: true,
  }),
  defineConfig({ ...common, entry: { 'connectors/engine/cli': 'connectors/engine/cli.ts' }, format: ['esm'] }),
];
