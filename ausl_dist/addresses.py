"""Secrets do not belong in addresses: they would stand in configs, logs, records and process
lists.

    s3://KEY:SECRET@bucket/name        refused, shown as s3://***@bucket/name
    https://host/name?X-Amz-Signature=…     refused, shown as …?X-Amz-Signature=***
    AWS_SECRET_ACCESS_KEY=…            refused, shown as AWS_SECRET_ACCESS_KEY=***
    password: …, "api_key": …          refused, shown as password: ***
    hf_…, ghp_…, AIza…, Bearer …       refused, shown as hf_*** and so on

What starts with $ is the name of a variable and no secret.
"""

import logging
import re
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

SHOWN = "***"
# Secret keys of S3 may hold slashes, so a colon that no port follows reaches as far as the last
# @.
_USER = re.compile(
    r"(?P<before>[a-z][a-z0-9+.-]*://)"
    r"(?:[^\s/@'\"]*:(?!\d+(?:[/\s'\"]|$))[^\s'\"]*@"
    # in Azure's addresses a container stands before the @
    r"|(?<!abfs://)(?<!abfss://)(?<!wasb://)(?<!wasbs://)[^\s/@'\"]+@)",
    re.I,
)
_QUERY = re.compile(
    r"(?P<before>(?:[?&;#]|%3F|%26)"  # an address in another one's query is written with %
    r"(?:X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|GoogleAccessId"
    r"|Signature|sig|auth|authorization|credentials?"
    r"|[a-z_-]*(?:token|secret|password|passwd|pwd|(?:api|access|account)[_-]?key))(?:=|%3D))"
    r"(?!\$|\*\*\*)[^&;\s'\"]+",
    re.I,
)
# Tokens that can be told by their form, wherever they stand.
_TOKEN = re.compile(
    r"(?P<before>\b(?:hf_|gh[pousr]_|github_pat_|glpat-|xox[abp]-|AIza|ya29\.|sk-|eyJ|Bearer |Basic "
    r"|A[KS]IA[A-Z0-9]{16}:))"
    r"(?=[\w.~+/=-]*\d)[\w.~+/=-]{16,}"
)
_VARIABLE = re.compile(
    r"(?P<before>\b[A-Z0-9_]*(?:SECRET|TOKEN|PASSWORD|API_KEY)[A-Z0-9_]*=)"
    r"(?!['\"]?\$|\*\*\*)[^\s;&]+"
)
# A value under a name that says what it is, as YAML, JSON and overrides write it.
_NAMED = re.compile(
    r"(?P<before>\b[\w.-]*(?:secret|token|passw(?:or)?d|credentials?"
    r"|(?:secret|secret[_-]?access|api|account|private)[_-]?key)['\"]?\s?[=:]\s?['\"]?)"
    r"(?!\$|\*\*\*|(?:null|none|true|false)\b|//)[^\s,;&'\"{}\[\]()]+",
    re.I,
)
_SECRETS = (
    (_USER, rf"\g<before>{SHOWN}@"),
    (_QUERY, rf"\g<before>{SHOWN}"),
    (_TOKEN, rf"\g<before>{SHOWN}"),
    (_VARIABLE, rf"\g<before>{SHOWN}"),
    (_NAMED, rf"\g<before>{SHOWN}"),
)


def masked(text: str) -> str:
    """The text with every secret in it replaced by ***."""
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


def masked_traceback() -> str:
    """The traceback of the exception that is being handled, without secrets."""
    return masked(traceback.format_exc())


class MaskedFormatter(logging.Formatter):
    """Lines of a log, and the tracebacks in it, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def log_masked(form: str) -> None:
    """Log to the standard error from INFO on, in this form and without secrets."""
    handler = logging.StreamHandler()
    handler.setFormatter(MaskedFormatter(form))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def refuse_secrets(value: Any, where: str = "") -> None:
    """Raise ValueError, which does not repeat it, where a text in `value` (nested as a config
    is) holds a secret.
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            below = f"{where}.{name}" if where else str(name)
            if isinstance(item, str) and _NAMED.search(f"{name}={item}"):
                raise ValueError(_refusal(below, SHOWN))
            refuse_secrets(item, below)
    elif isinstance(value, str):
        if masked(value) != value:
            raise ValueError(_refusal(where, masked(value)))
    elif isinstance(value, Iterable):
        for item in value:
            refuse_secrets(item, where)


def _refusal(where: str, shown: str) -> str:
    return (
        f"{where + ': ' if where else ''}{shown} holds credentials, which do not "
        "belong in an address or a setting: export AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY (and what else they are) in the shell instead"
    )
