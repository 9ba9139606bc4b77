"""Every page is made of the same pieces, and no page has a style or a chart of its own."""

import re
from pathlib import Path

from ausl_dist.pages.page import folded, page, picture, section, table

PACKAGE = Path(__file__).resolve().parents[2] / "ausl_dist"


def test_html_style_and_drawing_live_in_this_room_alone() -> None:
    own = re.compile(r"<style>|<svg|<table>|<table class|<!doctype html|<polyline")
    elsewhere = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "pages" and own.search(path.read_text())
    ]
    assert elsewhere == []


def test_text_is_only_text() -> None:
    html = page("<t>", table(("<h>",), [("<c>",)]) + picture("AAAA", "<p>", "<m>"), "<f>")
    assert not re.search(r"<[thcpmf]>", html)
    assert "&lt;c&gt;" in html


def test_nothing_in_it_is_nothing_shown() -> None:
    assert section("title", "") == folded("title", "") == table(("a",), []) == ""


def test_rows_that_are_troubles_stand_out() -> None:
    html = table((), [("fine",), ("bad",)], marked=[1])
    assert re.findall(r'<tr class="trouble"><td>(\w+)', html) == ["bad"]
