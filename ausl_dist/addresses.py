"""Secrets do not belong in addresses: they would stand in configs, logs, records and process
lists.

    s3://KEY:SECRET@bucket/name        refused, shown as s3://***@bucket/name
    https://host/name?X-Amz-Signature=…     refused, shown as …?X-Amz-Signature=***
    AWS_SECRET_ACCESS_KEY=…            refused, shown as AWS_SECRET_ACCESS_KEY=***
    password: …, "api_key": …          refused, shown as password: *** (a sentence may go on:
                                       "no credentials: export them" is shown as it is)
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
    r"(?P<before>[a-z][a-z0-9+.-]{0,31}://|\b(?:s3a?|gs|az|https?):/(?!/))"
    r"(?:[^\s/@'\"]{0,512}:(?!\d{1,5}(?:[/\s'\"]|$))[^\s'\"]{0,512}@"
    # in Azure's addresses a container stands before the @
    r"|(?<!abfs://)(?<!abfss://)(?<!wasb://)(?<!wasbs://)[^\s/@'\"]{1,512}@)",
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
    r"(?P<before>\b(?:hf_|gh[pousr]_|github_pat_|glpat-|xox[abp]-|AIza|ya29\.|sk-|eyJ|npm_|dckr_pat_"
    r"|SG\.|(?i:bearer |basic |authorization: ?token )|A[KS]IA[A-Z0-9]{16}:))"
    r"(?=[\w.~+/=-]{0,512}\d)[\w.~+/=-]{16,}"
)
_PRIVATE_KEY = re.compile(
    r"(?P<before>-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?=-----END|\Z)", re.DOTALL
)
# What a name that says secret, token, … may hold all the same.
_PLAIN = r"\$|\*\*\*|(?:null|none|true|false)\b"
_VARIABLE = re.compile(
    r"(?P<before>(?:SECRET|TOKEN|PASSWORD|API_KEY)(?:_[A-Z0-9_]*)?=)"
    rf"(?!['\"]?(?i:{_PLAIN}|\d{{1,6}}\b))[^\s;&]+"
)
# A value under a name that says what it is, as YAML, JSON, overrides and options write it; in
# quotes to their end. After a colon a sentence may go on.
_SENTENCE = (
    r"(?:an?|the|it|its|is|are|as|no|not|see|give|set|use|export|choose|expected|must|this|that"
    r"|these|they|we|you|he|she|in|of|on|for|from|to|with|what|which|where|there|write) "
)
_IS = r"[ \t]{0,3}+(?>=>|[=:])[ \t]{0,3}+(?:b(?=['\"]))?+"
_VALUE = r"(?:\"[^\"\n]+\"|'[^'\n]+'|[^\s,;&'\"{}\[\]()]+)"
_NAMED = re.compile(
    r"(?P<before>(?:secret|passw(?:or)?d|passphrase|credentials?"
    r"|(?:secret|secret[_-]?access|access|api|account|private)[_-]?key)['\"]?"
    rf"{_IS})"
    rf"(?!b?['\"]?(?:{_PLAIN})|//|{_SENTENCE}){_VALUE}",
    re.I,
)
# Tokens are made by machines: long, and seldom of letters alone. A token of a network is not.
_NAMED_TOKEN = re.compile(
    r"(?P<before>token['\"]?" + _IS + r"['\"]?+)"
    r"(?!\$|\*\*\*|//)(?:(?=\S{0,512}\d)[^\s,;&'\"{}\[\]()]{8,}|[^\s,;&'\"{}\[\]()]{20,})",
    re.I,
)
_OPTION = re.compile(
    r"(?P<before>(?<!\S)--?[\w-]{0,64}(?:secret|token|passw(?:or)?d|(?:access|api|private)[_-]key) )"
    r"(?!-|\$|\*\*\*)(?=\S{0,512}\d)\S{8,}",
    re.I,
)
_SECRETS = (
    (_USER, rf"\g<before>{SHOWN}@"),
    (_QUERY, rf"\g<before>{SHOWN}"),
    (_TOKEN, rf"\g<before>{SHOWN}"),
    (_VARIABLE, rf"\g<before>{SHOWN}"),
    (_PRIVATE_KEY, rf"\g<before>{SHOWN}"),
    (_NAMED, rf"\g<before>{SHOWN}"),
    (_NAMED_TOKEN, rf"\g<before>{SHOWN}"),
    (_OPTION, rf"\g<before>{SHOWN}"),
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
            if isinstance(item, str) and masked(f"{name}={item}") != f"{name}={item}":
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
