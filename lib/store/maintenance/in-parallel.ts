/**
 * What `work` makes of each value, in the order of the values, with at most `concurrency` of them under way. Values are asked for no
 * faster than results are taken, so that a listing of millions is never held. The first failure ends it, once nothing is under way.
 */
export async function* inParallel<T, R>(values: AsyncIterable<T> | Iterable<T>, concurrency: number, work: (value: T) => Promise<R>): AsyncGenerator<R> {
  const underWay: Promise<R>[] = [];
  try {
    for await (const value of values) {
      const next = work(value);
      // It may fail while an earlier one is waited for; it is looked at in its turn.
      next.catch(() => undefined);
      underWay.push(next);
      if (underWay.length >= concurrency) yield* first(underWay);
    }
    while (underWay.length > 0) yield* first(underWay);
  } finally {
    await Promise.allSettled(underWay);
  }
}

async function* first<R>(underWay: Promise<R>[]): AsyncGenerator<R> {
  const next = underWay.shift();
  if (next !== undefined) yield await next;
}
