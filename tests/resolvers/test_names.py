"""Names and ids that a database could not keep."""

import pytest

from resolvers.errors import BadUserInput
from resolvers.names import checked_name
from resolvers.sites import SiteDraft, checked
from tests.fixtures.app import App


@pytest.mark.parametrize("name", ["a", "  a  ", "x" * 200, "é😀", "two words"])
def test_a_name_loses_the_blanks_around_it(name: str) -> None:
    assert checked_name(name, "site") == name.strip()


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "\0", "a\0b"])
def test_a_name_that_cannot_be_kept_is_refused(name: str) -> None:
    with pytest.raises(BadUserInput, match="a key's name has 1 to 200 characters, and no NUL"):
        checked_name(name, "key")


@pytest.mark.parametrize("origin", ["https://a\0.example", "https://a b", "https://a\x7f", "\0"])
def test_an_origin_has_no_odd_characters(origin: str) -> None:
    with pytest.raises(BadUserInput, match="is not an origin"):
        checked(SiteDraft("shop", origins=[origin]))


async def test_a_nul_is_never_a_mistake_of_ours(app: App) -> None:
    for call in (
        'saveSite(input: {id: "shop", name: "\\u0000"}) { id }',
        'saveSite(input: {id: "shop", origins: ["https://a\\u0000.b"]}) { id }',
        'createApiKey(input: {name: "a\\u0000", scopes: [READ]}) { id }',
        'revokeApiKey(id: "a\\u0000")',
    ):
        refusal = await app.refusal(f"mutation {{ {call} }}")
        assert refusal["code"] in {"BAD_USER_INPUT", "NOT_FOUND"}
