"""WebDataset shards as other people's writers make them."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path


def write_tar(
    path: Path, members: Mapping[str, bytes | str], form: int = tarfile.PAX_FORMAT
) -> Path:
    """A tar of these members, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members.items():
            content = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path
