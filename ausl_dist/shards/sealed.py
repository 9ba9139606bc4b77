"""JSON that carries a checksum of itself: a bit flipped on the way would otherwise just be another
number.

    {"clips": 3} ──sealed_json──▶ {"clips": 3, "checksum": "…"} ──unsealed_json──▶ the values
"""

import json
from collections.abc import Callable
from typing import Any

import xxhash

SEAL = b' "checksum"'


class DamagedError(ValueError):
    """Bytes whose checksum is wrong."""


def sealed_json(values: dict[str, Any]) -> bytes:
    """JSON whose last entry is a checksum of all bytes before it."""
    body = (
        json.dumps(values, indent=1, ensure_ascii=False).encode().removesuffix(b"\n}") + b",\n"
    )
    return body + b'%s: "%s"\n}\n' % (SEAL, xxhash.xxh3_128_hexdigest(body).encode())


def unsealed_json(
    data: bytes, object_hook: Callable[[dict[str, Any]], Any] | None = None
) -> Any:
    """The values of `sealed_json`; DamagedError where the checksum is wrong."""
    body, _, seal = data.rpartition(SEAL)
    if seal != b': "%s"\n}\n' % xxhash.xxh3_128_hexdigest(body).encode():
        raise DamagedError(
            "is damaged, or was changed by hand (its checksum is wrong); read it again, "
            "or index the shards again"
        )
    return json.loads(data, object_hook=object_hook)
