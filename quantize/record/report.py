"""report.html: a receipt for people, one page with drawings in it. Opens without a network; knows only the receipt.

Headings stand in Chinese and English, figures once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from ..meter import PARTS
from ..storage.disk import human_bytes
from .plot import Axis, Series, bars, legend, plot

#: A colour for each layer of a block and for each part of the time; told apart without colour by their legends.
COLOURS = ("#2f6fb3", "#d9822b", "#2a9d74", "#b3446c", "#7a5cc0", "#8a8f98", "#c2a000")

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2129; --soft: #667; --line: #d8dbe0; --page: #fff; --warn: #b3446c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ec; --soft: #9aa0aa; --line: #3a3f48; --page: #16181c; --warn: #e58aac; }
}
body { font: 15px/1.5 system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif; color: var(--ink);
       background: var(--page); max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p, .soft { color: var(--soft); } .facts { display: flex; flex-wrap: wrap; gap: .75rem 2.5rem; margin: 1.25rem 0; }
.facts b { display: block; font-size: 1.25rem; font-weight: 600; }
.facts span { color: var(--soft); font-size: .85rem; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; } .wide { overflow-x: auto; }
td, th { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { font-variant-numeric: tabular-nums; } td:first-child { white-space: nowrap; }
code { font-size: .78rem; } td:last-child code { overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; } svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }
svg .grid { stroke: var(--line); } .key { margin: .5rem 0; } .key span { margin-right: 1rem; white-space: nowrap; }
.wide + .wide { margin-top: .75rem; } .warn { color: var(--warn); }
@media (max-width: 40rem) {
  svg { min-width: 36rem; } svg text { font-size: 17px; } td:last-child { min-width: 12rem; }
}
""".strip()


def report_page(receipt: dict[str, Any], name: str) -> str:
    """The whole page. `name` is what the model is called."""
    sections = [
        _facts(receipt),
        _section("每层误差", "Error of each layer", _errors(receipt)),
        _section("4 位或 8 位", "4 or 8 bits", _units(receipt)),
        _section("与浮点模型的差别", "Distance from the float model", _fidelity(receipt)),
        _section("每块用时", "Time of each block", _times(receipt)),
        _section("内存", "Memory over time", _memory(receipt)),
        _section("退路", "Fallbacks", _fallbacks(receipt)),
        _section("设置", "Recipe", _recipe(receipt["recipe"])),
        _section("文件", "Files", _files(receipt)),
        _section("环境", "Made with", _versions(receipt)),
    ]
    body = "\n".join(section for section in sections if section)
    return (
        f'<!doctype html>\n<html lang="zh"><head><meta charset="utf-8"><title>{escape(name)}: int4</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>\n{_STYLE}\n</style></head><body>\n<h1>{escape(name)}</h1>\n"
        f"<p>量化记录 · receipt of a quantization</p>\n{body}\n</body></html>\n"
    )


def _section(chinese: str, english: str, content: str) -> str:
    return f'<h2>{chinese} <span class="soft">{english}</span></h2>\n{content}' if content else ""


def _facts(receipt: dict[str, Any]) -> str:
    recipe, cost, layers = receipt["recipe"], receipt["cost"], receipt["layers"]
    weights = sum(entry["bytes"] for name, entry in receipt["files"].items() if name.endswith(".safetensors"))
    errors = [layer["error"] for layer in layers]
    calibration = receipt.get("calibration", {})
    facts = [
        (_method(recipe), "方法 method"),
        (human_bytes(weights), "权重 weights"),
        (_duration(cost["seconds"]["total"]), "用时 time"),
        (human_bytes(cost["peak_bytes"]) if cost.get("peak_bytes") else "?", "内存峰值 peak memory"),
        (f"{sum(errors) / len(errors):.3g}" if errors else "?", "平均误差 mean error"),
    ]
    if cost.get("device_peak_bytes"):
        facts.append((human_bytes(cost["device_peak_bytes"]), "显存峰值 peak GPU memory"))
    if calibration.get("tokens"):
        text = f"{calibration['samples']} / {calibration['pictures']} / {calibration['tokens']:,}"
        facts.append((text, "校准: 样本 / 图片 / 词元 calibration: samples / pictures / tokens"))
    items = "".join(f"<div><b>{escape(value)}</b><span>{label}</span></div>" for value, label in facts)
    return f'<div class="facts">{items}</div>'


def _errors(receipt: dict[str, Any]) -> str:
    """Relative output error of every layer on the calibration set, block by block."""
    names = list(dict.fromkeys(layer["layer"] for layer in receipt["layers"]))
    series = [
        Series(name, colour, [(r["block"] + 1, r["error"]) for r in receipt["layers"] if r["layer"] == name])
        for name, colour in zip(names, COLOURS, strict=False)
    ]
    if not series:
        return ""
    return plot(series, Axis("块 block", whole=True), Axis("|X(W − Q)| / |XW|", zero=True)) + legend(series)


