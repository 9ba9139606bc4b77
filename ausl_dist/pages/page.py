"""The pieces of a self-contained HTML page: its frame and style, sections, tables, tiles.

Everything given as text is escaped.
"""

from collections.abc import Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1360px; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; }
h2 { margin-top: 2.2rem; border-bottom: 1px solid #8886; padding-bottom: .2rem; }
.state { font-size: 1.1rem; }
.finding { border-left: 4px solid #d55e00; padding: .2rem .8rem; margin: .4rem 0; }
.fine { border-left-color: #009e73; }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; }
.tile { border: 1px solid #8886; border-radius: 6px; padding: .4rem .9rem; }
.tile b { display: block; font-size: 1.25rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 1rem; }
figure { margin: 0; }
figcaption { font-weight: 600; }
svg { width: 100%; height: auto; }
svg text { font-size: 11px; fill: currentColor; }
.grid { stroke: #8884; }
.mark { stroke: #56b4e9; stroke-dasharray: 3 3; stroke-width: 2; }
.bad { stroke: #d55e00; stroke-width: 2; }
.key { display: flex; flex-wrap: wrap; gap: .2rem .9rem; font-size: 13px; }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .3em; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: .15rem .9rem .15rem 0; vertical-align: top; font-variant-numeric: tabular-nums; }
pre { overflow-x: auto; background: #8882; padding: .8rem; border-radius: 6px; font-size: 13px; }
.trouble { color: #d55e00; }
footer { margin-top: 3rem; opacity: .7; }
"""


def page(title: str, body: str, foot: str) -> str:
    """A whole document; `body` is HTML, the rest is text."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>{escape(title)}</title><style>{STYLE}</style>'
    )
    return (
        "<!doctype html><html "
        f'lang="en"><head>{head}</head><body>{body}<footer>{escape(foot)}</footer></body></html>\n'
    )


def section(title: str, body: str) -> str:
    """A heading and what is under it; nothing where there is nothing."""
    return f"<h2>{escape(title)}</h2>{body}" if body else ""


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def tiles_row(tiles: Sequence[tuple[str, str]]) -> str:
    """Numbers at a glance: each a name and a value."""
    drawn = "".join(
        f'<div class="tile">{escape(name)}<b>{escape(value)}</b></div>' for name, value in tiles
    )
    return f'<div class="tiles">{drawn}</div>'
