import { QUALITY_NAMES } from '../../../lib/codec/rungs.js';
import type { KvGeometry, Namespace } from '../../../lib/store/namespace.js';
import type { RopeParameters } from '../../../lib/types.js';
import { finite, integer, list, optional, record, text } from './fields.js';
import { invalid } from './wire-error.js';

const SPACE_FIELDS = new Set(['model', 'geometry', 'variant', 'adapter', 'salt', 'rank', 'quality']);
const GEOMETRY_FIELDS = new Set(['order', 'dtype', 'layers', 'kv_heads', 'head_dim', 'block_tokens', 'rope']);
const ROPE_FIELDS = new Set(['theta', 'style', 'rotary_dims']);
const RANK_FIELDS = new Set(['index', 'of']);
const MAX_NAME_CHARACTERS = 4096;
const MAX_LAYERS = 4096;

/** The namespace that a space of the wire means; the namespace checks what its values may be. Throws KV_INVALID_INPUT. */
export function readSpace(value: unknown, defaultQuality: string): Namespace {
  const space = record(value, 'the space', SPACE_FIELDS);
  const quality = optional(space.quality, (given) => text(given, 'quality')) ?? defaultQuality;
  if (!QUALITY_NAMES.includes(quality)) throw invalid(`expected quality to be one of ${QUALITY_NAMES.join(', ')}`);
  const [variant, adapter, salt] = (['variant', 'adapter', 'salt'] as const).map((field) => optional(space[field], (given) => name(given, field)));
  const rank = optional(space.rank, readRank);
  return {
    model: name(space.model, 'model'),
    geometry: readGeometry(space.geometry),
    quality,
    ...(variant !== undefined && { variant }),
    ...(adapter !== undefined && { adapter }),
    ...(salt !== undefined && { salt }),
    ...(rank && { rank }),
  };
}

function readGeometry(value: unknown): KvGeometry {
  const geometry = record(value, 'geometry', GEOMETRY_FIELDS);
  const blockTokens = optional(geometry.block_tokens, (given) => integer(given, 'block_tokens', 1));
  const rope = optional(geometry.rope, readRope);
  return {
    order: text(geometry.order, 'order') as KvGeometry['order'],
    dtype: text(geometry.dtype, 'dtype') as KvGeometry['dtype'],
    layers: integer(geometry.layers, 'layers', 1),
    kvHeads: integer(geometry.kv_heads, 'kv_heads', 1),
    headDim: integer(geometry.head_dim, 'head_dim', 1),
    ...(blockTokens !== undefined && { blockTokens }),
    ...(rope && { rope }),
  };
}

function readRope(value: unknown): RopeParameters {
  const rope = record(value, 'rope', ROPE_FIELDS);
  const rotaryDims = optional(rope.rotary_dims, (given) => integer(given, 'rotary_dims', 1));
  const theta = Array.isArray(rope.theta) ? list(rope.theta, 'theta', MAX_LAYERS).map((one) => finite(one, 'theta')) : finite(rope.theta, 'theta');
  return { theta, style: text(rope.style, 'style') as RopeParameters['style'], ...(rotaryDims !== undefined && { rotaryDims }) };
}

function readRank(value: unknown): { readonly index: number; readonly of: number } {
  const rank = record(value, 'rank', RANK_FIELDS);
  return { index: integer(rank.index, 'index', 0), of: integer(rank.of, 'of', 1) };
}

function name(value: unknown, field: string): string {
  const given = text(value, field);
  if (given.length > MAX_NAME_CHARACTERS) throw invalid(`expected ${field} to have at most ${MAX_NAME_CHARACTERS} characters, got ${given.length}`);
  return given;
}
