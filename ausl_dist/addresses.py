"""Secrets do not belong in addresses: they would stand in configs, logs, records and process
lists.

    s3://KEY:SECRET@bucket/name        refused, shown as s3://***@bucket/name
    https://host/name?X-Amz-Signature=…     refused, shown as …?X-Amz-Signature=***
    AWS_SECRET_ACCESS_KEY=…            refused, shown as AWS_SECRET_ACCESS_KEY=***

What starts with $ is the name of a variable and no secret.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

SHOWN = "***"
# Secret keys of S3 may hold slashes, so a colon that no port follows reaches as far as the last
# @.
_USER = re.compile(
    r"(?P<before>[a-z][a-z0-9+.-]*://)"
    r"(?:[^\s/@'\"]*:(?!\d+(?:[/\s'\"]|$))[^\s'\"]*@|[^\s/@'\"]+@)",
    re.I,
)
_QUERY = re.compile(
    r"(?P<before>[?&;](?:X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)|AWSAccessKeyId"
    r"|GoogleAccessId|Signature|sig|[a-z_-]*(?:token|secret|password|api_?key|access_?key))=)"
    r"(?!\$|\*\*\*)[^&;\s'\"]+",
    re.I,
)
_VARIABLE = re.compile(
    r"(?P<before>\b[A-Z0-9_]*(?:SECRET|TOKEN|PASSWORD|API_KEY)[A-Z0-9_]*=)"
    r"(?!['\"]?\$|\*\*\*)[^\s;&]+"
)
_SECRETS = (
    (_USER, rf"\g<before>{SHOWN}@"),
    (_QUERY, rf"\g<before>{SHOWN}"),
    (_VARIABLE, rf"\g<before>{SHOWN}"),
)


def masked(text: str) -> str:
    """The text with every secret in it replaced by ***."""
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


def refuse_secrets(value: Any, where: str = "") -> None:
    """Raise ValueError, which does not repeat it, where a text in `value` (nested as a config
    is) holds a secret.
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            refuse_secrets(item, f"{where}.{name}" if where else str(name))
    elif isinstance(value, str):
        if masked(value) != value:
            raise ValueError(
                f"{where + ': ' if where else ''}{masked(value)} holds credentials, which do not "
                "belong in an address or a setting: export AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY (and what else they are) in the shell instead"
            )
    elif isinstance(value, Iterable):
        for item in value:
            refuse_secrets(item, where)
