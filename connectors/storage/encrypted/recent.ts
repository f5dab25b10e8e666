/** A map that forgets what was not used for the longest time. */
export interface Recent<T> {
  get(key: string): T | undefined;
  set(key: string, value: T): void;
  delete(key: string): void;
}

/** Makes a map of at most `limit` values. */
export function recent<T>(limit: number): Recent<T> {
  const values = new Map<string, T>(); // least recently used first

  return {
    get(key) {
      const value = values.get(key);
      if (value !== undefined) {
        values.delete(key);
        values.set(key, value);
      }
      return value;
    },

    set(key, value) {
      values.delete(key);
      values.set(key, value);
      const [oldest] = values.keys();
      if (values.size > limit && oldest !== undefined) values.delete(oldest);
    },

    delete(key) {
      values.delete(key);
    },
  };
}
