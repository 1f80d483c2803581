"""The service's own keys: what is taken for some."""

import pytest

from data.secrets import fresh_keys, parse_keys


def test_fresh_keys_are_taken_and_no_two_are_alike() -> None:
    one, other = parse_keys(fresh_keys()), parse_keys(fresh_keys())

    assert one.admin_key != other.admin_key
    assert one.import_key != other.import_key
    assert len(one.import_key) == 32


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("admin_key", "ff_admin_changeme"),
        ("admin_key", "ff_admin_" + "e" * 63),
        ("admin_key", "ff_admin_" + "g" * 64),
        ("admin_key", "ff_other_" + "e" * 64),
        ("admin_key", "hush"),
        ("import_key", ""),
        ("import_key", "abcd"),
        ("import_key", "ab" * 33),
        ("import_key", "hush" * 16),
    ],
)
def test_keys_that_somebody_could_guess_are_refused_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name} does not look like one"):
        parse_keys(fresh_keys() | {name: value})
