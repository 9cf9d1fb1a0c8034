"""The style of a load test's page: that of the other reports, and colours for tiers, results and verdicts."""

from __future__ import annotations

from benchmarks import html_report

_OWN = """
:root { --t0: #6d3bd1; --t1: #0e8f83; --t2: #d17a1f; --t3: #2f6fd0; --t4: #b83280; --t5: #5c7a29;
  --pass: #1d8a4a; --fail: #c8322b; --unresolved: #b07a00; --offered: #d9d5e3; --card: #f3f1f8; }
@media (prefers-color-scheme: dark) {
  :root { --t0: #a583f0; --t1: #3ec4b6; --t2: #f0a050; --t3: #76a9f5; --t4: #ee7fbc; --t5: #a5c56a;
    --pass: #4cc47e; --fail: #f26b64; --unresolved: #e3b341; --offered: #3c3847; --card: #211f28; } }
body { max-width: 920px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 20px 0 8px; }
.card { background: var(--card); border-radius: 10px; padding: 12px 14px; }
.card b { display: block; font-size: 22px; line-height: 1.25; } .card span { font-size: 13px; color: var(--soft); }
.pill { border-radius: 99px; padding: 1px 10px; color: #fff; font-size: 13px; font-weight: 600; white-space: nowrap; }
h1 .pill { font-size: 16px; vertical-align: 4px; margin-left: 8px; padding: 3px 14px; }
.pill.pass { background: var(--pass); } .pill.fail, .pill.invalid { background: var(--fail); }
.pill.unresolved { background: var(--unresolved); }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 14px; margin: 8px 0; }
th { text-align: right; font-weight: 600; color: var(--soft); white-space: nowrap; }
td { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th.l, td.l { text-align: left; } th, td { padding: 5px 8px; border-bottom: 1px solid var(--line); }
.warn { background: var(--fail); color: #fff; border-radius: 10px; padding: 12px 16px; margin: 16px 0; }
svg .end { text-anchor: end; } svg .unit.end { text-anchor: end; } svg .tick.end { text-anchor: end; }
svg .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } svg .area { stroke: none; opacity: .9; }
svg .dot { opacity: .75; } svg .dot.big { r: 5.5px; opacity: 1; } svg .legend { font-size: 13px; }
svg .mark { stroke: var(--fail); stroke-dasharray: 5 4; opacity: .7; }
svg .note { font-size: 12px; paint-order: stroke; stroke: var(--page); stroke-width: 4px; }
""".strip()
_COLOURS = "".join(
    f"\nsvg .{name}:not(.line) {{ fill: {colour}; }} svg .{name}.line {{ stroke: {colour}; }}"
    for name, colour in {
        **{f"t{index}": f"var(--t{index})" for index in range(6)},
        "offered": "var(--offered)",
        "made": "var(--t3)",
        "good": "var(--pass)",
        "completed": "var(--t0)",
        "cancelled": "var(--peer)",
        "refused": "var(--unresolved)",
        "rate_limited": "var(--t3)",
        "bad": "var(--fail)",
        "pass": "var(--pass)",
        "unresolved": "var(--unresolved)",
        "fail": "var(--fail)",
        "invalid": "var(--soft)",
    }.items()
)
STYLE = f"{html_report.STYLE}\n{_OWN}{_COLOURS}"
