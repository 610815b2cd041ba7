"""What clients of one netvm try in order to reach each other is worth the name: without walls, all of it arrives."""

from collections.abc import Iterator

import pytest

from lab import boot, config
from lab.host import CONFIG, Host
from lab.neighbours import frames, unwalled


@pytest.fixture(scope="module")
def lab() -> Iterator[Host]:
    host = boot.boot({}, {f"{CONFIG}/host.toml": config.HOST})
    yield host
    host.close()


def test_every_attempt_arrives_where_there_is_no_wall(lab: Host) -> None:
    over_a_wire, routed = unwalled.arriving(lab)
    numbered = list(enumerate(frames.ATTEMPTS))
    assert [attempt.what for number, attempt in numbered if number not in over_a_wire] == []
    assert [attempt.what for number, attempt in numbered if attempt.routed and number not in routed] == []
