// The daemon's HTTP, described once: served at /openapi.json, told in docs/daemon.md, and what test/daemon/openapi.test.ts holds the daemon to.
import { CODER_NAMES } from '../../../lib/codec/coders/registry.js';
import { DTYPES, LAYOUT_ORDERS } from '../../../lib/codec/native.js';
import { QUALITY_NAMES } from '../../../lib/codec/rungs.js';
import { FRAME_TYPE } from './frames.js';
import { MAX_ENTRIES } from './requests.js';
import type { Route } from './routes.js';

type Schema = Readonly<Record<string, unknown>>;

const MS: Schema = { type: 'integer', minimum: 1, maximum: 2 ** 31 - 1 };
const COUNT: Schema = { type: 'integer', minimum: 0 };
const NAME: Schema = { type: 'string', minLength: 1, maxLength: 4096 };
const HASH: Schema = { type: 'string', pattern: '^-?[0-9a-f]{1,128}$', description: 'prefix hash, in lower-case hex' };
const SPACE_DIGEST: Schema = { type: 'string', description: 'digest of a space, as POST /v1/spaces gives it' };

function object(properties: Readonly<Record<string, Schema>>, required: readonly string[] = Object.keys(properties), more: Schema = {}): Schema {
  return { type: 'object', properties, ...(required.length > 0 && { required }), additionalProperties: false, ...more };
}

