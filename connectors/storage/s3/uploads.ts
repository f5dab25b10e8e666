import type { SweepResult } from '../../../lib/store/connector.js';
import type { Control, UploadedPart, UploadPlace } from './control.js';
import { keyOfName } from './object-name.js';
import type { Objects } from './objects.js';
import { withRetries } from './retry.js';

/** Values that are too large for one request. */
export interface Uploads {
  /** Stores `value` in parts, which become visible together at the end. Leaves no part behind when it fails or is aborted. */
  put(name: string, value: Uint8Array, signal: AbortSignal | undefined): Promise<void>;
  /** Drops uploads of ours under `prefix` that began before `before` (milliseconds since 1970), in many steps. */
  sweep(prefix: string, before: number, step: Step): Promise<SweepResult>;
}

/** Runs one step of a long call; each has the time of a call. */
export type Step = <T>(work: (signal: AbortSignal | undefined) => Promise<T>) => Promise<T>;

/** How long clearing up after a failure may take; what is still there then is for the sweep. */
const DROP_LIMIT_MS = 5000;

export function uploads(parts: { readonly objects: Objects; readonly control: Control; readonly partBytes: number }): Uploads {
  const { objects, control, partBytes } = parts;

  async function putParts(name: string, uploadId: string, value: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    const uploaded: UploadedPart[] = [];
    for (let start = 0; start < value.byteLength; start += partBytes) {
      const part = { uploadId, partNumber: uploaded.length + 1 };
      const bytes = value.subarray(start, start + partBytes);
      uploaded.push(await withRetries(signal, () => objects.putPart(name, part, bytes, signal)));
    }
    await withRetries(signal, () => control.finishUpload(name, uploadId, uploaded, signal));
  }

  return {
    async put(name, value, signal) {
      const uploadId = await withRetries(signal, () => control.beginUpload(name, value.byteLength, signal));
      try {
        await putParts(name, uploadId, value, signal);
      } catch (cause) {
        // The first failure is the one to report.
        await control.dropUpload(name, uploadId, AbortSignal.timeout(DROP_LIMIT_MS)).catch(() => undefined);
        throw cause;
      }
    },

    async sweep(prefix, before, step) {
      let [removed, bytes] = [0, 0];
      let from: UploadPlace | undefined;
      do {
        const page = await step((signal) => withRetries(signal, () => control.listUploads(prefix, from, signal)));
        for (const { name, uploadId, begunAtMs } of page.items) {
          if (begunAtMs >= before || keyOfName(name.slice(prefix.length)) === undefined) continue;
          bytes += await step(async (signal) => {
            const freed = await withRetries(signal, () => control.uploadBytes(name, uploadId, signal));
            await withRetries(signal, () => control.dropUpload(name, uploadId, signal));
            return freed;
          });
          removed++;
        }
        from = page.next;
      } while (from !== undefined);
      return { removed, bytes };
    },
  };
}
