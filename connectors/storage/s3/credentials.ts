import { abortable } from '../abortable.js';
import { S3Failure } from './failure.js';
import type { S3Credentials, S3Options } from './options.js';

/** Gives the credentials of the moment. Rejects with the signal's reason when they do not come before. */
export type CredentialSource = (signal?: AbortSignal) => Promise<S3Credentials>;

/** How long before their end credentials are asked for anew: a request signed with them may be some minutes under way. */
const REFRESH_MS = 5 * 60_000;

/** How long an answer may take before other calls ask anew. */
const PATIENCE_MS = 10_000;

/** Credentials from the options, or from `chain` where these have none. Rejects with an S3Failure that holds no secret. */
export function credentialSource(given: S3Options['credentials'], chain: () => Promise<S3Credentials>): CredentialSource {
  if (typeof given === 'object') return async () => given;
  // The SDK's chain keeps its answer by itself.
  const source = given === undefined ? chain : kept(given);
  const advice = given === undefined
    ? 'no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or what else the AWS SDK reads, or give `credentials`'
    : 'the function given as `credentials` failed; look at where it gets them';
  return async (signal) => {
    try {
      const found = await abortable(source(), signal); // they may never come
      if (!found.accessKeyId || !found.secretAccessKey) throw new TypeError('expected two keys'); // nobody may have checked the function's types
      return found;
    } catch (cause) {
      signal?.throwIfAborted();
      // Not as `cause`: a credential process's output may stand in it.
      const name = cause instanceof Error ? cause.name : 'no Error';
      throw new S3Failure('KV_PERMISSION', `${advice} (${name})`);
    }
  };
}

/** Asks `ask` once for all calls, and again shortly before what it gave ends, when it failed, or when it does not answer. */
function kept(ask: () => Promise<S3Credentials>): () => Promise<S3Credentials> {
  let current: Promise<S3Credentials> | undefined;
  let askAgainAt = 0;
  return () => {
    if (current !== undefined && Date.now() < askAgainAt) return current;
    askAgainAt = Date.now() + PATIENCE_MS;
    const asked: Promise<S3Credentials> = Promise.resolve().then(async () => {
      try {
        const credentials = await ask();
        if (current === asked) askAgainAt = credentials.expiration === undefined ? Infinity : credentials.expiration.getTime() - REFRESH_MS;
        return credentials;
      } catch (cause) {
        if (current === asked) current = undefined;
        throw cause;
      }
    });
    return (current = asked);
  };
}
