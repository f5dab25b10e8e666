// A real daemon held to its description: what the description allows is answered as it says, and what it does not is refused, not met with a fault.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { OPENAPI } from '../../connectors/engine/daemon/openapi.js';
import { FRAME_TYPE } from '../../connectors/engine/daemon/frames.js';
import { cliProcess, type CliProcess } from '../engine/cli-process.js';
import { mutateValue } from '../fuzz/mutate.js';
import { randomOf, type Random } from '../fuzz/random.js';
import { clientOf, framesBody, framesOf, type Client } from './client.js';
import { SPACE, tensorOf } from './daemon.js';

type Schema = Readonly<Record<string, unknown>>;

interface Operation {
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly schema: Schema }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
  readonly responses: Readonly<Record<string, { readonly content: Readonly<Record<string, { readonly schema: Schema }>> }>>;
}

const paths = OPENAPI.paths as Readonly<Record<string, Readonly<Record<string, Operation>>>>;
const schemas = (OPENAPI.components as { schemas: Readonly<Record<string, Schema>> }).schemas;
const operations = Object.entries(paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })));

const CALLS = 40;
const SEED = 5;

let cli: CliProcess;
let child: ChildProcess;
let client: Client;
let space: string;
let log = '';

beforeAll(async () => {
  cli = await cliProcess('daemon-openapi-test');
  const socket = cli.at('d.sock');
  child = spawn(process.execPath, [cli.path, 'serve', '--store', cli.store('s'), '--socket', socket, '--memory-bytes', '16MiB', '--segment-bytes', '1MiB', '--deadline-ms', '2000'], { cwd: cli.folder });
  child.stderr?.on('data', (piece: Buffer) => (log += piece.toString()));
  if (child.stdout) await once(child.stdout, 'data');
  client = clientOf({ socketPath: socket });
  space = String((await client.json('POST', '/v1/spaces', SPACE)).json.space);
}, 60_000);

afterAll(async () => {
  client.close();
  child.kill('SIGTERM');
  const [code] = (await once(child, 'exit')) as [number | null];
  cli.dispose();
  expect(code).toBe(0);
});

it('the daemon serves its description, and describes what it serves', async () => {
  const { json } = await client.json('GET', '/openapi.json');
  expect(json).toEqual(JSON.parse(JSON.stringify(OPENAPI)));
  for (const { method, path } of operations) {
    const { status } = await client.send(method === 'GET' ? 'DELETE' : 'GET', path.replace('{id}', 'x'), undefined);
    expect(status, `${path} is there`).not.toBe(404);
  }
});

it.each(operations)('$method $path answers as it is described, whatever it is asked', async ({ method, path, operation }) => {
  const statuses = new Set<number>();
  for (let call = 0; call < CALLS; call++) {
    const random = randomOf(SEED, call);
    const isWell = call % 2 === 0;
    const { url, body, type } = requestOf({ method, path, operation }, random, isWell);
    const answer = await client.send(method, url, body, { 'content-type': type });
    statuses.add(answer.status);
    const described = operation.responses[String(answer.status)];
    const shown = `${method} ${url} ${String(body).slice(0, 300)} -> ${answer.status} ${answer.body.toString().slice(0, 300)}`;
    expect(described, shown).toBeDefined();
    const answerType = (answer.headers['content-type'] ?? '').split(';')[0] ?? '';
    const content = described?.content[answerType];
    expect(content, `${shown}: ${answerType}`).toBeDefined();
    // A body of frames that breaks its own promise after the answer has begun gets no end.
    if (answerType === FRAME_TYPE && (isWell || type !== FRAME_TYPE)) expect(framesOf(answer.body).end, shown).toBeDefined();
    if (answerType === 'application/json') expect(mismatch(JSON.parse(answer.body.toString()), content?.schema ?? {}), shown).toBeUndefined();
    expect(answer.status, shown).not.toBe(500);
  }
  expect(Math.min(...statuses), 'some of it is right').toBeLessThan(path === '/v1/segments/{id}/renew' || path === '/v1/segments/{id}' ? 500 : 300);
  expect(log).not.toMatch(/"level":"error"/);
});

interface Asked {
  readonly url: string;
  readonly body: string | Buffer | undefined;
  readonly type: string;
}

