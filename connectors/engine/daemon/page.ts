// GET /: what the daemon does, live, in a browser. One file that fetches nothing but the daemon's own numbers.
import { createHash } from 'node:crypto';
import { PAGE_MARKUP } from './page-markup.js';
import { PAGE_SCRIPT } from './page-script.js';
import { PAGE_STYLE } from './page-style.js';
import type { Route } from './routes.js';

const PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>kvreel</title>
<link rel="icon" href="data:,">
<style>${PAGE_STYLE}</style>
${PAGE_MARKUP}
<script>${PAGE_SCRIPT}</script>
</html>
`;

// Only this style and this program, and no connection but to the daemon: a name that a client chose can do nothing here.
const POLICY = `default-src 'none'; style-src ${hashOf(PAGE_STYLE)}; script-src ${hashOf(PAGE_SCRIPT)}; connect-src 'self'; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'`;

/** GET /: the page itself, which tells nothing; it asks for the token where the numbers want one. */
export function pageRoute(): Route {
  return {
    method: 'GET',
    path: '/',
    isOpen: true,
    isAnsweredToTheEnd: true,
    handle(exchange) {
      exchange.response.setHeader('content-security-policy', POLICY);
      exchange.response.setHeader('x-content-type-options', 'nosniff');
      exchange.response.setHeader('referrer-policy', 'no-referrer');
      exchange.answerBytes(200, 'text/html; charset=utf-8', PAGE);
    },
  };
}

function hashOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}
