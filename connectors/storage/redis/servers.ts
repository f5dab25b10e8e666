// Which server a key is on: always the same one, or the member of a cluster that owns the key's slot.
import { abortable } from '../abortable.js';
import { LostConnection } from '../lost-connection.js';
import { keySlot, SLOTS } from './key-slot.js';
import { redisNode, type RedisNode } from './node.js';
import { ProtocolError, ReplyError } from './reply-parser.js';
import type { Settings } from './settings.js';

/** Where a key's commands go. */
export interface Place {
  readonly node: RedisNode;
  /** The key is being moved there: the command must come after `ASKING`. */
  readonly isAsking: boolean;
}

export interface Servers {
  /** Runs `work` where `key` is, again elsewhere if it throws the ReplyError of a redirect. */
  at<T>(key: string, signal: AbortSignal | undefined, work: (place: Place) => Promise<T>): Promise<T>;
  /** Every server that holds keys. */
  all(signal: AbortSignal | undefined): Promise<readonly RedisNode[]>;
  close(): void;
}

/** The one server of `settings`. */
export function oneServer({ address, access, connections }: Settings): Servers {
  const node = redisNode(address, access, connections);
  return {
    at: (_key, _signal, work) => work({ node, isAsking: false }),
    all: async () => [node],
    close: () => node.close(),
  };
}

/** How often one call may be sent on: a slot that moves takes one or two. */
const MAX_REDIRECTS = 5;

/** Milliseconds for the members to tell their map. */
const FETCH_LIMIT_MS = 5000;

interface ClusterMap {
  /** Name of the owner of each slot. */
  readonly owners: readonly (string | undefined)[];
  readonly nodes: ReadonlyMap<string, RedisNode>;
}

/**
 * The cluster that the server of `settings` is a member of. Its own map, asked of its members, is what is believed: a redirect
 * makes it be fetched anew, and is followed only to a server that stands in it.
 */
export function clusterServers(settings: Settings): Servers {
  const seed = redisNode(settings.address, settings.access, settings.connections);
  let map: ClusterMap | undefined;
  let fetching: Promise<ClusterMap> | undefined;
  let isClosed = false;

  function current(signal: AbortSignal | undefined): Promise<ClusterMap> {
    return map === undefined ? fetchedFrom([...known.values(), seed], signal) : Promise.resolve(map);
  }

  function fetchedFrom(candidates: readonly RedisNode[], signal: AbortSignal | undefined): Promise<ClusterMap> {
    // Shared by the calls that wait for it, so it has a limit of its own instead of one's signal.
    fetching ??= fetchMap(candidates, AbortSignal.timeout(FETCH_LIMIT_MS)).finally(() => (fetching = undefined));
    return abortable(fetching, signal);
  }

  /** All are asked at once: one of them may be the one that has stopped answering. */
  async function fetchMap(candidates: readonly RedisNode[], signal: AbortSignal): Promise<ClusterMap> {
    try {
      return use(await Promise.any(candidates.map((node) => slotRanges(node, signal))));
    } catch (cause) {
      const [first]: unknown[] = cause instanceof AggregateError ? cause.errors : [cause];
      throw signal.aborted ? new LostConnection(undefined, false) : first;
    }
  }

  /** Members stay known, with their connections, while the map names them. */
  let known: ReadonlyMap<string, RedisNode> = new Map();

  function use(ranges: readonly SlotRange[]): ClusterMap {
    const nodes = new Map<string, RedisNode>();
    const owners: (string | undefined)[] = new Array(SLOTS).fill(undefined);
    for (const { start, end, host, port } of ranges) {
      const name = `${host}:${port}`;
      if (!nodes.has(name)) nodes.set(name, known.get(name) ?? redisNode({ host, port }, settings.access, settings.connections));
      owners.fill(name, start, end + 1);
    }
    for (const [name, node] of known) if (!nodes.has(name)) node.close();
    if (isClosed) for (const node of nodes.values()) node.close();
    known = nodes;
    return (map = { owners, nodes });
  }

  async function placeOf(slot: number, signal: AbortSignal | undefined): Promise<Place> {
    const { owners, nodes } = await current(signal);
    const node = nodes.get(owners[slot] ?? '');
    if (node === undefined) throw new ReplyError('CLUSTERDOWN no member owns the slot');
    return { node, isAsking: false };
  }

  async function redirected(slot: number, { reply, from }: { readonly reply: ReplyError; readonly from: RedisNode }, signal: AbortSignal | undefined): Promise<Place> {
    if (reply.code === 'MOVED') {
      await fetchedFrom([from], signal); // others may not have heard of the move yet
      return placeOf(slot, signal);
    }
    const name = reply.message.split(' ')[2] ?? '';
    const node = (await current(signal)).nodes.get(name);
    if (node !== undefined) return { node, isAsking: true };
    map = undefined; // a member that is new here, or none: the next try asks the owner again, and then its name may be known
    return placeOf(slot, signal);
  }

  return {
    async at(key, signal, work) {
      const slot = keySlot(key);
      let place = await placeOf(slot, signal);
      for (let redirects = 0; ; redirects++) {
        try {
          return await work(place);
        } catch (cause) {
          if (cause instanceof LostConnection) map = undefined; // another member may have taken over: the next call asks
          if (!isRedirect(cause)) throw cause;
          if (redirects === MAX_REDIRECTS) throw new ReplyError('TRYAGAIN the members do not agree on where the key is');
          place = await redirected(slot, { reply: cause, from: place.node }, signal);
        }
      }
    },
    all: async (signal) => [...(await current(signal)).nodes.values()],
    close() {
      isClosed = true;
      seed.close();
      for (const node of known.values()) node.close();
    },
  };
}

function isRedirect(cause: unknown): cause is ReplyError {
  return cause instanceof ReplyError && (cause.code === 'MOVED' || cause.code === 'ASK');
}

interface SlotRange {
  readonly start: number;
  readonly end: number;
  readonly host: string;
  readonly port: number;
}

async function slotRanges(node: RedisNode, signal: AbortSignal): Promise<readonly SlotRange[]> {
  const [reply] = await node.control.send([['CLUSTER', 'SLOTS']], signal);
  if (reply instanceof ReplyError) throw reply;
  if (!Array.isArray(reply)) throw new ProtocolError('a slot map that is none');
  return reply.map((entry: unknown) => slotRange(entry, node));
}

function slotRange(entry: unknown, asked: RedisNode): SlotRange {
  const [start, end, master]: unknown[] = Array.isArray(entry) ? entry : [];
  const [host, port]: unknown[] = Array.isArray(master) ? master : [];
  // A member that does not know its own name means the one it was asked by.
  const name = host === null || host === '' ? ('host' in asked.address ? asked.address.host : '') : host;
  const isSlot = (value: unknown): value is number => Number.isInteger(value) && Number(value) >= 0 && Number(value) < SLOTS;
  const isPort = (value: unknown): value is number => Number.isInteger(value) && Number(value) > 0 && Number(value) < 65_536;
  if (!isSlot(start) || !isSlot(end) || start > end || typeof name !== 'string' || name === '' || !isPort(port)) {
    throw new ProtocolError('a slot map that cannot be');
  }
  return { start, end, host: name, port };
}
