/** Something that ends at a time. */
export interface Expiring {
  readonly expiresAt: number;
}

/** Finds what has ended without looking at everything: a binary heap, the earliest end at its root. */
export interface ExpiryQueue<T extends Expiring> {
  readonly size: number;
  add(item: T): void;
  /** Takes out one item that ends at `now` or before; undefined if there is none. */
  takeExpired(now: number): T | undefined;
  /** Forgets the items for which `isWanted` is false. */
  keep(isWanted: (item: T) => boolean): void;
}

/** Makes an empty queue. */
export function expiryQueue<T extends Expiring>(): ExpiryQueue<T> {
  let heap: T[] = [];
  const endOf = (index: number): number => heap[index]?.expiresAt ?? Infinity;

  function swap(one: number, other: number): void {
    const [first, second] = [heap[one], heap[other]];
    if (first === undefined || second === undefined) return;
    heap[one] = second;
    heap[other] = first;
  }

  function rise(index: number): void {
    const parent = (index - 1) >> 1;
    if (index === 0 || endOf(parent) <= endOf(index)) return;
    swap(parent, index);
    rise(parent);
  }

  function sink(index: number): void {
    const left = 2 * index + 1;
    const earlier = endOf(left + 1) < endOf(left) ? left + 1 : left;
    if (endOf(index) <= endOf(earlier)) return;
    swap(index, earlier);
    sink(earlier);
  }

  return {
    get size() {
      return heap.length;
    },
    add(item) {
      heap.push(item);
      rise(heap.length - 1);
    },
    takeExpired(now) {
      if (!(endOf(0) <= now)) return undefined;
      swap(0, heap.length - 1);
      const item = heap.pop();
      sink(0);
      return item;
    },
    keep(isWanted) {
      // In order of their end, which a heap may be in.
      heap = heap.filter(isWanted).sort((a, b) => a.expiresAt - b.expiresAt);
    },
  };
}
