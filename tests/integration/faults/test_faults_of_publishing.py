"""Real processes that publish and refresh, killed or failed at system calls that change the disk."""

from __future__ import annotations

import pytest

from tests.faults.campaign import KINDS, Campaign

# At most so many points of a kind, evenly spread; `make test-all` hits every one.
SAMPLED = {"kill": 30, "torn": 4, "EIO": 15, "ENOSPC": 10, "unreadable": 5}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", ["publish", "refresh"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_of_all_faults_is_survived(command: str, kind: str, campaign: Campaign) -> None:
    verdict = campaign.run(command, kind, at_most=SAMPLED[kind])
    assert verdict.wrong == []
    assert verdict.bitten >= 1


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", ["publish", "refresh"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_is_survived(command: str, kind: str, campaign: Campaign) -> None:
    verdict = campaign.run(command, kind, at_most=None)
    assert verdict.wrong == []
    if kind == "kill":
        assert verdict.bitten == verdict.points >= {"publish": 90, "refresh": 30}[command]