def _units(receipt: dict[str, Any]) -> str:
    """What rounding each unit to 4 bits would cost, and the bits that it got for the budget."""
    rows = [
        [" + ".join(unit["layers"]).replace("transformer.", ""), f"{unit['kl']:.3g}", str(unit["bits"])]
        for unit in receipt.get("units", ())
    ]
    return _table(["unit", "KL(float || 4 bits)", "bits"], rows) if rows else ""


def _fidelity(receipt: dict[str, Any]) -> str:
    """How positions spread over divergences, and the figures of each kind of position."""
    found = receipt.get("fidelity")
    if not found:
        return ""
    columns = ("tokens", "kl_mean", "kl_p99", "top1_agreement", "perplexity_float", "perplexity_int4")
    rows = [
        [kind, *("-" if figures[column] is None else f"{figures[column]:.5g}" for column in columns)]
        for kind, figures in (("all", found), *found["by"].items())
    ]
    counts, low, step = found["histogram"], -6.0, 0.2
    points = [(low + step * (n + 0.5), count / max(sum(counts), 1)) for n, count in enumerate(counts)]
    drawing = plot(
        [Series("KL", COLOURS[0], points)], Axis("log10 KL(float || int4)"), Axis("share", zero=True), joined=True
    )
    return drawing + _table(["", *columns], rows)


def _times(receipt: dict[str, Any]) -> str:
    """Seconds of every block by what they went into; what no part names is the rest."""
    blocks = receipt["cost"]["blocks"]
    if not blocks:
        return ""
    rest = [max(block["wall"] - sum(block["parts"].values()), 0.0) for block in blocks]
    columns = [[block["parts"].get(part, 0.0) for block in blocks] for part in PARTS] + [rest]
    series = [
        Series(name, colour, [(block["block"] + 1, value) for block, value in zip(blocks, values, strict=True)])
        for name, colour, values in zip((*PARTS, "rest"), COLOURS, columns, strict=True)
    ]
    read = sum(block["read"] for block in blocks) / len(blocks)
    note = f"<p>读取与计算并行，每块 {read:.2g} 秒 · reading runs beside the work, {read:.2g} s a block</p>"
    return bars(series, Axis("块 block", whole=True), Axis("秒 s", zero=True)) + legend(series) + note


def _memory(receipt: dict[str, Any]) -> str:
    curve = receipt["cost"].get("memory") or []
    if len(curve) < 2:
        return ""
    unit, name = (1, "秒 s") if curve[-1][0] < 180 else (60, "分钟 min")
    series = [Series("resident", COLOURS[0], [(seconds / unit, count / 1e9) for seconds, count in curve])]
    return plot(series, Axis(name, zero=True), Axis("GB", zero=True), joined=True)


def _fallbacks(receipt: dict[str, Any]) -> str:
    rows = [
        [f"h.{r['block']}.{r['layer']}", r["method"], f"{r['damp_percent']:g}", f"{r['error']:.3g}"]
        for r in receipt["fallbacks"]
    ]
    if not rows:
        return "<p>无 · none</p>"
    return '<div class="warn">' + _table(["layer", "method", "damp", "error"], rows) + "</div>"


def _method(recipe: dict[str, Any]) -> str:
    if recipe["method"] == "nf4":
        return "nf4"
    return f"{recipe['method']} int{recipe['bits']}, g{recipe['group_size']}"


def _recipe(recipe: dict[str, Any]) -> str:
    """Settings as they are called in Python; large numbers with commas."""
    return _table([], [[k, f"{v:,}" if type(v) is int else str(v)] for k, v in recipe.items()])


def _files(receipt: dict[str, Any]) -> str:
    rows = [[name, f"{entry['bytes']:,}", entry["sha256"]] for name, entry in receipt["files"].items()]
    source = receipt["source"]["files"].items()
    rows += [[f"← {name}", f"{entry['bytes']:,}", f"{entry['ends_sha256']} (ends)"] for name, entry in source]
    return _table(["name", "bytes", "sha256"], rows, code=True)


def _versions(receipt: dict[str, Any]) -> str:
    found = {**receipt["versions"], **receipt["machine"]}
    return "<p>" + ", ".join(f"{escape(str(k))} {escape(str(v))}" for k, v in found.items()) + "</p>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], code: bool = False) -> str:
    top = "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>" if head else ""
    shape = "<td><code>{}</code></td>" if code else "<td>{}</td>"
    lines = ("<tr>" + "".join(shape.format(escape(cell)) for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table>{top}{"".join(lines)}</table></div>'


def _duration(seconds: float) -> str:
    """75 -> "1 min 15 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
