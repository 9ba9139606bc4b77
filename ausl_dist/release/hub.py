"""A bundle onto a hub, as it is: what `load_backbone("hf-hub:ORG/NAME")` and timm then fetch is
byte for byte the folder.

Credentials come the hub client's own ways: `hf auth login`, or HF_TOKEN. HF_ENDPOINT names
another hub.
"""

import re
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError

from ausl_dist.release.load import load_backbone

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write there"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*")


def check_repository(name: str) -> None:
    """Raises ValueError where it is not ORG/NAME, or nobody is logged in."""
    if not REPOSITORY.fullmatch(name):
        raise ValueError(f"a repository on the hub is named ORG/NAME, not {name!r}")
    if get_token() is None:
        raise ValueError(f"nobody is logged in who could write to {name}: {LOG_IN}")


def push(bundle: Path, repository: str) -> str:
    """Upload a bundle as one commit and return the commit's address; files of an older release
    there are removed.

    A repository that does not exist is made, and is private until its owner opens it: the
    licences of the training data may bind the weights. Raises BundleError for a changed bundle,
    and ValueError where the hub refuses.
    """
    check_repository(repository)
    info = load_backbone(bundle).info
    hub = HfApi()
    try:
        hub.create_repo(repository, private=True, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repository,
            folder_path=bundle,
            commit_message=info.release,
            delete_patterns="*",
        )
    except HfHubHTTPError as error:
        raise ValueError(
            f"the hub at {hub.endpoint} refused {repository} ({error}): {LOG_IN}"
        ) from error
    return str(commit.commit_url)
