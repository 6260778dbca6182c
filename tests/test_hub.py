"""Checkpoints by a hub name, from a stand-in server on this machine. No test needs a network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

import gemmule
from checkpoints import make_checkpoint
from gemmule.checkpoints import hub as hub_module
from gemmule.checkpoints import hub_record
from gemmule.reference import read_file
from gguf_models import make_gguf
from golden_cases import FIXTURES
from hub_server import COMMIT, Hub, folder_files, serve
from test_golden import LOGIT_BOUND

NAME = "org/tiny"
IDS = np.arange(3, 20)
TEXT_OF_TINY = {"config.json", "generation_config.json", "model.safetensors"}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("hub") / "tiny", mobile=True)


@pytest.fixture
def hub(tiny, tmp_path, monkeypatch):
    """A hub with the tiny checkpoint and files that text does not need; the cache is empty."""
    others = {"README.md": b"# Tiny", "pytorch_model.bin": b"pickle", "consolidated.safetensors": b"another copy"}
    hub = Hub(folder_files(tiny) | others)
    server = serve(hub)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def offline(hub, monkeypatch):
    """A call that turns the network off, as HF_HUB_OFFLINE does at a program's start."""
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def logits(model):
    return model.logits(IDS)


def test_load_downloads_what_text_needs(hub, tiny):
    model = gemmule.load(NAME)
    assert np.array_equal(logits(model), logits(gemmule.load(tiny)))
    assert set(hub.downloads()) == TEXT_OF_TINY


def test_pull_returns_the_folder_and_downloads_once(hub):
    folder = gemmule.pull(NAME)
    assert {file.name for file in folder.iterdir()} == TEXT_OF_TINY
    assert gemmule.pull(NAME) == folder
    assert len(hub.downloads()) == len(TEXT_OF_TINY)


def test_a_daemon_pulls(hub, monkeypatch):
    """It has no standard error, and so no bars."""
    monkeypatch.setattr(sys, "stderr", None)
    assert {file.name for file in gemmule.pull(NAME).iterdir()} == TEXT_OF_TINY


def test_a_folder_wins(hub, tiny, tmp_path):
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "tiny").symlink_to(tiny)
    assert gemmule.load(NAME).vocab_size == 160
    assert hub.requests == []


def test_shards_come_with_their_index(hub, tmp_path):
    hub.files = folder_files(make_checkpoint(tmp_path / "parts", shards=3))
    folder = gemmule.pull(NAME)
    assert len(list(folder.glob("model-0000?-of-00003.safetensors"))) == 3
    assert gemmule.load(NAME).vocab_size == 160


def test_a_broken_download_goes_on_where_it_ended(hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)  # bytes; what has not filled one is lost
    hub.breaks = {"model.safetensors": 1000}
    folder = gemmule.pull(NAME)
    ranges = [at for method, path, at in hub.requests if path.endswith("model.safetensors") and method == "GET"]
    assert ranges == [None, "bytes=1000-"]
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_complete_files_are_kept_when_others_fail(hub):
    hub.denied_files = {"model.safetensors": (403, "", "")}
    with pytest.raises(gemmule.AccessError):
        gemmule.pull(NAME)
    hub.requests.clear()
    hub.denied_files = {}
    gemmule.pull(NAME)
    assert "model.safetensors" in hub.downloads()
    assert len(hub.downloads()) < 3


def test_a_wrong_hash_is_refused_and_downloaded_again(hub):
    hub.damaged = {"model.safetensors"}
    with pytest.raises(gemmule.FormatError) as caught:
        gemmule.load(NAME)
    assert caught.value.expected == hub.sha256("model.safetensors")
    assert caught.value.file.endswith("model.safetensors")
    hub.damaged = set()
    assert gemmule.load(NAME).vocab_size == 160


