const DURATION_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };
const SIZE_BYTES: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** How durations are written, for help and errors. */
export const DURATION_FORM = '90s, 30m, 12h, 7d or 2w';
/** How sizes are written, for help and errors. */
export const SIZE_FORM = '1000000, 500MB or 20GiB';

/** Milliseconds of a duration; undefined for a text that is none. */
export function durationMs(text: string): number | undefined {
  return product(/^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d|w)$/.exec(text), DURATION_MS);
}

/** Bytes of a size; undefined for a text that is none. */
export function sizeBytes(text: string): number | undefined {
  const bytes = product(/^(\d{1,15}(?:\.\d{1,3})?) ?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB|)$/.exec(text), SIZE_BYTES);
  return bytes === undefined || bytes > Number.MAX_SAFE_INTEGER ? undefined : Math.floor(bytes);
}

function product(match: RegExpExecArray | null, units: Readonly<Record<string, number>>): number | undefined {
  const [, number, unit = ''] = match ?? [];
  const scale = units[unit];
  return number === undefined || scale === undefined ? undefined : Number(number) * scale;
}
