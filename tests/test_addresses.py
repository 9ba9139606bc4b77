"""A secret that was typed is written nowhere and repeated nowhere."""

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ausl_dist.addresses import MaskedFormatter, masked, masked_traceback, refuse_secrets
from ausl_dist.command import mask_threads
from ausl_dist.shards.storage import connect
from launch.compose import compose, compose_cluster
from launch.prepare import change_cluster, prepare

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCY"  # the shape of a real one, slashes included
WITH_SECRETS = [
    f"s3://AKIAEXAMPLE:{SECRET}@bucket/faces",
    f"S3://AKIAEXAMPLE:{SECRET}@bucket",
    f"s3://{SECRET.replace('/', '')}@bucket/faces",
    f"simplecache::s3://AKIAEXAMPLE:{SECRET}@bucket/faces",
    f"https://host/faces?X-Amz-Algorithm=A&X-Amz-Signature={SECRET}",
    f"https://host/faces?x-amz-security-token={SECRET}",
    f"https://host/faces?AWSAccessKeyId={SECRET}&Expires=1",
    f"https://host/faces?sv=1&sig={SECRET}",
    f"https://storage/faces?X-Goog-Signature={SECRET}",
    f"https://host/faces?access_token={SECRET}#part",
    f"https://account.blob.core.windows.net/c/faces?sv=2024-11-04&sp=r&sig={SECRET}",
    f"az://c/faces?accountKey={SECRET}",
    f"gs://bucket/faces?auth={SECRET}",
    f"https://host/go?to=https%3A%2F%2Fother%2Ffaces%3FSignature%3D{SECRET}",
    f"https://host/faces#access_token={SECRET}",
    f"export AWS_SECRET_ACCESS_KEY={SECRET}",
    f"Authorization: Bearer {SECRET}",
    f"huggingface-cli login hf_{SECRET.replace('/', '')}x9",
    f"aws_secret_access_key = {SECRET}",
    f"password={SECRET}",
    f"HF_TOKEN: {SECRET}",
    f"{{AWS_SESSION_TOKEN: '{SECRET}'}}",
    f'{{"api_key": "{SECRET}"}}',
    f"AKIAIOSFODNN7EXAMPLE:{SECRET}9",
    f"sk-proj-{SECRET.replace('/', '')}9",
    f"s3:/AKIAEXAMPLE:{SECRET}@bucket/faces",
    f'password: "correct horse {SECRET}"',
    f"secret => {SECRET}",
    f"password  =  {SECRET}",
    f"{{'passphrase': b'{SECRET}'}}",
    f"accessKey: {SECRET}",
    f"authorization: token {SECRET}9",
    f"Authorization: bearer {SECRET}9",
    f"get --token {SECRET}9",
    f"npm_{SECRET.replace('/', '')}9",
    f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n{SECRET}\n-----END RSA PRIVATE KEY-----",
]
ADDRESSES = [text for text in WITH_SECRETS if "://" in text]
WITHOUT = [
    "s3://bucket/faces",
    "s3://bucket/someone@work/faces",
    "http://127.0.0.1:8333/bucket/a@b",
    "http://[::1]:8333/a",
    "/videos/me@home:2/clip.mp4",
    "abfs://container@account.dfs.core.windows.net/faces",
    "abfss://container@account.dfs.core.windows.net/faces",
    "hf-hub:somebody/face_backbone_v2_2024_large",
    "https://host/faces?versionId=3&prefix=sig",
    "git@host:faces.git",
    "export HF_TOKEN=$(cat ~/.token)",
    "export HF_TOKEN=$MINE",
    "observe.exporter.password_file=/run/secrets/scrape",
    "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE",
    "observe.password=null",
    "region_tokens=4",
    "cls_token=mean",
    "mask_token: learnable",
    "register_token: 4",
    "TOKENIZERS_PARALLELISM=false",
    "MAX_NEW_TOKENS=128",
    "MAX_TOKEN_COUNT=128",
    "a token: it is masked",
    "cannot read the token: No such file or directory",
    "no credentials: export AWS_ACCESS_KEY_ID and the other",
    "unexpected token: }",
    "no token: give --token FILE",
]


@pytest.mark.parametrize("text", WITH_SECRETS)
def test_a_secret_is_masked_and_refused_without_being_repeated(text: str) -> None:
    said = masked(f"error: {text} is no corpus, says 'botocore'")
    assert SECRET[8:] not in said
    assert "***" in said
    assert "is no corpus" in said
    assert masked(said) == said
    with pytest.raises(ValueError, match="AWS_SECRET_ACCESS_KEY") as refused:
        refuse_secrets({"data": {"corpora": [{"url": text}]}})
    assert SECRET[8:] not in str(refused.value)
    assert "data.corpora" in str(refused.value)


