"""The report's style sheet. Everything is under `.lehr-report`, so that the fragment can live in another page."""

from __future__ import annotations

# Of stages, by what they are: pretraining one after the other, siblings of one parent, soups, post-training steps. Light, dark.
PALETTES: dict[str, tuple[tuple[str, str], ...]] = {
    "trunk": (("#2a5d9c", "#7fb0ea"), ("#14857b", "#4fc0b3"), ("#5b8c1a", "#c3dc6a")),
    "branch": (("#d07a1c", "#f0a24a"), ("#a3500c", "#d97b35"), ("#e2a851", "#f4cd8a"), ("#857612", "#b9a944")),
    "merge": (("#b3253f", "#f0718a"), ("#e0647c", "#c9506a")),
    "post": (
        ("#6b4fa0", "#b39be4"), ("#2f86bd", "#72c3f2"), ("#33702f", "#86c97f"), ("#b0438f", "#e58acb"),
        ("#6f4a33", "#c7a48c"), ("#0b5563", "#9fdce6"), ("#c56bb8", "#a763a0"), ("#1d2b66", "#8486e6"),
    ),
}  # fmt: skip
PAPER = ("#fcfcfa", "#14171a")
_LIGHT = """
--ink:#1d2126;--muted:#68707a;--faint:#9aa1a9;--rule:#dfe1de;--grid:#e8e9e6;--card:#ffffff;--accent:#2a5d9c;--bad:#a8261c;
--kept:#2a5d9c;--r1:#c9743a;--r2:#e0b15e;--r3:#8c6d8f;--r4:#7d9a86;--r5:#b9bdc1;
"""
_DARK = """
--ink:#e6e8ea;--muted:#9aa3ac;--faint:#6c747c;--rule:#2c3238;--grid:#252a2f;--card:#1a1e22;--accent:#7fb0ea;--bad:#ff8f7d;
--kept:#5f93d3;--r1:#d98a52;--r2:#e3bd74;--r3:#ab8cae;--r4:#93b39d;--r5:#5b6269;
"""
_SERIF = "Charter,'Bitstream Charter','Iowan Old Style','Sitka Text',Cambria,Georgia,serif"
_SANS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue','Noto Sans','Liberation Sans',Arial,sans-serif"
_MONO = "ui-monospace,'SF Mono',Menlo,Consolas,'Liberation Mono','DejaVu Sans Mono',monospace"

