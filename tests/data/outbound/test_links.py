"""Which page is the next one, by what a `Link` header says."""

import pytest

from data.outbound.links import next_link


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ('<https://a/2>; rel="next"', "https://a/2"),
        ("<?cursor=2>;rel=next", "?cursor=2"),
        ("<https://a/2>; rel='next'", "https://a/2"),
        ('<https://a/2>; REL="Next"', "https://a/2"),
        ('<https://a/2>; rel="next last"', "https://a/2"),
        ('<https://a/2>; title="a=b; c, d"; rel="next"', "https://a/2"),
        ("<https://a/2>; crossorigin;; rel=next", "https://a/2"),
        ('<https://a/2;v=1,2>; rel="next"', "https://a/2;v=1,2"),
        ('<https://a/1>; rel="prev", <https://a/3>; rel="next"', "https://a/3"),
        (
            '<https://a/1>; title="<https://b>; rel=next"; rel=prev,<https://a/3>;rel=next',
            "https://a/3",
        ),
        ('<https://a/1>; rel="prev"; rel="next"', None),
        ('<https://a/2>; rel="next-archive"', None),
        ("<https://a/2>", None),
        ("https://a/2; rel=next", None),
        ("", None),
    ],
)
def test_the_next_page_is_found_however_it_is_written(header: str, target: str | None) -> None:
    assert next_link(header) == target


@pytest.mark.parametrize("piece", ["<", '<a>;b="', "<a>;", ' ;"', '<a>;a="\\'])
def test_a_header_of_nonsense_has_none(piece: str) -> None:
    assert next_link(piece * 20_000) is None
