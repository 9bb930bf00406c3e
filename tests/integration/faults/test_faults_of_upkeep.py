"""Real processes that rotate keys, re-bin, collect and restore, killed or failed at system calls that change a disk."""

from __future__ import annotations

import pytest

from tests.faults.campaign import KINDS, Campaign

# At most so many points of a kind, evenly spread; `make test-all` hits every one.
SAMPLED = {"kill": 12, "torn": 4, "EIO": 8, "ENOSPC": 4, "unreadable": 4}
# How many kills there are at the least.
LEAST = {"rotate": 100, "end-overlap": 40, "re-bin": 500, "collect": 20, "restore": 500}


# Collecting writes nothing, it only removes.
CASES = [(command, kind) for command in LEAST for kind in KINDS if (command, kind) != ("collect", "torn")]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("command", "kind"), CASES)
def test_a_sample_of_all_faults_is_survived(command: str, kind: str, campaign: Campaign) -> None:
    verdict = campaign.run(command, kind, at_most=SAMPLED[kind])
    assert verdict.wrong == []
    assert verdict.bitten >= 1


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("command", "kind"), CASES)
def test_every_fault_is_survived(command: str, kind: str, campaign: Campaign) -> None:
    verdict = campaign.run(command, kind, at_most=None)
    assert verdict.wrong == []
    if kind == "kill":
        assert verdict.bitten == verdict.points >= LEAST[command]
