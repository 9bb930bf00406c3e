"""Downloads that break: what came is not fetched again, and no lie about what is missing gets anything run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import DownloadStopped, RepositoryAway, RepositoryRefused
from agent.home import Home
from agent.partial import Pace, Terms
from agent.reason import Reason
from agent.state import Step
from agent.trust import Repository, View
from tests.simulators.agents import DeviceBench, Power, PowerCut, device_bench, make_bench
from tests.simulators.lying_mirror import Answer, LyingMirror, lying_mirror
from tests.simulators.signed_tree import SignedTree, served

CONTENT = bytes(range(256)) * 1000
HALF = 100_000
PATH = "app/1.0/linux-x86_64/app.bin"
REST = f"bytes {HALF}-{len(CONTENT) - 1}/{len(CONTENT)}"


@pytest.fixture(scope="module")
def tree() -> SignedTree:
    tree = SignedTree()
    tree.add_artifact(PATH, CONTENT)
    return tree


@pytest.fixture
def mirror(tree: SignedTree) -> Iterator[LyingMirror]:
    with lying_mirror(tree.files) as mirror:
        yield mirror


@pytest.fixture
def home(tmp_path: Path, tree: SignedTree) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    home.identity.mkdir()
    (home.identity / "root.json").write_bytes(tree.root)
    return home


@pytest.fixture
def view(home: Home, mirror: LyingMirror) -> Iterator[View]:
    repository = Repository(home, metadata_url=mirror.metadata_url, targets_url=mirror.targets_url, agent="test")
    yield repository.refresh()
    repository.close()


def download(view: View, between: Callable[[], None] = lambda: None) -> Path:
    target = view.target(PATH)
    assert target is not None
    return view.download(target, between)


def whole(part: bytes) -> Answer:
    """What breaks off in the middle of a file as long as ours."""
    return Answer(part, declared=len(CONTENT))


def ranged(mirror: LyingMirror, true: bytes) -> Answer:
    """As an honest server answers; it knows ranges."""
    asked = mirror.headers[-1].get("Range")
    if asked is None:
        return Answer(true)
    begin = int(asked.removeprefix("bytes=").rstrip("-"))
    return Answer(true[begin:], 206, headers={"Content-Range": f"bytes {begin}-{len(true) - 1}/{len(true)}"})


def answer_targets_with(mirror: LyingMirror, *answers: Callable[[], Answer]) -> None:
    """One after the other; the last again and again."""
    left = list(answers)

    def lie(path: str, true: bytes | None) -> Answer | bytes | None:
        if not path.startswith("targets/"):
            return true
        return (left.pop(0) if len(left) > 1 else left[0])()

    mirror.lie = lie


def ranges(mirror: LyingMirror) -> list[str | None]:
    """What was asked for of targets."""
    pairs = zip(mirror.requests, mirror.headers, strict=True)
    return [headers.get("Range") for path, headers in pairs if path.startswith("targets/")]


def test_what_came_before_the_line_broke_is_not_fetched_again(home: Home, view: View, mirror: LyingMirror) -> None:
    answer_targets_with(mirror, lambda: whole(CONTENT[:HALF]), lambda: ranged(mirror, CONTENT))

    with pytest.raises(RepositoryAway):
        download(view)
    (part,) = home.downloads.iterdir()
    assert part.read_bytes() == CONTENT[:HALF]
    stored = download(view)

    assert stored.read_bytes() == CONTENT
    assert ranges(mirror) == [None, f"bytes={HALF}-"]
    assert list(home.downloads.iterdir()) == []


def test_a_server_without_ranges_is_begun_anew(home: Home, view: View, mirror: LyingMirror) -> None:
    answer_targets_with(mirror, lambda: whole(CONTENT[:HALF]), lambda: Answer(CONTENT))

    with pytest.raises(RepositoryAway):
        download(view)

    assert download(view).read_bytes() == CONTENT


def test_what_is_here_whole_already_is_verified_and_not_asked_for(home: Home, view: View, mirror: LyingMirror) -> None:
    answer_targets_with(mirror, lambda: whole(CONTENT[:HALF]))
    with pytest.raises(RepositoryAway):
        download(view)
    (part,) = home.downloads.iterdir()
    part.write_bytes(CONTENT)

    assert download(view).read_bytes() == CONTENT
    assert ranges(mirror) == [None]


@pytest.mark.parametrize(
    "said",
    [
        "bytes 0-155999/256000",
        f"bytes {HALF}-{len(CONTENT) - 2}/{len(CONTENT)}",
        f"bytes {HALF}-{len(CONTENT)}/{len(CONTENT) + 1}",
        f"bytes {HALF + 1}-{len(CONTENT) - 1}/{len(CONTENT)}",
        f"bytes {HALF}-{len(CONTENT) - 1}/*",
        "nonsense",
        None,
    ],
)
def test_a_mirror_that_answers_with_another_range_is_refused(
    home: Home, view: View, mirror: LyingMirror, said: str | None
) -> None:
    headers = {} if said is None else {"Content-Range": said}
    answer_targets_with(
        mirror,
        lambda: whole(CONTENT[:HALF]),
        lambda: Answer(CONTENT[HALF:], 206, headers=headers),
        lambda: ranged(mirror, CONTENT),
    )
    with pytest.raises(RepositoryAway):
        download(view)

    with pytest.raises(RepositoryRefused, match=f"expected '{REST}'"):
        download(view)

    assert list(home.artifacts.iterdir()) == list(home.downloads.iterdir()) == []
    assert download(view).read_bytes() == CONTENT  # begun anew, it comes whole


def test_a_range_that_nobody_asked_for_is_refused(home: Home, view: View, mirror: LyingMirror) -> None:
    headers = {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
    answer_targets_with(mirror, lambda: Answer(CONTENT, 206, headers=headers))

    with pytest.raises(RepositoryRefused, match="the mirror answers with the range"):
        download(view)


@pytest.mark.parametrize("first", [b"\0" * HALF, b"x" * HALF], ids=["zeros of a power cut", "another's bytes"])
def test_a_part_that_is_not_ours_is_dropped_with_the_whole_and_fetched_anew(
    home: Home, view: View, mirror: LyingMirror, first: bytes
) -> None:
    answer_targets_with(mirror, lambda: whole(first), lambda: ranged(mirror, CONTENT))
    with pytest.raises(RepositoryAway):
        download(view)

    with pytest.raises(RepositoryRefused, match="does not verify"):
        download(view)

    assert list(home.artifacts.iterdir()) == list(home.downloads.iterdir()) == []
    assert download(view).read_bytes() == CONTENT
    assert ranges(mirror) == [None, f"bytes={HALF}-", None]


@pytest.mark.parametrize("resumed", [False, True])
def test_endless_data_ends_at_the_signed_length(home: Home, view: View, mirror: LyingMirror, resumed: bool) -> None:
    endless = Answer(CONTENT[HALF:], 206, headers={"Content-Range": REST}, endless=True)
    first = whole(CONTENT[:HALF]) if resumed else Answer(CONTENT, endless=True)
    answer_targets_with(mirror, lambda: first, lambda: endless)
    if resumed:
        with pytest.raises(RepositoryAway):
            download(view)

    with pytest.raises(RepositoryRefused, match="is longer than the signed 256000 bytes"):
        download(view)

    assert list(home.downloads.iterdir()) == []
    assert all(sent < 100_000_000 for sent in mirror.sent.values())  # what fits into the buffers on the way


def test_a_file_that_is_shorter_there_is_begun_anew(home: Home, view: View, mirror: LyingMirror) -> None:
    answer_targets_with(mirror, lambda: whole(CONTENT[:HALF]), lambda: Answer(b"", 416), lambda: Answer(CONTENT))
    with pytest.raises(RepositoryAway):
        download(view)
    with pytest.raises(RepositoryAway, match="HTTP status 416"):
        download(view)

    assert download(view).read_bytes() == CONTENT
    assert ranges(mirror) == [None, f"bytes={HALF}-", None]


def test_what_is_not_wanted_any_more_is_dropped(home: Home, view: View, mirror: LyingMirror) -> None:
    def stop() -> None:
        raise DownloadStopped("stopped by Ada", Reason.STOPPED)

    with pytest.raises(DownloadStopped):
        download(view, stop)

    assert list(home.downloads.iterdir()) == []


def test_the_pace_is_kept_by_pauses_as_long_as_is_due() -> None:
    now, slept = [0.0], list[float]()
    pace = Pace(1000, clock=lambda: now[0], sleep=slept.append)

    pace.after(500)
    now[0] = 0.5
    pace.after(500)
    now[0] = 3.0
    pace.after(1000)
    assert slept == [0.5, 0.5]

    unhurried = Pace(0, clock=lambda: now[0], sleep=slept.append)
    unhurried.after(10**9)
    assert slept == [0.5, 0.5]


def cut(at: int) -> Callable[[], bool]:
    """Takes the power after so many pieces."""
    power = Power(at)

    def ask() -> bool:
        power.moment()
        return False

    return ask


class TestTheAgent:
    """The same, as a device lives through it."""

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[DeviceBench]:
        with device_bench(tmp_path) as bench:
            yield bench

    def test_a_disk_without_room_is_said_before_anything_is_fetched(self, bench: DeviceBench) -> None:
        bench.offer("1.0", "rol_1")
        bench.terms = Terms(keep_free_bytes=10**18)

        words = bench.poll().words["app"]

        assert words.startswith("fetching 1.0, tries again: 3000 bytes are to be fetched and 1000000000000000000 kept")
        assert words.endswith(f"are free in {bench.home.downloads}; make room there")
        assert not [path for path in bench.mirror.requests if path.startswith("targets/app")]
        bench.poll()
        bench.poll()
        assert bench.server.results == [("rol_1", 1, "failed", "download_failed")]

        assert bench.commands.ran == []

    def test_told_to_end_it_leaves_the_download_and_goes_on_later(self, bench: DeviceBench) -> None:
        bench.offer("1.0", "rol_1")
        bench.stopping = lambda: True

        state = bench.poll()

        assert state.words["app"] == "fetching 1.0: the agent was told to end; it goes on when it is started again"
        assert state.step is Step.DOWNLOADING
        assert [part.stat().st_size for part in bench.home.downloads.iterdir()] == [3000]
        bench.stopping = lambda: False
        assert bench.poll().running["app"].version == "1.0"
        assert len([path for path in bench.mirror.requests if path.startswith("targets/app/1.0")]) == 1

    def test_a_superseded_part_does_not_stay(self, bench: DeviceBench) -> None:
        bench.offer("1.0", "rol_1")
        bench.stopping = lambda: True
        bench.poll()
        bench.stopping = lambda: False
        bench.offer("2.0", "rol_2", minutes=1)

        assert bench.poll().running["app"].version == "2.0"

        assert list(bench.home.downloads.iterdir()) == []
        assert len(list(bench.home.artifacts.iterdir())) == 1

    def test_wherever_the_power_fails_in_a_download_it_ends_installed(self, tmp_path: Path) -> None:
        """Between any two pieces, with the file's tail as written or lost."""
        tree = SignedTree()
        with served(tree.files) as mirror:
            first = make_bench(tmp_path, tree, mirror)
            target = tree.add_artifact("app/3.0/linux-x86_64/app.bin", CONTENT)
            decision = first.offer("1.0", "rol_1")
            artifact = replace(
                decision.artifacts["linux-x86_64"],
                path=target.path,
                length=target.length,
                sha256=target.hashes["sha256"],
            )
            first.put(replace(decision, version="3.0", artifacts={"linux-x86_64": artifact}))
            for cut_at in (1, 3, 8):
                for lost in (0, 10_000, 40_000):
                    bench = first.copy_to(tmp_path / f"{cut_at}-{lost}")
                    bench.stopping = cut(cut_at)
                    with pytest.raises(PowerCut):
                        bench.poll()
                    bench.stopping = lambda: False
                    (part,) = bench.home.downloads.iterdir()
                    size = part.stat().st_size
                    part.write_bytes(part.read_bytes()[: max(0, size - lost)] + b"\0" * min(size, lost))

                    bench.poll()
                    state = bench.poll()

                    assert state.running["app"].version == "3.0", (cut_at, lost)
                    assert bench.commands.installed == CONTENT
                    assert json.loads(bench.home.state.read_bytes())["work"] is None
