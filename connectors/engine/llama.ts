// `kvreel/llama`: sessions of node-llama-cpp in a storage.
export { deleteSession } from './llama/delete-session.js';
export { loadSession, type LoadedSession } from './llama/load-session.js';
export { saveSession, type SavedSession } from './llama/save-session.js';
export type { ModelIdentity } from './llama/fingerprint.js';
export type { LoadSessionOptions, SaveSessionOptions, SessionPlace } from './llama/options.js';
export type { LlamaSequence } from './llama/sequence.js';
