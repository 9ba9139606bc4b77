"""What is drawn must lie where the axes say."""

from xml.etree import ElementTree

from ausl_dist.pages.plot import Plot


def test_places_follow_the_axes() -> None:
    plot = Plot(176, 154, (0, 10), (0, 1))  # 100 by 100 inside the margins
    plot.dot(5, 0.25, "c0", "here")
    circle = ElementTree.fromstring(plot.svg("x")).find("circle")
    assert circle is not None
    assert (float(circle.get("cx", 0)), float(circle.get("cy", 0))) == (114.0, 87.0)


def test_whatever_is_said_is_escaped() -> None:
    plot = Plot(176, 154, (0, 10), (0, 1))
    plot.x_axis([(0, "<b>")], "<i>")
    plot.bar(0, 1, 1, "c0", "<script>")
    svg = plot.svg('"><script>')
    ElementTree.fromstring(svg)
    assert "<script" not in svg