def test_a_secret_under_a_name_is_refused_without_being_repeated() -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "password", "apiKey", "my-secret"):
        with pytest.raises(ValueError, match=rf"cluster\.environment\.{name}") as refused:
            refuse_secrets({"cluster": {"environment": {name: SECRET}}})
        assert SECRET[8:] not in str(refused.value)
    refuse_secrets({"environment": {"HF_TOKEN": "$HF_TOKEN", "token": None, "tokens": "a"}})


def fails(text: str) -> None:
    raise RuntimeError(f"cannot read {text}")


@pytest.mark.parametrize("text", [WITH_SECRETS[0], WITH_SECRETS[4]])
def test_no_traceback_log_or_thread_shows_a_secret(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    formatter = MaskedFormatter("%(message)s")
    try:
        fails(text)
    except RuntimeError:
        said = masked_traceback()
        record = logging.LogRecord("a", 40, "a", 1, text, (), sys.exc_info())
        said += formatter.format(record)
    before = threading.excepthook
    mask_threads()
    try:
        thread = threading.Thread(target=fails, args=(text,))
        thread.start()
        thread.join()
    finally:
        threading.excepthook = before
    said += capsys.readouterr().err
    assert said.count("RuntimeError: cannot read") == 3
    assert SECRET[8:] not in said


def test_a_rank_shows_no_secret(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"name: '{WITH_SECRETS[0]}'\nnonsense: 1\n")
    ended = subprocess.run(
        [sys.executable, "-m", "ausl_dist.train", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 2
    assert SECRET[8:] not in ended.stdout + ended.stderr


@pytest.mark.parametrize("text", WITHOUT)
def test_what_only_looks_like_one_passes(text: str) -> None:
    assert masked(text) == text
    refuse_secrets([text])


@pytest.mark.parametrize(
    "piece", ["a.", "a", "secret=", "token=1", "sk-", "a://b:c", "&token="]
)
def test_long_texts_of_others_are_masked_in_time_that_grows_as_they_do(piece: str) -> None:
    started = time.process_time()
    masked(piece * (200_000 // len(piece)))
    assert time.process_time() - started < 20


@pytest.mark.parametrize("url", ADDRESSES)
def test_storage_does_not_open_an_address_with_a_secret(url: str) -> None:
    with pytest.raises(ValueError, match="credentials") as refused:
        connect(url)
    assert SECRET[8:] not in str(refused.value)


@pytest.mark.parametrize("url", ADDRESSES)
@pytest.mark.parametrize("key", ["data.corpora.main.url", "checkpoint.upload", "nonsense"])
def test_a_config_with_a_secret_is_not_composed(url: str, key: str) -> None:
    with pytest.raises(ValueError, match="credentials") as refused:
        compose(["experiment=demo", f"{key}='{url}'"])
    assert SECRET[8:] not in str(refused.value)


def test_a_secret_in_a_cluster_is_not_written(tmp_path: Path) -> None:
    words = ["experiment=demo", "data.corpora.main.url=/c", "cluster=slurm_cpu"]
    run = prepare(compose([*words, f"folder={tmp_path / 'run'}"]))
    before = (run / "cluster.yaml").read_text()
    with pytest.raises(ValueError, match="credentials"):
        change_cluster(run, [f"cluster.python={WITH_SECRETS[0]}"])
    assert (run / "cluster.yaml").read_text() == before
    assert compose_cluster("cluster=slurm")["setup"] == []


@pytest.mark.parametrize(
    "command",
    [
        "launch run experiment=demo folder={folder} data.corpora.main.url={url}",
        "launch resume {folder} cluster.python={url}",
        "tools.build_corpus {folder} --out {url}",
        "tools.index_shards {url}",
        "tools.inspect_corpus {url} --page {folder}/page.html",
        "tools.no_such_option --{url}",
    ],
)
def test_no_command_writes_or_shows_a_secret(command: str, tmp_path: Path) -> None:
    words = command.format(folder=tmp_path / "out", url=WITH_SECRETS[0]).split()
    if words[0] == "tools.no_such_option":
        words[0] = "tools.release"
    ended = subprocess.run(
        [sys.executable, "-m", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "HYDRA_FULL_ERROR": "1"},
    )
    assert ended.returncode == 2
    assert SECRET[8:] not in ended.stdout + ended.stderr
    assert "credentials" in ended.stderr
    assert not (tmp_path / "out").exists()
