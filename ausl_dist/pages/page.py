"""The pieces of a page that is one file: its frame and style, sections, tables, tiles,
pictures.

Everything given as text is escaped; nothing is fetched, nothing runs.
"""

from collections.abc import Iterable, Sequence
from html import escape

from ausl_dist.pages.plot import PLOT_STYLE

STYLE = f"""
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 1440px; margin: 1.2rem auto;
  padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; margin: 0; }}
h2 {{ font-size: 1.15rem; margin-top: 1.8rem; border-bottom: 1px solid #8886; }}
h3 {{ font-size: 1rem; margin-bottom: .3rem; }}
.state {{ font-size: 1.1rem; margin: .2rem 0 .6rem; }}
.finding {{ border-left: 4px solid #d55e00; padding: .2rem .8rem; margin: .4rem 0; }}
.fine {{ border-left-color: #009e73; }}
.tiles {{ display: flex; flex-wrap: wrap; gap: .5rem; margin: .7rem 0; }}
.tile {{ border: 1px solid #8886; border-radius: 6px; padding: .25rem .8rem; font-size: 13px; }}
.tile b {{ display: block; font-size: 1.15rem; }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(400px, 1fr));
  gap: .8rem 1.2rem; }}
.panels {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr));
  gap: .5rem .8rem; font-size: 13px; }}
.pictures {{ display: flex; flex-wrap: wrap; gap: .6rem; }}
.pictures figcaption {{ font-weight: normal; font-size: 12px; }}
figure {{ margin: 0; }}
figcaption {{ font-weight: 600; }}
svg {{ width: 100%; height: auto; }}
{PLOT_STYLE}
.key {{ display: flex; flex-wrap: wrap; gap: .2rem .9rem; font-size: 13px; }}
.key i {{ display: inline-block; width: .8em; height: .8em; margin-right: .3em;
  background: var(--c); }}
table {{ border-collapse: collapse; display: block; overflow-x: auto;
  font-variant-numeric: tabular-nums; }}
td, th {{ text-align: left; vertical-align: top; padding: .15rem .9rem .15rem 0; }}
.numbers td, .numbers th {{ text-align: right; white-space: nowrap; }}
.numbers td:first-child, .numbers th:first-child {{ text-align: left; }}
.trouble {{ color: #d55e00; }}
pre {{ overflow-x: auto; background: #8882; padding: .8rem; border-radius: 6px; font-size: 13px; }}
footer {{ margin-top: 3rem; opacity: .7; }}
"""


def page(title: str, body: str, foot: str = "") -> str:
    """A whole document; `body` is HTML, the rest is text."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
    )
    below = f"<footer>{escape(foot)}</footer>" if foot else ""
    return (
        f'<!doctype html><html lang="en"><head>{head}</head><body>{body}{below}</body></html>\n'
    )


def section(title: str, body: str) -> str:
    """A heading and what is under it; nothing where there is nothing."""
    return f"<h2>{escape(title)}</h2>{body}" if body else ""


def note(text: str) -> str:
    """A paragraph of plain text; nothing for none."""
    return f"<p>{escape(text)}</p>" if text else ""


def table(
    titles: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: bool = False,
    marked: Iterable[int] = (),
) -> str:
    """Rows under titles; `numbers` puts all but the first column to the right, `marked` rows
    stand out as troubles.
    """
    bad = set(marked)
    body = "".join(
        f"<tr{_class('trouble' if number in bad else '')}>{_cells(row)}</tr>"
        for number, row in enumerate(rows)
    )
    if not body:
        return ""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    top = f"<tr>{head}</tr>" if head else ""
    return f"<table{_class('numbers' if numbers else '')}>{top}{body}</table>"


def _cells(row: Sequence[object]) -> str:
    return "".join(f"<td>{escape(str(cell))}</td>" for cell in row)


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def tiles_row(tiles: Sequence[tuple[str, str]]) -> str:
    """Numbers at a glance: each a name and a value."""
    drawn = "".join(
        f'<div class="tile">{escape(name)}<b>{escape(value)}</b></div>' for name, value in tiles
    )
    return f'<div class="tiles">{drawn}</div>'


def charts_grid(charts: Iterable[str]) -> str:
    """Charts side by side, as many as the window is wide; nothing where all are empty."""
    drawn = "".join(charts)
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def picture(jpeg_base64: str, caption: str, more: str = "") -> str:
    """A picture with a short caption; `more` is shown when one points at it."""
    source = f'src="data:image/jpeg;base64,{escape(jpeg_base64)}"'
    shown = f'<img {source} alt="{escape(caption)}" title="{escape(more or caption)}">'
    return f"<figure>{shown}<figcaption>{escape(caption)}</figcaption></figure>"


def pictures_row(pictures: Iterable[str]) -> str:
    """Pictures side by side; nothing where there is none."""
    drawn = "".join(pictures)
    return f'<div class="pictures">{drawn}</div>' if drawn else ""


def folded(summary: str, content: str) -> str:
    """Content that is opened by a click."""
    return (
        f"<details><summary>{escape(summary)}</summary>{content}</details>" if content else ""
    )


def verbatim(text: str) -> str:
    """Text as it is, line by line."""
    return f"<pre>{escape(text)}</pre>" if text else ""
