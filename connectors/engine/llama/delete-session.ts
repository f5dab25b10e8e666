import { checkPlace, type SessionPlace } from './options.js';
import { manifestKey, sessionPrefix } from './session-chunks.js';

/** Deletes a session and all that saves of that name left behind; true if there was one. Rejects as the connector does, or with the signal's reason. */
export async function deleteSession(place: SessionPlace): Promise<boolean> {
  checkPlace(place);
  const { connector, name, signal } = place;
  const call = signal ? { signal } : {};
  // First, so that what an abort leaves is no session with chunks missing.
  const wasThere = await connector.delete(manifestKey(name), call);
  for await (const { key } of connector.list(sessionPrefix(name), call)) await connector.delete(key, call);
  return wasThere;
}
