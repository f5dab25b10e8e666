import { S3Failure } from './failure.js';
import type { S3Credentials, S3Options } from './options.js';

/** Gives the credentials of the moment. */
export type CredentialSource = () => Promise<S3Credentials>;

/** How long before their end credentials are asked for anew: a request signed with them may be some minutes under way. */
const REFRESH_MS = 5 * 60_000;

/** Credentials from the options, or from `chain` where these have none. Rejects with an S3Failure that holds no secret. */
export function credentialSource(given: S3Options['credentials'], chain: CredentialSource): CredentialSource {
  if (typeof given === 'object') return async () => given;
  // The SDK's chain keeps its answer by itself.
  const source = given === undefined ? chain : kept(given);
  return async () => {
    try {
      return await source();
    } catch (cause) {
      // Not as `cause`: a credential process's output may stand in it.
      const name = cause instanceof Error ? cause.name : 'no Error';
      throw new S3Failure('KV_PERMISSION', `no credentials were found; set the environment or files that the AWS SDK reads, or give \`credentials\` (${name})`);
    }
  };
}

/** Asks `ask` once for all calls, and again shortly before what it gave ends, or when it failed. */
function kept(ask: CredentialSource): CredentialSource {
  let current: Promise<S3Credentials> | undefined;
  let refreshAt = Infinity;
  return () => {
    if (current !== undefined && Date.now() < refreshAt) return current;
    refreshAt = Infinity;
    const asked = (async () => {
      try {
        const credentials = await ask();
        refreshAt = credentials.expiration === undefined ? Infinity : credentials.expiration.getTime() - REFRESH_MS;
        return credentials;
      } catch (cause) {
        current = undefined;
        throw cause;
      }
    })();
    return (current = asked);
  };
}
