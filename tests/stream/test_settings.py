"""Settings: a wrong one is an answer at the start, not a surprise in the night."""

import pytest

from ausl_dist.settings import SettingsError, from_mapping
from ausl_dist.stream.settings import DataSettings

GOOD = {"corpora": {"main": {"url": "s3://bucket/prefix"}}}


def test_settings_come_from_a_config() -> None:
    settings = from_mapping(
        DataSettings, {**GOOD, "lanes": 16, "budgets": {"decode": 0.5}}, "data"
    )
    assert settings.corpora["main"].quota == 1
    assert settings.budgets.decode == 0.5
    assert settings.batch_clips == 64


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"corpora": {}}, "corpora.main.url"),
        ({"corpora": {"main": {"url": ""}}}, "url is empty"),
        ({"corpora": {"main": {"url": "x", "quota": 0}}}, "quota"),
        ({"lane": 4}, "did you mean data.lanes"),
        ({"lanes": 0}, "lanes must be at least 1"),
        ({"device": "tpu"}, "cpu, gpu"),
        ({"window_start": -1}, "window_start"),
        ({"budgets": {"decode": 2}}, "share between 0 and 1"),
        ({"retry_seconds": 0}, "retry_seconds"),
    ],
)
def test_a_wrong_setting_says_what_to_type(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        from_mapping(DataSettings, {**GOOD, **change}, "data")
