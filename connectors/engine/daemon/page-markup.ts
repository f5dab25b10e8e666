/** The live page without its style and script. What it shows comes from GET /v1/stats. */
export const PAGE_MARKUP = `
<main>
  <header>
    <h1>kvreel</h1>
    <p id="about">…</p>
    <span class="pill" id="state" role="status">connecting</span>
  </header>
  <section class="card" id="ask" hidden>
    <form id="token-form">
      <label for="token">This daemon wants its token (the text in its --token-file). It stays in this tab.</label>
      <input id="token" type="password" autocomplete="off" required>
      <button>Show</button>
    </form>
  </section>
  <div id="numbers" hidden>
    <div class="grid">
      <section class="card tile"><span class="name">Hit rate</span><b id="hit-rate">–</b><small id="hit-rate-of"></small></section>
      <section class="card tile"><span class="name">Smaller than raw</span><b id="ratio">–</b><small id="ratio-of"></small></section>
      <section class="card tile"><span class="name">Goodput</span><b id="goodput">–</b><small>of tensors, last 10 s</small></section>
      <section class="card tile"><span class="name">Fetch, median</span><b id="fetch-time">–</b><small id="fetch-time-of"></small></section>
      <section class="card tile"><span class="name">Lookup, p99</span><b id="lookup-time">–</b><small id="lookup-time-of"></small></section>
      <section class="card tile"><span class="name">Failures</span><b id="failures">–</b><small id="failures-of"></small></section>
    </div>
    <section class="card">
      <h2>The last minute</h2>
      <svg id="chart" viewBox="0 0 600 120" preserveAspectRatio="none" role="img"></svg>
      <svg id="rate" viewBox="0 0 600 56" preserveAspectRatio="none" role="img"></svg>
      <ul class="legend">
        <li><i class="hit"></i>hits</li><li><i class="miss"></i>misses</li><li><i class="fail"></i>failures</li><li><i class="flow"></i><span id="rate-of">goodput</span></li>
      </ul>
    </section>
    <div class="pair">
      <section class="card"><h2>Misses by cause</h2><dl class="bars" id="causes"></dl></section>
      <section class="card"><h2>Bytes, raw and stored</h2><dl class="bars" id="bytes"></dl></section>
    </div>
    <section class="card"><h2>Rungs</h2><div class="scroll"><table id="rungs"></table></div></section>
    <div class="pair">
      <section class="card"><h2>Store</h2><div class="scroll"><table id="store"></table></div></section>
      <section class="card"><h2>Spaces used last</h2><div class="scroll"><table id="spaces"></table></div></section>
    </div>
    <section class="card" id="lm-card" hidden><h2>lm:// clients</h2><div class="scroll"><table id="lm"></table></div></section>
  </div>
  <noscript>This page needs JavaScript; <code>GET /v1/stats</code> gives the same as JSON.</noscript>
</main>
`;