def test_a_file_is_hashed_once_and_again_when_it_changed(hub, monkeypatch, offline):
    hashed = []
    sha256_of = hub_record.sha256_of
    monkeypatch.setattr(hub_record, "sha256_of", lambda file, bar: hashed.append(file.name) or sha256_of(file, bar))
    folder = gemmule.pull(NAME)
    gemmule.pull(NAME)
    assert hashed == ["model.safetensors"]
    offline()
    gemmule.load(NAME)
    assert hashed == ["model.safetensors"]

    weights = (folder / "model.safetensors").resolve()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    os.utime(weights, ns=(1, 1))  # clocks may be too coarse to show the change
    with pytest.raises(gemmule.FormatError, match="SHA-256"):
        gemmule.load(NAME)
    assert hashed == ["model.safetensors"] * 2


@pytest.mark.parametrize("how", ["offline", "local_files_only", "no answer"])
def test_without_a_network_the_cache_serves(hub, offline, how, monkeypatch):
    only = {"local_files_only": True} if how == "local_files_only" else {}

    def cut_off():
        if how == "offline":
            offline()
        elif how == "no answer":
            monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port: nothing listens

    expected = logits(gemmule.load(NAME))
    cut_off()
    hub.requests.clear()
    assert np.array_equal(logits(gemmule.load(NAME, **only)), expected)
    assert hub.requests == []
    missing = gemmule.NetworkError if how == "no answer" else gemmule.MissingFileError
    with pytest.raises(missing, match="org/other") as caught:
        gemmule.load("org/other", **only)
    assert caught.value.remedy


def test_an_incomplete_cache_does_not_serve(hub, offline):
    folder = gemmule.pull(NAME)
    (folder / "model.safetensors").unlink()
    offline()
    with pytest.raises(gemmule.MissingFileError, match="cache"):
        gemmule.load(NAME)


def test_another_program_may_have_filled_the_cache(hub, offline):
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(NAME))
    offline()
    assert gemmule.pull(NAME) == folder


@pytest.mark.parametrize(
    ("denied", "error", "words"),
    [
        ((404, "RepoNotFound", ""), gemmule.MissingFileError, "no such repository"),
        ((404, "", ""), gemmule.MissingFileError, "no such repository"),
        ((401, "", "Invalid credentials in Authorization header"), gemmule.AccessError, "401"),
        ((401, "RepoNotFound", ""), gemmule.MissingFileError, "no such repository"),
        ((403, "", ""), gemmule.AccessError, "403"),
        ((403, "GatedRepo", ""), gemmule.AccessError, "terms"),
        ((500, "", ""), gemmule.NetworkError, "500"),
    ],
)
def test_refusals_of_the_hub(hub, denied, error, words):
    hub.denied = denied
    with pytest.raises(error, match=words) as caught:
        gemmule.load(NAME)
    assert caught.value.remedy
    assert NAME in str(caught.value)


def test_a_gated_repository_lists_its_files_but_does_not_give_them(hub):
    hub.denied_files = dict.fromkeys(hub.files, (403, "GatedRepo", "Access to model is restricted"))
    with pytest.raises(gemmule.AccessError, match="terms must be accepted") as caught:
        gemmule.load(NAME)
    assert f"{hub.url}/{NAME}" in caught.value.remedy
    assert "hf auth login" in caught.value.remedy


def test_a_token_is_sent(hub):
    hub.token = "hf_secret"
    with pytest.raises(gemmule.AccessError):
        gemmule.pull(NAME)
    assert gemmule.load(NAME, token="hf_secret").vocab_size == 160


def test_revisions(hub, tmp_path):
    with pytest.raises(gemmule.MissingFileError, match="no revision 'v9'"):
        gemmule.load(NAME, revision="v9")
    assert gemmule.pull(NAME, revision=COMMIT, cache_dir=tmp_path / "own").name == COMMIT
    assert (tmp_path / "own" / "models--org--tiny").is_dir()


