"""Files from strangers: each of hundreds of lies is an exception of the right kind that names file and tensor or key,
what was expected and what was found. It comes within a tenth of a second, takes little memory, and prints nothing.

The cases are in hostile/, a file for each family; they are made anew for each run.
"""

import json
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from gemmule._core.testing import gguf

import gemmule
from checkpoints import make_checkpoint, write_safetensors
from fakes import TOKENIZER
from gemmule.errors import FormatError, GemmuleError
from gemmule.reference import read_folder
from hostile import config_cases, gguf_model_cases, template_cases
from hostile.case import LOOKS, Case
from hostile.families import FAMILIES
from hostile_gguf import Gguf, tensor
from memory_peak import peak_growth

TESTS = Path(__file__).parent
SECONDS, BYTES = 0.1, 64e6

CASES = [
    pytest.param(case, id=f"{family.__name__.removeprefix('hostile.').removesuffix('_cases')}: {case.name}")
    for family in FAMILIES
    for case in family.cases()
]


def refusal(call, path: Path) -> GemmuleError:
    with pytest.raises(GemmuleError) as caught:
        call(str(path))
    return caught.value


def test_there_are_many():
    assert len(CASES) >= 250
    assert len({case.id for case in CASES}) == len(CASES)


def test_the_table_of_known_attacks_names_what_there_is():
    """Of SECURITY.md: cases by their names, with an ellipsis for a part of one, and functions of tests."""
    names = {case.values[0].name for case in CASES}
    functions = {
        name for file in TESTS.glob("test_*.py") for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
    }
    rows = [line for line in (TESTS.parent / "SECURITY.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    for row in rows:
        covered = row.strip("|").split(" | ")[-1]
        assert functions.issuperset(re.findall(r"`(\w+)`", covered))
        quoted = re.findall(r'"([^"]+)"', covered)
        assert quoted or "`" in covered, row
        for name in quoted:
            pattern = ".*".join(re.escape(part) for part in name.split("\N{HORIZONTAL ELLIPSIS}"))
            assert any(re.fullmatch(pattern, each) for each in names), name


@pytest.mark.parametrize("case", CASES)
def test_is_refused(case: Case, tmp_path, capfd):
    path = case.write(tmp_path)
    case.check(refusal(case.open, path), tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("case", CASES)
def test_soon_and_in_little_memory(case: Case, tmp_path):
    """The least of three times, of the processor: the machine has other things to do."""
    path = case.write(tmp_path)
    growth = peak_growth(lambda: refusal(case.open, path))
    assert growth < BYTES
    times = []
    while not times or (len(times) < 3 and times[-1] >= SECONDS):
        begin = time.process_time()
        refusal(case.open, path)
        times.append(time.process_time() - begin)
    assert times[-1] < SECONDS, times


@pytest.mark.parametrize("case", CASES)
def test_to_those_who_only_look(case: Case, tmp_path, capfd):
    """Those that look at a checkpoint without running it may see nothing wrong. They do not fail in another way."""
    path = case.write(tmp_path)
    for look in LOOKS:
        begin = time.process_time()
        try:
            str(look(path))
        except GemmuleError as error:
            said = error
        else:
            said = None
        assert time.process_time() - begin < 2
        assert not isinstance(said, FormatError) or (said.expected and said.found and said.remedy), str(said)
    assert capfd.readouterr() == ("", "")


def test_truncation_at_every_byte_of_a_header(tmp_path):
    """Of a whole model: its keys, strings, arrays and descriptions."""
    whole = gguf_model_cases.dense().pack()
    end = max(whole.rindex(each.name.encode()) for each in gguf_model_cases.dense().tensors)
    path = tmp_path / "model.gguf"
    path.write_bytes(whole[:end])
    for size in reversed(range(end)):
        os.truncate(path, size)
        error = refusal(gguf, path)
        assert isinstance(error, gemmule.FormatError)
        assert error.file == str(path)
        assert error.expected
        assert error.found


@pytest.mark.parametrize("name", gguf_model_cases.ODD_NAMES)
def test_tensors_of_odd_names_are_unknown(name, tmp_path):
    file = gguf_model_cases.dense()
    path = Gguf(file.keys, [*file.tensors, tensor(name)]).write(tmp_path / "model.gguf")
    assert gemmule.load(path).info["unknown_tensors"] == [name]
    assert gemmule.inspect(path).unknown == (name,)
    assert gemmule.verify(path)


def test_layers_of_many_digits_are_unknown(tmp_path):
    name = f"model.language_model.layers.{'9' * 900}.self_attn.q_proj.weight"
    make_checkpoint(tmp_path, dtype="F32")
    write_safetensors(tmp_path / "model.safetensors", read_folder(tmp_path) | {name: np.zeros(3, np.float32)})
    assert gemmule.load(tmp_path).info["unknown_tensors"] == [name]
    assert gemmule.inspect(tmp_path).unknown == (name,)


@pytest.mark.parametrize("rule", [r"((\w|\.)+)+!", "(a|a)*" * 20 + "!", "([a-z._]|[a-z._])" * 30 + "!", "(" * 5000])
def test_rules_without_end_are_left_alone(rule, tmp_path):
    """A rule is a regular expression that names of tensors are searched with."""
    make_checkpoint(tmp_path, mobile=True, leftovers=True)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    rules = config["quantization_config"]["module_quant_configs"]
    config["quantization_config"]["module_quant_configs"] = {rule: {"num_bits": 2}} | rules
    file.write_text(json.dumps(config))
    begin = time.process_time()
    assert "leftovers" in str(gemmule.inspect(tmp_path))
    assert time.process_time() - begin < 1


def test_a_lie_is_no_lack_of_memory(tmp_path):
    """The estimate before loading believes a config; the engine holds it to the tensors."""
    folder = config_cases.write_beside_weights(tmp_path, config_cases.with_text({"intermediate_size": 1 << 20}))
    with pytest.raises(gemmule.FormatError, match="wrong kind"):
        gemmule.load(folder, memory_limit=100_000_000)
    folder = config_cases.write_beside_weights(tmp_path, config_cases.with_text({}))
    with pytest.raises(gemmule.ResourceError, match="memory_limit"):
        gemmule.load(folder, memory_limit=1_000_000)


def test_a_named_pipe_is_not_waited_for(tmp_path):
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        folder = make_checkpoint(tmp_path / name)
        (folder / "tokenizer.json").write_bytes((TOKENIZER / "tokenizer.json").read_bytes())
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        with pytest.raises(gemmule.GemmuleError, match=name):
            _ = gemmule.load(folder).tokenizer


def write_template(folder: Path, template: str) -> Path:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((TOKENIZER / name).read_bytes())
    (folder / "chat_template.jinja").write_text(template)
    return folder


def render(folder: Path) -> str:
    return gemmule.Tokenizer.from_pretrained(folder).apply_chat_template([{"role": "user", "content": "Hi"}])


@pytest.mark.parametrize(("template", "reason"), template_cases.ENDLESS.values(), ids=template_cases.ENDLESS.keys())
def test_endless_templates_end(template, reason, tmp_path, capfd):
    folder = write_template(tmp_path, template)
    begin = time.monotonic()
    errors = []
    growth = peak_growth(lambda: errors.append(refusal(render, folder)))
    assert time.monotonic() - begin < 20
    assert growth < BYTES
    (error,) = errors
    case = Case("a template", lambda folder: folder, reason, file=r"chat_template\.jinja")
    case.check(error, folder)
    assert capfd.readouterr() == ("", "")


def test_a_template_that_refuses_at_length(tmp_path):
    folder = write_template(tmp_path, template_cases.LONG_REFUSAL)
    error = refusal(render, folder)
    assert isinstance(error, gemmule.ArgumentError)
    assert len(str(error)) < 2000


@pytest.mark.parametrize("letter", ["x", "\N{FOX FACE}"])
def test_the_longest_text_of_a_template(letter, tmp_path):
    folder = write_template(tmp_path, "{{ '" + letter + "' * 2097152 }}")
    texts = []
    assert peak_growth(lambda: texts.append(render(folder))) < BYTES
    assert texts == [letter * 2_097_152]


def test_a_template_that_is_too_long(tmp_path):
    folder = write_template(tmp_path, " " * 2_000_000)
    assert peak_growth(lambda: refusal(gemmule.Tokenizer.from_pretrained, folder)) < BYTES
    error = refusal(gemmule.Tokenizer.from_pretrained, folder)
    Case("", lambda folder: folder, "too long", file=r"chat_template\.jinja").check(error, folder)
