import { describe, expect, it } from 'vitest';
import { inParallel } from '../../../../lib/store/maintenance/in-parallel.js';

async function* numbers(count: number, onAsked: (n: number) => void = () => undefined): AsyncGenerator<number> {
  for (let n = 0; n < count; n++) {
    onAsked(n);
    yield n;
  }
}

async function collected<T>(values: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const value of values) all.push(value);
  return all;
}

const turns = async (count: number): Promise<void> => {
  for (let i = 0; i < count; i++) await new Promise(setImmediate);
};

describe('inParallel', () => {
  it('gives the results in order, whichever is ready first', async () => {
    const results = inParallel(numbers(20), 5, async (n) => {
      await turns((n * 7) % 5);
      return n * n;
    });
    expect(await collected(results)).toEqual(Array.from({ length: 20 }, (_, n) => n * n));
  });

  it('has at most so many under way, and that many', async () => {
    let running = 0;
    let most = 0;
    await collected(
      inParallel(numbers(30), 4, async () => {
        most = Math.max(most, ++running);
        await turns(2);
        running--;
      }),
    );
    expect(most).toBe(4);
  });

  it('asks for no more values than it was asked for results', async () => {
    let asked = 0;
    const results = inParallel(numbers(1000, () => asked++), 4, async (n) => n);
    await results.next();
    expect(asked).toBe(4);
    await results.return(undefined);
  });

  it('ends with the first failure, when nothing is under way any more', async () => {
    let running = 0;
    const results = inParallel(numbers(50), 4, async (n) => {
      running++;
      await turns(3);
      running--;
      if (n === 7) throw new Error('seven');
      return n;
    });
    await expect(collected(results)).rejects.toThrow('seven');
    expect(running).toBe(0);
  });
});
