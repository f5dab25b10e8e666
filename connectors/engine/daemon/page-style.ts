/** The live page's look: one column on a phone, light or dark as the system is. */
export const PAGE_STYLE = `
:root {
  color-scheme: light dark;
  --ground: #f6f7f9; --card: #ffffff; --line: #e3e6ea; --text: #14181f; --quiet: #5b6472; --track: #eceff3;
  --hit: #0a7357; --miss: #b45309; --fail: #c62828; --accent: #4054c8;
  --hit-soft: #ddf3eb; --miss-soft: #fbe9d2; --fail-soft: #fbdede;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0f1216; --card: #171b21; --line: #2a3038; --text: #eceff3; --quiet: #98a2b0; --track: #242a32;
    --hit: #3ecf9f; --miss: #f0ab3f; --fail: #f47272; --accent: #93a4ff;
    --hit-soft: #12382d; --miss-soft: #3d2c10; --fail-soft: #431c1c;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text); font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 1120px; margin: 0 auto; padding: 20px 16px 40px; }
header { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 14px; margin-bottom: 16px; }
h1 { font-size: 20px; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 13px; margin: 0 0 10px; font-weight: 600; color: var(--quiet); text-transform: uppercase; letter-spacing: .05em; }
header p { margin: 0; color: var(--quiet); flex: 1 1 180px; overflow-wrap: anywhere; }
.pill { padding: 3px 11px; border-radius: 99px; font-weight: 600; font-size: 13px; background: var(--track); color: var(--quiet); white-space: nowrap; }
.pill.ok { background: var(--hit-soft); color: var(--hit); }
.pill.failing { background: var(--fail-soft); color: var(--fail); }
.grid { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 160px), 1fr)); }
.pair { display: grid; gap: 0 12px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); align-items: start; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px 16px; min-width: 0; margin-bottom: 12px; }
.grid .card { margin: 0; }
.grid { margin-bottom: 12px; }
.tile b { display: block; font-size: 25px; line-height: 1.25; white-space: nowrap; letter-spacing: -.02em; font-weight: 650; }
.tile small { color: var(--quiet); font-size: 13px; overflow-wrap: anywhere; }
.tile .name { color: var(--quiet); font-size: 13px; font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 8px 0 0; padding: 0; list-style: none; color: var(--quiet); font-size: 13px; }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 6px; }
svg { display: block; width: 100%; }
#chart { height: 120px; }
#rate { height: 56px; margin-top: 10px; }
.hit { fill: var(--hit); background: var(--hit); } .miss { fill: var(--miss); background: var(--miss); } .fail { fill: var(--fail); background: var(--fail); }
.flow { fill: var(--accent); background: var(--accent); } .base { stroke: var(--line); }
dl.bars { display: grid; grid-template-columns: minmax(0, 11em) 1fr auto; gap: 8px 12px; margin: 0; align-items: center; }
dl.bars dt { overflow-wrap: anywhere; } dl.bars dd { margin: 0; text-align: right; }
.track { height: 8px; border-radius: 4px; background: var(--track); overflow: hidden; }
.track div { height: 100%; border-radius: 4px; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; }
th, td { text-align: right; padding: 6px 0 6px 14px; border-top: 1px solid var(--line); white-space: nowrap; }
thead th { border: 0; padding-top: 0; color: var(--quiet); font-weight: 500; font-size: 13px; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; overflow-wrap: anywhere; min-width: 7em; font-weight: 500; }
@media (max-width: 480px) { table { font-size: 13px; } th, td { padding-left: 9px; } }
.quiet { color: var(--quiet); }
.old { opacity: .45; }
form { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; }
form label { flex: 1 1 100%; }
input, button { font: inherit; padding: 8px 12px; border-radius: 8px; border: 1px solid var(--line); background: var(--ground); color: var(--text); min-width: 0; }
input { flex: 1 1 220px; } button { background: var(--accent); color: var(--card); border-color: transparent; font-weight: 600; cursor: pointer; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
[hidden] { display: none !important; }
`;
