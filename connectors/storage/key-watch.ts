/** What a reader holds while it reads. */
export interface KeyMark {
  /** Whether the key was changed since the mark was made: what was read may be of the past. */
  readonly isStale: boolean;
}

/** Tells slow readers of a key whether it was changed in the meantime. Remembers only keys that are being read. */
export interface KeyWatch {
  begin(key: string): KeyMark;
  /** To be called once for each mark. */
  end(key: string, mark: KeyMark): void;
  /** To be called when a change has taken place. */
  changed(key: string): void;
}

/** Makes a watch that nobody reads under. */
export function keyWatch(): KeyWatch {
  const marks = new Map<string, { isStale: boolean; readers: number }>();

  return {
    begin(key) {
      const mark = marks.get(key) ?? { isStale: false, readers: 0 };
      mark.readers++;
      marks.set(key, mark);
      return mark;
    },
    end(key, mark) {
      const current = marks.get(key);
      if (current !== mark || current === undefined) return;
      if (--current.readers === 0) marks.delete(key);
    },
    changed(key) {
      const mark = marks.get(key);
      if (mark === undefined) return;
      mark.isStale = true;
      marks.delete(key); // readers that begin from now on are told of later changes only
    },
  };
}
