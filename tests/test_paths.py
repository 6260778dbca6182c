"""Paths that the system does not let see, that lead nowhere or in a circle, or that nobody has."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

import gemmule
from checkpoints import make_checkpoint
from drafter_folders import make_drafter
from fakes import TOKENIZER
from golden_cases import FIXTURES

NOBODY = 65534

DOORS = {
    "load": gemmule.load,
    "inspect": gemmule.inspect,
    "estimate": gemmule.estimate,
    "verify": gemmule.verify,
    "convert": lambda path: gemmule.convert(path, f"{path}-out", to="bf16"),
    "tokenizer": gemmule.Tokenizer.from_pretrained,
}


@pytest.fixture
def place():
    """A folder that every user may enter; those of pytest are their owner's alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def unprivileged():
    """A call that gives up root's right to see everything, till the test ends."""
    mine = os.geteuid()
    yield lambda: mine or os.seteuid(NOBODY)
    os.seteuid(mine)


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_a_folder_that_may_not_be_searched(place, unprivileged, door):
    folder = make_checkpoint(place / "model")
    folder.chmod(0)
    unprivileged()
    with pytest.raises(gemmule.ResourceError, match="Permission denied") as caught:
        door(str(folder))
    assert caught.value.file == str(folder / "config.json")
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_link_that_may_not_be_followed(place, unprivileged, name):
    folder = make_checkpoint(place / "model")
    for each in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / each, folder)
    (place / "secret").mkdir(mode=0)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(place / "secret" / name)
    unprivileged()
    with pytest.raises(gemmule.ResourceError, match=f"{name}: Permission denied"):
        _ = gemmule.load(folder).tokenizer


def test_a_folder_that_may_not_be_listed(place, unprivileged):
    (place / "model").mkdir(mode=0o111)
    unprivileged()
    with pytest.raises(gemmule.ResourceError, match="model: Permission denied"):
        gemmule.load(place / "model")


@pytest.mark.parametrize("target", ["nowhere", "x.safetensors"])
def test_links_that_nothing_names(tmp_path, target):
    folder = Path(shutil.copytree(FIXTURES / "e2b", tmp_path / "model"))
    config = gemmule.load(folder).info["config"]
    drafter = make_drafter(
        tmp_path / "drafter", config, ordered=True, changed={"per_layer_config": {"3": {"head_dim": 64}}}
    )
    for each in (folder, drafter):
        (each / "x.safetensors").symlink_to(target)
    assert gemmule.load(folder, mtp=drafter).info["drafter"]
    assert gemmule.estimate(folder, mtp=drafter).drafter
    assert gemmule.convert(folder, tmp_path / "out", to="bf16")


def test_the_home_of_nobody(tmp_path):
    for path in ("~nobody-of-this-name/x", "~nobody-of-this-name"):
        with pytest.raises(gemmule.ArgumentError, match="expected a path"):
            gemmule.load(path)
        with pytest.raises(gemmule.ArgumentError, match="expected a path"):
            gemmule.pull("org/tiny", cache_dir=path)
