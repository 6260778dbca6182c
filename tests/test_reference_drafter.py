"""The numpy drafter against the fixtures' golden values."""

import numpy as np
import pytest

from gemmule.reference import Reference, ReferenceDrafter, draft
from golden_cases import DRAFTER_FIXTURES, FIXTURES, draft_calls, read_case


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", DRAFTER_FIXTURES)
def test_recorded_steps(name, dtype):
    case = read_case(name)
    drafter = ReferenceDrafter(case.folder, dtype)
    for call in draft_calls(case):
        logits, vector = drafter.step(call.inputs, call.position, call.sliding, call.full)
        assert np.abs(logits - call.logits).max() <= 5e-4
        assert np.abs(vector - call.vector).max() <= 2e-4


@pytest.mark.parametrize("name", DRAFTER_FIXTURES)
def test_accepted_drafts(name):
    """Rounds of drafts and their verification, from the first new token on, which the prompt gives."""
    case = read_case(name)
    target, drafter = Reference(FIXTURES / "e2b", np.float32), ReferenceDrafter(case.folder, np.float32)
    said = case.golden["plain_ids"].tolist()
    ids, accepted = [*case.ids.tolist(), said[0]], [0]
    while len(ids) < len(case.ids) + len(said):
        drafts = draft(target, drafter, np.array(ids), case.facts["num_assistant_tokens"])
        wanted = said[len(ids) - len(case.ids) :]
        agreed = [ours == theirs for ours, theirs in zip(drafts, wanted, strict=False)]
        accepted.append((*agreed, False).index(False))
        ids += wanted[: accepted[-1] + 1]
    assert accepted == case.facts["accepted_per_round"]
