// The connector that docs/connectors.md shows, held to the contract.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import type { StorageConnector } from '../../lib/store/connector.js';
import { storageConnectorContract } from '../contract/storage-connector.js';
import { blocksOf } from '../docs/blocks.js';

type Rows = ReturnType<typeof rows>;

const ROOT = join(import.meta.dirname, '../..');
const code = blocksOf(readFileSync(join(ROOT, 'docs/connectors.md'), 'utf8')).find((block) => block.code.includes('export function database'))?.code ?? '';
const directory = join(ROOT, '.cache/own-connector');
const file = join(directory, 'database.ts');
mkdirSync(directory, { recursive: true });
writeFileSync(file, code.replace("'kvreel/connectors/kit'", JSON.stringify(join(ROOT, 'connectors/storage/kit.ts'))));
const { database } = (await import(file)) as { database: (rows: Rows) => StorageConnector };

afterAll(() => rmSync(directory, { recursive: existsSync(directory), force: true }));

function rows(map: Map<string, Uint8Array>) {
  return {
    read: async (name: string) => map.get(name),
    write: async (name: string, value: Uint8Array) => void map.set(name, value),
    remove: async (name: string) => map.delete(name),
    names: async () => [...map.keys()],
  };
}

storageConnectorContract('the connector of docs/connectors.md', { make: () => database(rows(new Map())) });