function requestOf({ path, operation }: (typeof operations)[number], random: Random, isWell: boolean): Asked {
  const parameters = operation.parameters ?? [];
  const query = parameters.filter((parameter) => parameter.in === 'query' && (parameter.name === 'space' || random.oneIn(2))).map(({ name, schema }) => `${name}=${encodeURIComponent(String(name === 'space' && isWell ? space : sample(schema, random)))}`);
  const url = path.replace('{id}', random.oneIn(2) ? 'ab' : encodeURIComponent(String(sample({ type: 'string' }, random)) || 'x')) + (query.length > 0 ? `?${query.join('&')}` : '');
  const content = operation.requestBody?.content;
  if (content === undefined) return { url, body: undefined, type: 'application/json' };
  if (FRAME_TYPE in content && random.oneIn(2)) {
    const tensors = [tensorOf(random.below(4), 1), tensorOf(1 + random.below(3), 2)];
    const head = { space, entries: tensors.map(({ byteLength }, i) => ({ hash: `a${i}`, bytes: byteLength })) };
    return { url, body: framesBody(isWell ? head : mutateValue(head, random), tensors), type: FRAME_TYPE };
  }
  const value = withSpace(sample(content['application/json']?.schema ?? {}, random));
  return { url, body: JSON.stringify(isWell ? value : mutateValue(value, random)) ?? '', type: 'application/json' };
}

/** The space that is there, in place of a made-up one. */
function withSpace(value: unknown): unknown {
  return typeof value === 'object' && value !== null && 'space' in value ? { ...value, space } : value;
}

function resolved(schema: Schema): Schema {
  const { $ref } = schema;
  return typeof $ref === 'string' ? (schemas[$ref.split('/').at(-1) ?? ''] ?? {}) : schema;
}

/** A value that the schema allows. */
function sample(given: Schema, random: Random): unknown {
  const schema = resolved(given);
  if (Array.isArray(schema.oneOf)) return sample((random.pick(schema.oneOf as readonly Schema[]) ?? {}) as Schema, random);
  if (Array.isArray(schema.enum)) return random.pick(schema.enum as readonly unknown[]);
  switch (schema.type) {
    case 'integer':
    case 'number': {
      const least = Number(schema.minimum ?? 0);
      return Math.min(least + random.below(random.oneIn(3) ? 2000 : 8), Number(schema.maximum ?? Infinity));
    }
    case 'string':
      if (String(schema.pattern).includes('0-9a-f')) return `a${random.below(4)}`;
      return String(schema.pattern).includes('shm') ? `/dev/shm/none-${random.below(9)}` : `text ${random.below(3)}`;
    case 'array':
      return Array.from({ length: Number(schema.minItems ?? random.below(4)) }, (_, i) => (schema.minItems === 2 ? i : sample((schema.items ?? {}) as Schema, random)));
    case 'object': {
      const properties = (schema.properties ?? {}) as Readonly<Record<string, Schema>>;
      const required = (schema.required ?? []) as readonly string[];
      return Object.fromEntries(Object.entries(properties).filter(([name]) => required.includes(name) || random.oneIn(4)).map(([name, property]) => [name, sample(property, random)]));
    }
    default:
      return null;
  }
}

/** Why a value is not what the schema says; undefined if it is. */
function mismatch(value: unknown, given: Schema, at = '$'): string | undefined {
  const schema = resolved(given);
  if (Array.isArray(schema.enum)) return schema.enum.includes(value) ? undefined : `${at} is none of ${schema.enum.join()}`;
  switch (schema.type) {
    case 'integer':
      return Number.isInteger(value) && Number(value) >= Number(schema.minimum ?? -Infinity) ? undefined : `${at} is no such integer`;
    case 'string':
      return typeof value === 'string' && new RegExp(String(schema.pattern ?? '')).test(value) ? undefined : `${at} is no such text`;
    case 'array':
      if (!Array.isArray(value)) return `${at} is no list`;
      return value.map((item, i) => mismatch(item, (schema.items ?? {}) as Schema, `${at}[${i}]`)).find((problem) => problem !== undefined);
    case 'object': {
      if (typeof value !== 'object' || value === null || Array.isArray(value)) return `${at} is no object`;
      const properties = schema.properties as Readonly<Record<string, Schema>> | undefined;
      const missing = ((schema.required ?? []) as readonly string[]).find((name) => !(name in value));
      if (missing !== undefined) return `${at}.${missing} is missing`;
      if (properties === undefined) return undefined;
      return Object.entries(value)
        .map(([name, entry]) => (properties[name] === undefined ? `${at}.${name} is not described` : mismatch(entry, properties[name], `${at}.${name}`)))
        .find((problem) => problem !== undefined);
    }
    default:
      return undefined;
  }
}
