import type { PutOptions, Repair, SoundnessCheck } from '../../../lib/store/connector.js';
import { isCorrupt } from './corrupt.js';
import type { Tier } from './tier.js';

interface Copy {
  readonly tier: Tier;
  readonly state: 'missing' | 'sound' | 'damaged' | 'unreadable';
  readonly value?: Uint8Array;
}

/** Repairs the copies of one key while nobody else changes it; `options` are those of its puts. Tiers without one are left without. */
export async function repairCopies(tiers: readonly Tier[], key: string, isSound: SoundnessCheck, options: PutOptions): Promise<Repair> {
  const { signal } = options;
  const copies = await Promise.all(tiers.map((tier) => readCopy(tier, key, isSound, signal)));
  const count = (state: Copy['state']): number => copies.filter((copy) => copy.state === state).length;
  const good = copies.findLast(({ state }) => state === 'sound')?.value;
  const mended = await Promise.all(
    copies
      .filter(({ state }) => state === 'damaged')
      .map(async ({ tier }) => {
        const change = await tier.attempt(signal, async (call) => (good ? tier.connector.put(key, good, { ...options, ...call }) : void (await tier.connector.delete(key, call))));
        if (change.isDone) tier.trust(key);
        return change.isDone;
      }),
  );
  const done = mended.filter(Boolean).length;
  return {
    sound: count('sound'),
    replaced: good ? done : 0,
    deleted: good ? 0 : done,
    failed: count('unreadable') + mended.length - done,
  };
}

async function readCopy(tier: Tier, key: string, isSound: SoundnessCheck, signal: AbortSignal | undefined): Promise<Copy> {
  const read = await tier.attempt(signal, (call) => tier.connector.get(key, call));
  if (!read.isDone) return { tier, state: isCorrupt(read.failure) ? 'damaged' : 'unreadable' };
  const value = read.result;
  if (value === undefined) return { tier, state: 'missing' };
  if (tier.isDoubtful(key) || !(await isSound(value, key))) return { tier, state: 'damaged' };
  return { tier, state: 'sound', value };
}