_BASE = """
.lehr-report{background:var(--paper);color:var(--ink);font:15px/1.5 SANS;min-height:100vh;-webkit-text-size-adjust:100%}
.lehr-report *{box-sizing:border-box}
.lehr-report main{max-width:1180px;margin:0 auto;padding:48px 28px 80px}
.lehr-report h1,.lehr-report h2{font-family:SERIF;font-weight:600;letter-spacing:-.01em;line-height:1.15;margin:0}
.lehr-report h1{font-size:44px}
.lehr-report h2{font-size:27px}
.lehr-report h3{font-size:14px;font-weight:600;margin:26px 0 8px}
.lehr-report p{margin:0}
.lehr-report code,.lehr-report pre{font:12.5px/1.5 MONO}
.lehr-report pre{background:var(--card);border:1px solid var(--rule);border-radius:6px;padding:12px 14px;overflow:auto;
  margin:8px 0;max-height:560px;white-space:pre}
.lehr-report section{margin-top:60px;padding-top:22px;border-top:1px solid var(--rule)}
.lehr-report .kicker{font-size:12px;letter-spacing:.12em;text-transform:uppercase;color:var(--muted);margin-bottom:10px}
.lehr-report .about{font:19px/1.4 SERIF;color:var(--muted);margin-top:10px}
.lehr-report .lede{font:17px/1.5 SERIF;max-width:46em;margin:10px 0 18px}
.lehr-report header .lede{margin-bottom:4px}
.lehr-report header .lede+.lede{font-size:15px;color:var(--muted);margin:0 0 6px}
.lehr-report .stamp,.lehr-report .caption{color:var(--muted);font-size:13px}
.lehr-report .caption{max-width:58em;margin-top:12px}
.lehr-report .against{margin:14px 0 0;padding:0;list-style:none;font-size:14px;color:var(--muted)}
.lehr-report .against .worse{color:var(--bad);font-weight:600}
.lehr-report .missing{color:var(--muted);font-style:italic;padding:14px 0}
.lehr-report nav{display:flex;gap:4px 20px;margin:30px -28px 0;padding:9px 28px;font-size:14px;position:sticky;top:0;z-index:3;
  background:var(--paper);border-bottom:1px solid var(--rule);overflow-x:auto;white-space:nowrap;scrollbar-width:thin}
.lehr-report nav+section{margin-top:30px;border-top:0}
.lehr-report section,.lehr-report details{scroll-margin-top:44px}
.lehr-report nav a{color:var(--accent);text-decoration:none}
.lehr-report nav a:hover{text-decoration:underline}
"""
_TILES = """
.lehr-report .tiles{display:flex;flex-wrap:wrap;gap:1px;margin-top:28px;background:var(--rule);border:1px solid var(--rule);
  border-radius:8px;overflow:hidden}
.lehr-report .tiles .tile{flex:1 1 300px}
.lehr-report .tiles.cost{margin-top:14px}
.lehr-report .tiles.cost .tile{flex-basis:170px}
.lehr-report .tile{background:var(--card);padding:15px 18px 14px}
.lehr-report .tile .name{font-size:13px;font-weight:600}
.lehr-report .tile .figure{font:600 34px/1.15 SERIF;font-variant-numeric:lining-nums tabular-nums;margin:4px 0 5px}
.lehr-report .tile .figure small{font:400 15px SANS;color:var(--muted);margin-left:3px}
.lehr-report .tiles.cost .figure{font-size:23px}
.lehr-report .tile .from{font-size:12.5px;line-height:1.4;color:var(--muted)}
.lehr-report .tiles .missing{background:var(--card);padding:16px 18px}
"""
_CHARTS = """
.lehr-report .grid{display:grid;gap:26px 34px;margin-top:16px}
.lehr-report .grid.two{grid-template-columns:repeat(auto-fill,minmax(min(100%,430px),1fr))}
.lehr-report .grid.mixes{grid-template-columns:repeat(auto-fill,minmax(min(100%,640px),1fr))}
.lehr-report .grid.three{grid-template-columns:repeat(auto-fill,minmax(min(100%,310px),1fr))}
.lehr-report .panel{min-width:0}
.lehr-report .panel h3{margin:0 0 6px}
.lehr-report .panel .note{font-weight:400;color:var(--muted);font-size:12.5px;margin-left:4px}
.lehr-report .stage-name{font:600 18px SERIF;margin:30px 0 0}
.lehr-report svg.chart{display:block;width:100%;height:auto;overflow:visible;font-family:SANS}
.lehr-report svg .grid{stroke:var(--grid);stroke-width:1}
.lehr-report svg .axis{stroke:var(--faint);stroke-width:1}
.lehr-report svg .guide{stroke:var(--faint);stroke-width:1;stroke-dasharray:2 3}
.lehr-report svg .error{stroke-width:1.6}
.lehr-report svg .band{opacity:.2}
.lehr-report svg .faint{opacity:.4}
.lehr-report svg .near{fill:transparent}
.lehr-report svg .near:hover{fill:var(--ink);opacity:.06}
.lehr-report svg text{fill:var(--ink);font-size:11.5px;font-variant-numeric:tabular-nums}
.lehr-report svg .tick,.lehr-report svg .axis-label,.lehr-report svg .box-note{fill:var(--muted);font-size:11px}
.lehr-report svg .strong{font-weight:700}
.lehr-report svg.dag{max-width:560px;margin:0 auto}
.lehr-report svg .thread{fill:none;stroke:var(--faint);stroke-width:1.3}
.lehr-report svg .box{fill:var(--card);stroke-width:1.6}
.lehr-report svg .box-name{font-weight:600;font-size:12px}
.lehr-report svg .box-note{font-family:MONO;font-size:9.5px}
.lehr-report .legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13px;color:var(--muted);margin-top:12px}
.lehr-report .legend i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px;vertical-align:-1px}
.lehr-report .legend i.dashed{width:20px;height:0;border-top:2px dashed;border-radius:0;vertical-align:4px}
.lehr-report .bar{display:flex;height:15px;border-radius:3px;overflow:hidden;background:var(--grid)}
.lehr-report .bar span{display:block;height:100%;flex:none}
.lehr-report .bar.thin{height:9px;min-width:70px;background:none}
.lehr-report .bar.gantt{background:linear-gradient(var(--grid),var(--grid)) center/100% 1px no-repeat}
.lehr-report .bar.gantt span:last-child{border-radius:3px}
.lehr-report .gantt-row{display:grid;grid-template-columns:132px 1fr 128px;gap:14px;align-items:center;padding:4px 0;
  font-size:13.5px}
.lehr-report .gantt-box,.lehr-report .funnel{margin-top:14px}
.lehr-report .num{text-align:right;font-variant-numeric:tabular-nums lining-nums;white-space:nowrap}
.lehr-report .reused{font-size:11px;color:var(--muted);border:1px solid var(--rule);border-radius:9px;padding:0 6px;
  white-space:nowrap}
"""
_TABLES = """
.lehr-report .scroll{overflow-x:auto;margin-top:10px}
.lehr-report table{border-collapse:collapse;width:100%;font-size:13.5px}
.lehr-report th,.lehr-report td{text-align:left;font-weight:400;padding:6px 12px 6px 0;border-bottom:1px solid var(--rule);
  vertical-align:top}
.lehr-report thead th{color:var(--muted);font-size:12.5px;border-bottom-color:var(--faint);vertical-align:bottom;
  white-space:nowrap}
.lehr-report th:last-child,.lehr-report td:last-child{padding-right:0}
.lehr-report th.num,.lehr-report td.num{text-align:right}
.lehr-report table.scores th:first-child{position:sticky;left:0;background:var(--paper);min-width:124px;z-index:1}
.lehr-report table.scores th:first-child small{max-width:200px;white-space:normal}
.lehr-report table small{display:block;color:var(--muted);font-size:11.5px;font-weight:400}
.lehr-report table.worse small{display:inline;margin-left:7px}
.lehr-report table .none{color:var(--faint)}
.lehr-report table.cost td{vertical-align:middle}
.lehr-report table.cost th[scope=row]{white-space:nowrap}
.lehr-report table.facts{width:auto;min-width:min(100%,460px)}
.lehr-report table.facts thead{display:none}
.lehr-report .beside{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:20px 44px;align-items:start;
  margin-top:14px}
.lehr-report details{margin-top:16px}
.lehr-report summary{cursor:pointer;color:var(--accent);font-size:14px}
.lehr-report .talk{margin-top:26px}
.lehr-report .talk .prompt{font:17px/1.45 SERIF;white-space:pre-wrap;overflow-wrap:anywhere;
  border-left:3px solid var(--accent);padding-left:13px}
.lehr-report .talk .expected{font-size:12.5px;color:var(--muted);padding:3px 0 0 16px}
.lehr-report .answers{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,205px),1fr));gap:10px;
  margin-top:11px}
.lehr-report .answer{background:var(--card);border:1px solid var(--rule);border-radius:7px;padding:9px 13px 11px;min-width:0}
.lehr-report .answer h4{margin:0 0 3px;font-size:12px;font-weight:600;color:var(--muted)}
.lehr-report .answer p{white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;max-height:16em;overflow:auto}
.lehr-report .answer em{color:var(--faint)}
"""
_SMALL = """
@media(max-width:820px){.lehr-report .beside{grid-template-columns:minmax(0,1fr)}}
@media(max-width:560px){
.lehr-report main{padding:26px 16px 56px}
.lehr-report nav{margin:24px -16px 0;padding:9px 16px}
.lehr-report .grid.mixes pre{white-space:pre-wrap;font-size:10.5px}
.lehr-report h1{font-size:32px}.lehr-report h2{font-size:23px}
.lehr-report section{margin-top:42px}
.lehr-report .tile{padding:12px 14px}
.lehr-report .tiles .tile,.lehr-report .tiles.cost .tile{flex-basis:140px}
.lehr-report .tile .figure{font-size:26px}
.lehr-report .gantt-row{grid-template-columns:88px 1fr 84px;gap:8px;font-size:12.5px}
.lehr-report .funnel .gantt-row{grid-template-columns:1fr auto;gap:2px 8px;padding:6px 0}
.lehr-report .funnel .bar{grid-row:2;grid-column:1/-1}
}
@media print{
.lehr-report{background:none;font-size:11.5px}
.lehr-report main{max-width:none;padding:0}
.lehr-report nav{display:none}
.lehr-report section{margin-top:26px}
.lehr-report .panel,.lehr-report .talk,.lehr-report tr,.lehr-report .tile{break-inside:avoid}
.lehr-report h2,.lehr-report h3{break-after:avoid}
.lehr-report pre{max-height:none;white-space:pre-wrap}
.lehr-report .bar span,.lehr-report .legend i,.lehr-report .tiles{
  print-color-adjust:exact;-webkit-print-color-adjust:exact}
}
"""


def _variables(theme: int) -> str:
    """Paper and palettes of the light (0) or the dark (1) theme."""
    rows = [
        "".join(f"--c-{palette}-{number}:{pair[theme]};" for number, pair in enumerate(pairs, 1))
        for palette, pairs in PALETTES.items()
    ]
    return "\n".join([f"\n--paper:{PAPER[theme]};", *rows])


_SCHEME = f".lehr-report{{color-scheme:light dark;{_variables(0)}{_LIGHT}}}"
_SCHEME += f"\n@media screen and (prefers-color-scheme:dark){{.lehr-report{{{_variables(1)}{_DARK}}}}}"


def _sheet(text: str) -> str:
    return (_SCHEME + text).replace("SERIF", _SERIF).replace("SANS", _SANS).replace("MONO", _MONO)


CSS = _sheet(_BASE + _TILES + _CHARTS + _TABLES + _SMALL)
# Of a drawing that stands alone: an <svg class="lehr-report"> around another one.
DRAWING_CSS = _sheet(
    "\n.lehr-report{background:var(--paper);font-family:SANS}\n"
    + "\n".join(rule for rule in _CHARTS.splitlines() if rule.startswith(".lehr-report svg "))
)
