"""Slots: each process takes a folder for itself, and a lock that ends with it."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from data.slots import MAX_SLOTS, NoSlot, is_taken, locked, take_slot


def test_processes_take_different_slots(tmp_path: Path) -> None:
    with take_slot(tmp_path) as first:
        with take_slot(tmp_path) as second:
            assert (first.name, second.name) == ("0", "1")
            assert is_taken(first)
        assert not is_taken(second)
    with take_slot(tmp_path) as again:
        assert again.name == "0"


def test_what_is_in_a_slot_is_for_its_process_alone(tmp_path: Path) -> None:
    with take_slot(tmp_path / "new") as slot:
        modes = [oct(one.stat().st_mode & 0o777) for one in (slot, slot.parent)]
        with locked(slot) as is_ours:
            assert not is_ours
    with locked(slot) as is_ours:
        assert is_ours

    assert modes == ["0o700", "0o700"]


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(NoSlot, match="file"), take_slot(tmp_path / "file"):
        pass


def test_slots_come_to_an_end(tmp_path: Path) -> None:
    with ExitStack() as stack:
        taken = [stack.enter_context(take_slot(tmp_path)) for _ in range(MAX_SLOTS)]
        with pytest.raises(NoSlot, match=f"{MAX_SLOTS} processes"), take_slot(tmp_path):
            pass

    assert len(set(taken)) == MAX_SLOTS
