"""A setting that cannot work must be refused at the start, by name; the shipped choices must
work.
"""

from typing import Any

import pytest

from ausl_dist.observe.settings import ObserveSettings
from ausl_dist.settings import SettingsError, from_mapping
from launch.compose import choices, compose


@pytest.mark.parametrize("name", choices("observe"))
def test_each_choice_of_the_group_can_be_used(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUSL_TARGETS", "/srv/targets")
    words = ["experiment=demo", "data.corpora.main.url=/corpus", f"observe={name}"]
    settings = from_mapping(ObserveSettings, compose(words).run["observe"], "observe")
    assert settings.enabled == (name != "off")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"exporter": {"port": 9400}}, r"did you mean observe\.exporter\.ports"),
        (
            {"exporter": {"ports": [9400, 9300]}},
            r"observe\.exporter: ports must be \[first, last\]",
        ),
        ({"exporter": {"ports": [0, 9300]}}, "ports must be"),
        ({"exporter": {"certificate": "a.pem"}}, "certificate and key belong together"),
        ({"exporter": {"client_ca": "a.pem"}}, "client_ca needs TLS"),
        ({"exporter": {"stale_minutes": 1}}, "stale_minutes must be at least 5"),
        ({"trackers": {"every_steps": 0}}, "every_steps must be at least 1"),
        ({"profile": {"at_step": 0}}, r"profile\.at_step must be at least 1"),
        ({"profile": {"steps": 0}}, "steps >= 1"),
        ({"console": "loud"}, r"observe\.console must be one of auto, live, plain, quiet"),
        ({"console_seconds": 0}, "console_seconds must be above 0"),
        ({"heartbeat_seconds": 0}, "heartbeat_seconds must lie in"),
        ({"window_steps": 1}, "window_steps must be at least 2"),
    ],
)
def test_what_cannot_work_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        from_mapping(ObserveSettings, values, "observe")