const list = (items: Schema): Schema => ({ type: 'array', items, maxItems: MAX_ENTRIES });
const ref = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` });

const SEGMENT_RANGE = {
  segment: { type: 'string' },
  generation: COUNT,
  offset: { ...COUNT, description: 'first byte in the segment; default 0' },
};

const SCHEMAS: Readonly<Record<string, Schema>> = {
  Error: object({ error: object({ code: { type: 'string', pattern: '^KV_[A-Z_]+$' }, message: { type: 'string' } }) }),
  Space: object(
    {
      model: NAME,
      geometry: ref('Geometry'),
      variant: { ...NAME, description: 'whatever else keeps caches apart: page format, shapes of an unknown layout' },
      adapter: { ...NAME, description: 'LoRA' },
      salt: { ...NAME, description: 'of a tenant; only its digest is stored' },
      rank: object({ index: COUNT, of: { type: 'integer', minimum: 1 } }),
      quality: { type: 'string', enum: QUALITY_NAMES },
    },
    ['model', 'geometry'],
  ),
  Geometry: object(
    {
      order: { type: 'string', enum: LAYOUT_ORDERS },
      dtype: { type: 'string', enum: DTYPES },
      layers: { type: 'integer', minimum: 1, maximum: 4096 },
      kv_heads: { type: 'integer', minimum: 1 },
      head_dim: { type: 'integer', minimum: 1 },
      block_tokens: { type: 'integer', minimum: 1, description: 'tokens of one block of the engine; needed by the paged orders' },
      rope: object(
        { theta: { oneOf: [{ type: 'number' }, { type: 'array', items: { type: 'number' } }] }, style: { type: 'string', enum: ['half', 'interleaved'] }, rotary_dims: { type: 'integer', minimum: 2 } },
        ['theta', 'style'],
      ),
    },
    ['order', 'dtype', 'layers', 'kv_heads', 'head_dim'],
  ),
  Hits: object({
    hits: { type: 'string', pattern: '^[01?]*$', description: 'one character a hash: 1 there, 0 not there, ? not known yet: ask again' },
    prefix: { ...COUNT, description: 'length of the leading run of hits' },
  }),
  FetchEntry: object({ hash: HASH, bytes: { ...COUNT, description: 'exact length of the tensor, or of its layers: another one is a miss' }, ...SEGMENT_RANGE }, ['hash', 'bytes']),
  StoreEntry: object({ hash: HASH, bytes: COUNT, start: { ...COUNT, maximum: 2 ** 32 - 1, description: 'absolute position of its first token; default 0' }, ...SEGMENT_RANGE }, ['hash', 'bytes']),
  Segment: object({ segment: { type: 'string' }, generation: COUNT, path: { type: 'string' }, bytes: COUNT, lease_ms: MS }),
};

const FRAMES: Schema = { [FRAME_TYPE]: { schema: { type: 'string', format: 'binary', description: 'frames: u32 index, u32 status, u64 bytes, payload; see docs/daemon.md' } } };
const json = (schema: Schema): Schema => ({ 'application/json': { schema } });
const answer = (description: string, content: Schema): Schema => ({ description, content });
const ERRORS: Readonly<Record<string, string>> = {
  400: 'the request makes no sense',
  401: 'over TCP: no token, or a wrong one',
  404: 'there is no such thing',
  409: 'the space is not known: register it and repeat the call',
  413: 'more JSON than 4 MiB',
  500: 'a fault of the daemon',
  503: 'the daemon stops, or the store cannot be reached',
  504: 'the store did not answer in time',
  507: 'no room',
};

interface Operation {
  readonly summary: string;
  readonly body?: Schema;
  readonly answers: Readonly<Record<string, Schema>>;
  readonly errors?: readonly number[];
  readonly parameters?: readonly Schema[];
}

function operation({ summary, body, answers, errors = [], parameters }: Operation): Schema {
  const failures = [...new Set([401, 500, 503, ...(body ? [400, 413] : []), ...errors])].sort();
  return {
    summary,
    ...(parameters && { parameters }),
    ...(body && { requestBody: { required: true, content: body } }),
    responses: { ...answers, ...Object.fromEntries(failures.map((status) => [String(status), answer(ERRORS[status] ?? '', json(ref('Error')))])) },
  };
}

const HASHES = { space: SPACE_DIGEST, hashes: list(HASH) };
const SEGMENT_ID: Schema = { name: 'id', in: 'path', required: true, schema: { type: 'string' } };
const queryOf = (name: string, schema: Schema, required = false): Schema => ({ name, in: 'query', required, schema });
const STORE_ERRORS = [409, 504, 507];

const PATHS: Readonly<Record<string, Readonly<Record<string, Schema>>>> = {
  '/v1/spaces': {
    post: operation({ summary: 'Tells the daemon of a space, and gets its digest.', body: json(ref('Space')), answers: { 200: answer('the digest', json(object({ space: SPACE_DIGEST }))) } }),
  },
  '/v1/lookup': {
    post: operation({
      summary: 'Which chunks are there, from memory.',
      body: json(object({ ...HASHES, wait_ms: { type: 'integer', minimum: 0, maximum: 2 ** 31 - 1, description: 'time that an answer without ? is worth; default 0' } }, ['space', 'hashes'])),
      answers: { 200: answer('what is known', json(ref('Hits'))) },
      errors: STORE_ERRORS,
    }),
  },
  '/v1/exists': {
    post: operation({
      summary: 'Which chunks are there, asked of the store.',
      body: json(object({ ...HASHES, deadline_ms: MS }, ['space', 'hashes'])),
      answers: { 200: answer('never with ?', json(ref('Hits'))) },
      errors: STORE_ERRORS,
    }),
  },
  '/v1/fetch': {
    post: operation({
      summary: 'Chunks, or some layers of them, each as soon as it is ready.',
      body: json(object({ space: SPACE_DIGEST, entries: list(ref('FetchEntry')), layers: { type: 'array', items: COUNT, minItems: 2, maxItems: 2, description: '[begin, end)' }, deadline_ms: MS }, ['space', 'entries'])),
      answers: { 200: answer('one frame an entry: status 0 hit, 1 miss, 2 failed; then the end frame', FRAMES) },
      errors: STORE_ERRORS,
    }),
  },
  '/v1/store': {
    post: operation({
      summary: 'Stores chunks, from segments (JSON) or from the body (frames).',
      body: { ...json(object({ space: SPACE_DIGEST, entries: list(ref('StoreEntry')), deadline_ms: MS }, ['space', 'entries'])), ...FRAMES },
      answers: { 200: answer('one frame an entry: status 0 stored, 2 failed; then the end frame', FRAMES) },
      errors: STORE_ERRORS,
    }),
  },
  '/v1/prefetch': {
    post: operation({ summary: 'Brings chunks into memory.', body: json(object(HASHES)), answers: { 202: answer('how many are on their way, or there', json(object({ accepted: COUNT }))) }, errors: STORE_ERRORS }),
  },
  '/v1/delete': {
    post: operation({ summary: 'Deletes chunks.', body: json(object(HASHES)), answers: { 200: answer('how many were there', json(object({ deleted: COUNT }))) }, errors: STORE_ERRORS }),
  },
  '/v1/keys': {
    get: operation({
      summary: 'The chunks of a space, a page at a time.',
      parameters: [queryOf('space', SPACE_DIGEST, true), queryOf('limit', { type: 'integer', minimum: 1, maximum: 10_000 }), queryOf('cursor', HASH)],
      answers: { 200: answer('with a cursor where there are more', json(object({ keys: { type: 'array', items: object({ hash: HASH, stored_bytes: COUNT }) }, cursor: HASH }, ['keys']))) },
      errors: [400, ...STORE_ERRORS],
    }),
  },
  '/v1/usage': {
    get: operation({
      summary: 'What the store holds. It is listed for that: not for every second.',
      answers: {
        200: answer(
          'all chunks, and those of each space',
          json(object({ objects: COUNT, stored_bytes: COUNT, max_bytes: COUNT, spaces: { type: 'array', items: object({ space: SPACE_DIGEST, model: NAME, objects: COUNT, stored_bytes: COUNT }, ['space', 'objects', 'stored_bytes']) } }, ['objects', 'stored_bytes', 'spaces'])),
        ),
      },
      errors: STORE_ERRORS,
    }),
  },
  '/v1/segments': {
    post: operation({
      summary: 'Makes a segment of shared memory (bytes), or maps one of the client (path).',
      body: json({ oneOf: [object({ bytes: { type: 'integer', minimum: 1 } }), object({ path: { type: 'string', pattern: '^/dev/shm/[^/]+$' } })] }),
      answers: { 200: answer('the segment', json(ref('Segment'))) },
      errors: [507],
    }),
  },
  '/v1/segments/{id}/renew': {
    post: { ...operation({ summary: 'Begins the lease of a segment again.', parameters: [SEGMENT_ID], answers: { 200: answer('the segment', json(ref('Segment'))) }, errors: [400, 404, 413] }), requestBody: { required: false, content: json(object({ generation: COUNT }, [])) } },
  },
  '/v1/segments/{id}': {
    delete: operation({ summary: 'Gives a segment up. Answered when nothing works in it any more.', parameters: [SEGMENT_ID], answers: { 200: answer('it is unmapped', json(object({}))) }, errors: [404] }),
  },
  '/v1/stats': { get: operation({ summary: 'The numbers of the live page.', answers: { 200: answer('see docs/daemon.md', json({ type: 'object' })) } }) },
  '/metrics': { get: operation({ summary: 'Metrics for Prometheus.', answers: { 200: answer('in the text format', { 'text/plain': { schema: { type: 'string' } } }) } }) },
  '/health': { get: operation({ summary: 'Whether the daemon lives. Needs no token.', answers: { 200: answer('it does', json(object({ status: { type: 'string' } }))) } }) },
  '/ready': { get: operation({ summary: 'Whether the store answers.', answers: { 200: answer('it does', json(object({ status: { type: 'string' } }))) }, errors: STORE_ERRORS }) },
  '/': { get: operation({ summary: 'The live page.', answers: { 200: answer('a page', { 'text/html': { schema: { type: 'string' } } }) } }) },
  '/openapi.json': { get: operation({ summary: 'This description.', answers: { 200: answer('OpenAPI 3.1', json({ type: 'object' })) } }) },
};

/** The description of a daemon of this version, as OpenAPI 3.1. */
export const OPENAPI: Schema = {
  openapi: '3.1.0',
  info: {
    title: 'kvreel daemon',
    version: '1',
    description: `Keeps the KV cache of prompt prefixes and gives it back. Over a Unix socket (http://localhost) no token is needed; over TCP all but /health and / want one. Coders: ${CODER_NAMES.join(', ')}.`,
  },
  paths: PATHS,
  components: { schemas: SCHEMAS, securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
  security: [{ token: [] }],
};

/** GET /openapi.json. */
export const openApiRoute: Route = { method: 'GET', path: '/openapi.json', handle: (exchange) => exchange.answer(200, OPENAPI) };
