import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** Makes a key and a certificate that signs itself, for `localhost` and 127.0.0.1. Needs openssl. */
export function makeCertificate(keyPath: string, certificatePath: string): void {
  if (existsSync(certificatePath)) return; // a restart: clients trust the first one
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', keyPath];
  execFileSync('openssl', ['req', '-x509', '-days', '2', ...newKey, '-out', certificatePath, ...subject], { stdio: 'pipe' });
}
