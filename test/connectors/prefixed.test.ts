import { memory } from '../../connectors/storage/memory.js';
import { prefixed } from '../../connectors/storage/prefixed.js';
import { storageConnectorContract } from '../contract/storage-connector.js';

let clock = 0;

storageConnectorContract('prefixed memory', { make: () => prefixed(memory({ now: () => clock }), 'tenants/alice/'), advanceClock: (ms) => void (clock += ms) });
