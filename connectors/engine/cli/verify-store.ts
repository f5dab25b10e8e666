import { KvError } from '../../../lib/errors.js';
import { checkStore, type StoreCheck, type StoreFinding } from '../../../lib/store/maintenance/check.js';
import type { Call } from './command.js';
import { withOtherStore, withStore } from './open-store.js';
import { bytesText, list } from './table.js';

/** Of findings that the JSON result shows; all are counted. */
const MOST_FINDINGS = 10_000;

/** `verify --store`: every value of a store. Rejects with KV_CORRUPT_OBJECT, after the result was printed, if something unsound is left. */
export async function verifyStore(call: Call): Promise<void> {
  const repair = call.isSet('repair');
  await withStore(call, (connector, limited) =>
    withOtherStore(call.text('from'), limited, async (from) => {
      const { screen, signal } = limited;
      const findings: StoreFinding[] = [];
      const onFinding = (finding: StoreFinding): void => {
        if (findings.length < MOST_FINDINGS) findings.push(finding);
        screen.warn(`${finding.problem}${finding.action === 'none' ? '' : `, ${finding.action}`}: ${finding.key}: ${finding.message}`);
      };
      const onProgress = (values: number, bytes: number): void => screen.progress(`read ${values} values, ${bytesText(bytes)}`);
      const check = await checkStore(connector, { repair, signal, onFinding, onProgress, ...(from && { from }) });
      const unrepaired = check.damaged + check.incomplete - check.replaced - check.deleted;
      screen.result({ ok: unrepaired === 0, ...check, findings }, checkText(check));
      if (unrepaired > 0) throw new KvError('KV_CORRUPT_OBJECT', `${unrepaired} values of the store are not sound; run it again with --repair, and --from where there is a copy`);
    }),
  );
}

function checkText({ chunks, runs, bytes, damaged, incomplete, unknown, replaced, deleted }: StoreCheck): string {
  return list([
    ['checked', `${chunks} chunks and ${runs} runs, ${bytesText(bytes)}`],
    ['damaged', damaged],
    ['incomplete', incomplete],
    ['not known to this version', unknown],
    ['replaced', replaced],
    ['deleted', deleted],
  ]);
}