def test_a_full_disk_is_seen_before_the_download(hub, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(hub_module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(gemmule.ResourceError, match="too full") as caught:
        gemmule.pull(NAME)
    assert "cache_dir" in caught.value.remedy
    assert hub.downloads() == []


def test_a_disk_that_runs_full(hub, monkeypatch):
    monkeypatch.setattr(hub_module, "_snapshot", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(gemmule.ResourceError, match="ran full"):
        gemmule.pull(NAME)


GGUF = {
    "README.md": b"# Several",
    "tiny-Q4_0.gguf": b"GGUF four",
    "tiny-Q8_0-00001-of-00002.gguf": b"GGUF one",
    "tiny-Q8_0-00002-of-00002.gguf": b"GGUF two",
    "mmproj-tiny-F16.gguf": b"GGUF tower",
}


def test_one_of_several_gguf_files_must_be_chosen(hub):
    hub.files = GGUF
    with pytest.raises(gemmule.ArgumentError) as caught:
        gemmule.pull(NAME)
    for name in ("tiny-Q4_0.gguf", "tiny-Q8_0-00001-of-00002.gguf"):
        assert name in str(caught.value)
    assert "mmproj" not in str(caught.value)
    assert "00002-of" not in str(caught.value)
    assert gemmule.pull(f"{NAME}:tiny-Q4_0.gguf").read_bytes() == b"GGUF four"
    assert gemmule.pull(NAME, file="tiny-Q8_0-00001-of-00002.gguf").name == "tiny-Q8_0-00001-of-00002.gguf"
    assert sorted(hub.downloads()) == sorted(set(GGUF) - {"README.md", "mmproj-tiny-F16.gguf"})
    with pytest.raises(gemmule.MissingFileError, match=r"no GGUF file other\.gguf") as caught:
        gemmule.pull(f"{NAME}:other.gguf")
    assert "tiny-Q4_0.gguf" in caught.value.remedy


def test_the_only_gguf_file_is_taken(hub):
    hub.files = {name: data for name, data in GGUF.items() if "Q8" not in name}
    assert gemmule.pull(NAME).name == "tiny-Q4_0.gguf"
    assert hub.downloads() == ["tiny-Q4_0.gguf"]


@pytest.mark.parametrize("place", ["model-Q4_0.gguf", "Q4_0/model.gguf"])
def test_a_gguf_file_gives_the_golden_logits(hub, place):
    golden = read_file(FIXTURES / "gguf_e2b" / "golden-Q4_0.safetensors")
    data = (FIXTURES / "gguf_e2b" / "model-Q4_0.gguf").read_bytes()
    hub.files = {"README.md": b"# Tiny", place: data}
    model = gemmule.load(NAME, activations="float32", kv="float32")
    logits = model.logits(golden["input_ids"].astype(np.int32))[golden["rows"]]
    assert np.abs(logits - golden["logits"]).max() <= LOGIT_BOUND
    assert model.tokenizer is not None
    assert gemmule.inspect(NAME).parameters >= model.info["parameters"]
    (file,) = gemmule.verify(NAME).files
    assert (file.name, file.bytes) == (place, len(data))
    assert file.sha256 == file.expected_sha256 == hub.sha256(place)
    with pytest.raises(gemmule.ResourceError, match="memory_limit"):
        gemmule.load(NAME, memory_limit=gemmule.estimate(NAME).resident - 1)


def test_a_split_gguf_model(hub, tmp_path):
    first = make_gguf(tmp_path / "parts", parts=3)
    hub.files = folder_files(first.parent)
    model = gemmule.load(NAME)
    assert sorted(hub.downloads()) == sorted(hub.files)
    assert np.array_equal(logits(model), logits(gemmule.load(first)))
    assert [file.name for file in gemmule.verify(NAME).files] == sorted(hub.files)


def test_verify_reads_one_of_several_gguf_files(hub):
    data = (FIXTURES / "gguf_dense" / "model-Q4_0.gguf").read_bytes()
    hub.files = {"a-Q4_0.gguf": data, "b-Q4_0.gguf": data}
    path = gemmule.pull(NAME, file="a-Q4_0.gguf")
    gemmule.pull(NAME, file="b-Q4_0.gguf")
    assert [file.name for file in gemmule.verify(f"{NAME}:a-Q4_0.gguf").files] == ["a-Q4_0.gguf"]
    blob = path.resolve()
    blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    report = gemmule.verify(f"{NAME}:a-Q4_0.gguf")
    assert ("a-Q4_0.gguf", "wrong hash") in [(finding.where, finding.what) for finding in report.findings]
    assert not report


FIELDS = {"sha256": "0" * 64, "size": 1}
RECORDS = {
    "a whole path": {"/etc/passwd": FIELDS},
    "a path outside": {"../../../model.safetensors": FIELDS, "x/../model.safetensors": FIELDS},
    "no name": {"": FIELDS, ".": FIELDS},
    "a name that colours": {"\x1b[31m": FIELDS},
    "a name too long": {"x" * 256: FIELDS, "x/" * 3000: FIELDS},
    "half a character": {"\ud800": FIELDS},
    "a hash that is a list": {"config.json": FIELDS | {"sha256": []}},
    "a size in words": {"config.json": FIELDS | {"size": "1"}},
    "a time that is a list": {"config.json": FIELDS | {"checked_mtime_ns": []}},
    "other fields": {"config.json": FIELDS | {"other": 1}},
    "no fields": {"config.json": None},
    "a list of files": [FIELDS],
}


@pytest.mark.parametrize("files", RECORDS.values(), ids=RECORDS)
def test_a_record_that_lies_is_none(tiny, tmp_path, files):
    """No file outside of the snapshot is hashed, or even looked at."""
    snapshot = tmp_path / "models--org--tiny" / "snapshots" / COMMIT
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(tiny)
    hub_record.write(snapshot, {})
    hub_record.record_of(snapshot).write_text(json.dumps({"format": 1, "files": files}))
    assert hub_record.read(snapshot) == {}
    assert [file.name for file in gemmule.verify(snapshot).files] == ["model.safetensors"]


@pytest.mark.parametrize("text", ["", "[" * 100_000, "7", "{}", '{"format": 1}', '{"format": 2, "files": {}}', "\xff"])
def test_a_record_that_is_none(tmp_path, text):
    snapshot = tmp_path / "models--org--tiny" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    hub_record.write(snapshot, {})
    hub_record.record_of(snapshot).write_text(text, encoding="latin-1")
    assert hub_record.read(snapshot) == {}


def test_a_repository_without_weights(hub):
    hub.files = {"README.md": b"# Empty", "pytorch_model.bin": b"pickle"}
    with pytest.raises(gemmule.UnsupportedError, match=r"model\.safetensors"):
        gemmule.pull(NAME)


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "org/tiny:", "../tiny", ""])
def test_no_name_of_a_repository(hub, name):
    with pytest.raises(gemmule.ArgumentError, match="no repository's name"):
        gemmule.pull(name)
    assert hub.requests == []


def test_a_tokenizer_alone_is_not_downloaded(hub):
    with pytest.raises(gemmule.MissingFileError) as caught:
        gemmule.Tokenizer.from_pretrained(NAME)
    assert f"gemmule pull {NAME}" in caught.value.remedy


@pytest.mark.parametrize("path", ["org/" + "x" * 5000, "no/such/folder", "org/tiny/", "org/model.gguf"])
def test_other_paths_do_not_ask_the_hub(hub, path):
    with pytest.raises(gemmule.MissingFileError):
        gemmule.load(path)
    assert hub.requests == []


def test_looking_at_a_checkpoint_downloads_nothing(hub):
    for look in (gemmule.inspect, gemmule.estimate, gemmule.verify):
        with pytest.raises(gemmule.MissingFileError) as caught:
            look(NAME)
        assert caught.value.remedy == f"Download it first: gemmule pull {NAME}"
    assert hub.requests == []
    folder = gemmule.pull(NAME)
    assert gemmule.inspect(NAME).path == str(folder)
    report = gemmule.verify(NAME)
    assert [file.expected_sha256 == file.sha256 for file in report.files] == [True]


def test_the_command_line_and_a_mirror(hub, tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}

    def run(*arguments, **more):
        command = [sys.executable, "-m", "gemmule", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, env={**environment, **more}
        )

    done = run("pull", NAME)
    assert (done.returncode, done.stderr) == (0, "")
    folder = Path(done.stdout.strip())
    assert folder.is_relative_to(tmp_path / "home")
    done = run("pull", NAME, "--json", HF_HUB_OFFLINE="1")
    assert json.loads(done.stdout) == {"repository": NAME, "path": str(folder)}
    done = run("pull", "org/other")
    assert done.returncode == 1
    cause, remedy = done.stderr.splitlines()
    assert "no such repository" in cause
    assert remedy
