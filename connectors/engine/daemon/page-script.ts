/**
 * The live page's program: asks for the numbers each second while somebody looks, and shows them. Names come from clients, so nothing is
 * ever put into the page as markup.
 */
export const PAGE_SCRIPT = `
'use strict';
const EVERY_MS = 1000;
const at = (id) => document.getElementById(id);
const set = (id, text) => { if (at(id).textContent !== text) at(id).textContent = text; };
const whole = new Intl.NumberFormat('en');
const count = (n) => whole.format(n);
const scaled = (n, units, digits = 2) => {
  let power = 0;
  while (n >= 1000 && power < units.length - 1) { n /= 1000; power++; }
  return (power === 0 ? Math.round(n) : n.toPrecision(n >= 100 ? 3 : digits + 1)) + ' ' + units[power];
};
const bytes = (n) => scaled(n, ['B', 'kB', 'MB', 'GB', 'TB', 'PB']);
const time = (ms) => ms >= 1000 ? (ms / 1000).toPrecision(3) + ' s' : ms >= 1 ? ms.toPrecision(3) + ' ms' : Math.max(1, Math.round(ms * 1000)) + ' µs';
const share = (part, all) => all === 0 ? '–' : (100 * part / all).toFixed(part === all || part === 0 ? 0 : 1) + ' %';
const times = (raw, stored) => stored === 0 ? '–' : (raw / stored).toFixed(2) + '×';
const lasted = (s) => s < 60 ? s + ' s' : s < 3600 ? Math.floor(s / 60) + ' min' : s < 86400 ? Math.floor(s / 3600) + ' h ' + Math.floor(s % 3600 / 60) + ' min' : Math.floor(s / 86400) + ' d ' + Math.floor(s % 86400 / 3600) + ' h';
const sum = (values) => values.reduce((total, value) => total + value, 0);

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function shape(name, attributes) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function table(id, heading, rows, empty) {
  const [head, body] = [element('thead'), element('tbody')];
  const row = (cells, kind) => { const line = element('tr'); line.append(...cells.map((cell) => element(kind, cell))); return line; };
  if (heading.length > 0 && rows.length > 0) head.append(row(heading, 'th'));
  for (const cells of rows) body.append(row(cells, 'td'));
  if (rows.length === 0) { const cell = element('td', empty, 'quiet'); const line = element('tr'); line.append(cell); body.append(line); }
  at(id).replaceChildren(head, body);
}

function bars(id, entries, most) {
  at(id).replaceChildren(...entries.flatMap(([name, value, text, className]) => {
    const track = element('div', undefined, 'track');
    const bar = element('div', undefined, className);
    bar.style.width = most === 0 ? '0' : Math.max(value === 0 ? 0 : 1, 100 * value / most) + '%';
    track.append(bar);
    return [element('dt', name), track, element('dd', text)];
  }));
}

function chart(seconds) {
  const [wide, high] = [600 / seconds.length, 120];
  const most = Math.max(1, ...seconds.map((s) => s.hits + s.misses + s.failed));
  const parts = [shape('line', { x1: 0, x2: 600, y1: high - .5, y2: high - .5, class: 'base' })];
  seconds.forEach((second, i) => {
    let top = high;
    for (const [value, name] of [[second.hits, 'hit'], [second.misses, 'miss'], [second.failed, 'fail']]) {
      if (value === 0) continue;
      const tall = (high - 4) * value / most;
      top -= tall;
      parts.push(shape('rect', { x: i * wide + 1, y: top, width: wide - 2, height: tall, class: name }));
    }
  });
  at('chart').replaceChildren(...parts);
  at('chart').setAttribute('aria-label', 'Chunks of each of the last ' + seconds.length + ' seconds: ' + count(sum(seconds.map((s) => s.hits))) + ' hits, ' + count(sum(seconds.map((s) => s.misses))) + ' misses, ' + count(sum(seconds.map((s) => s.failed))) + ' failures');
  const peak = Math.max(...seconds.map((s) => s.rawBytes));
  const line = seconds.map((s, i) => (i + .5) * wide + ',' + (peak === 0 ? 55 : 55 - 52 * s.rawBytes / peak));
  at('rate').replaceChildren(shape('line', { x1: 0, x2: 600, y1: 55.5, y2: 55.5, class: 'base' }), shape('polygon', { points: '0,56 ' + line.join(' ') + ' 600,56', class: 'flow', 'fill-opacity': .55 }));
  at('rate').setAttribute('aria-label', 'Goodput of the last minute, at most ' + bytes(peak) + ' a second');
  set('rate-of', 'goodput, peak ' + bytes(peak) + '/s');
}

const CAUSES = { absent: 'not stored', other_length: 'another length', damaged: 'damaged' };

function show(stats) {
  const { fetched, stored, misses, failures, lookups, store } = stats;
  const missed = sum(Object.values(misses));
  const failed = sum(Object.values(failures));
  set('about', stats.store_name + ' · up ' + lasted(stats.uptime_s) + ' · ' + stats.version);
  set('hit-rate', share(stats.hits, stats.hits + missed));
  set('hit-rate-of', stats.hits + missed === 0 ? 'nothing fetched yet' : count(stats.hits) + ' hits, ' + count(missed) + ' misses');
  const [raw, small] = [fetched.raw_bytes + stored.raw_bytes, fetched.stored_bytes + stored.stored_bytes];
  set('ratio', times(raw, small));
  set('ratio-of', raw === 0 ? 'nothing moved yet' : bytes(raw) + ' as ' + bytes(small));
  set('goodput', bytes(stats.goodput_bytes_per_s) + '/s');
  const { fetch: fetching, lookup } = stats.times;
  set('fetch-time', fetching ? time(fetching.p50_ms) : '–');
  set('fetch-time-of', fetching ? 'p90 ' + time(fetching.p90_ms) + ', p99 ' + time(fetching.p99_ms) : 'nothing fetched yet');
  set('lookup-time', lookup ? time(lookup.p99_ms) : '–');
  set('lookup-time-of', lookups.asked === 0 ? 'nothing looked up yet' : count(lookups.asked) + ' hashes, ' + share(lookups.hits, lookups.asked) + ' there');
  set('failures', count(failed));
  const codes = Object.entries(failures).sort((a, b) => b[1] - a[1]);
  set('failures-of', codes.length === 0 ? 'none so far' : codes.slice(0, 3).map(([code, n]) => code.replace(/^KV_/, '').toLowerCase().replaceAll('_', ' ') + ' ' + count(n)).join(', '));
  chart(stats.seconds);
  const causes = Object.entries(misses).map(([cause, n]) => [CAUSES[cause] || cause, n, count(n), 'miss']);
  bars('causes', [...causes, ...codes.map(([code, n]) => [code, n, count(n), 'fail'])], Math.max(1, ...Object.values(misses), ...Object.values(failures)));
  const moved = [['fetched, raw', fetched.raw_bytes, 'flow'], ['fetched, stored', fetched.stored_bytes, 'hit'], ['put, raw', stored.raw_bytes, 'flow'], ['put, stored', stored.stored_bytes, 'hit']];
  bars('bytes', moved.map(([name, n, kind]) => [name, n, bytes(n), kind]), Math.max(...moved.map(([, n]) => n)));
  const ways = (rung, totals) => [['fetched', totals.fetched], ['put', totals.stored]].filter(([, { chunks }]) => chunks > 0).map(([way, { chunks, raw_bytes: big, stored_bytes: little }]) =>
    [rung + ', ' + way, count(chunks), bytes(big), bytes(little), times(big, little)]);
  table('rungs', ['Rung', 'Chunks', 'Raw', 'Stored', 'Ratio'], Object.entries(stats.rungs).flatMap(([rung, totals]) => ways(rung, totals)), 'Nothing fetched or stored yet.');
  table('store', [], [
    ['calls', Object.entries(store.calls).map(([verb, n]) => verb + ' ' + count(n)).join(', ') || 'none yet'],
    ['in flight', count(store.in_flight)],
    ['read, written', bytes(store.read_bytes) + ', ' + bytes(store.written_bytes)],
    ...(['get', 'put'].filter((verb) => store[verb]).map((verb) => [verb, 'median ' + time(store[verb].p50_ms) + ', p99 ' + time(store[verb].p99_ms)])),
    ['failures', Object.entries(store.failures).map(([outcome, n]) => outcome + ' ' + count(n)).join(', ') || 'none'],
    ...(store.last_failure ? [['last failure', store.last_failure.code + ' in ' + store.last_failure.verb + ', ' + new Date(store.last_failure.at).toLocaleTimeString()]] : []),
    ...(store.breaker ? [['breaker', store.breaker]] : []),
  ]);
  at('lm-card').hidden = !stats.lm;
  if (stats.lm) table('lm', [], [
    ...Object.entries(stats.lm.requests).map(([command, outcomes]) => [command, Object.entries(outcomes).map(([outcome, n]) => outcome + ' ' + count(n)).join(', ')]),
    ['tensors put, got', bytes(stats.lm.put_bytes) + ', ' + bytes(stats.lm.got_bytes)],
    ['clients lost', count(stats.lm.clients_lost)],
  ]);
  table('spaces', ['Model', 'Rung', 'Hits', 'Misses', 'Stored'], stats.spaces.map((s) => [s.model, s.rung, count(s.hits), count(s.misses), count(s.stored)]), 'No engine has asked for anything yet.');
  state(store.state === 'failing' ? 'failing' : 'ok', { idle: 'ready', ok: 'store ok', failing: 'store failing' }[store.state]);
}

function state(kind, text) {
  at('state').className = 'pill ' + kind;
  set('state', text);
  at('numbers').classList.toggle('old', kind === '');
}

let token = sessionStorage.getItem('kvreel-token') || '';

async function update() {
  let answer;
  try {
    answer = await fetch('v1/stats', { cache: 'no-store', headers: token ? { authorization: 'Bearer ' + token } : {} });
  } catch {
    return state('', 'daemon does not answer');
  }
  at('ask').hidden = answer.status !== 401;
  if (answer.status === 401) return state('', 'token wanted');
  if (!answer.ok) return state('', 'daemon answers ' + answer.status);
  show(await answer.json());
  at('numbers').hidden = false;
}

at('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  token = at('token').value.trim();
  sessionStorage.setItem('kvreel-token', token);
  at('token').value = '';
  void update();
});

(async () => {
  for (;;) {
    if (!document.hidden && at('ask').hidden) await update();
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
})();
`;
