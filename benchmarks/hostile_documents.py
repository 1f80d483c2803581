"""Requests that are made to keep a server busy, and the refusal that each of them meets.

Tests see that they are refused, and for next to no work; `benchmarks.hostile` measures the time.
"""

from __future__ import annotations

from data.events import MAX_BODY_BYTES
from resolvers.errors import Code


def chain(levels: int, times: int = 2) -> str:
    """Fragments each of which spreads the next one several times."""
    fragments = [
        f"fragment f{level} on Query {{ {f'...f{level + 1} ' * times}}}" for level in range(levels)
    ]
    return " ".join(["{ ...f0 }", *fragments, f"fragment f{levels} on Query {{ __typename }}"])


def nested(levels: int) -> str:
    """Fragments each of which asks twice, under two aliases, for what the next one asks for."""
    fragments = [
        f"fragment f{level} on Site {{ a: site {{ ...f{level + 1} }} b: site {{ ...f{level + 1} }} }}"
        for level in range(levels)
    ]
    return " ".join(["{ site { ...f0 } }", *fragments, f"fragment f{levels} on Site {{ id }}"])


def spread(selection: str, type_name: str, times: int) -> str:
    """Many fragments with the same fields, all in one place."""
    spreads = " ".join(f"...f{number}" for number in range(times))
    fragments = [f"fragment f{number} on {type_name} {{ {selection} }}" for number in range(times)]
    return f"{{ sites {{ {spreads} }} }} {' '.join(fragments)}"


def numbered(text: str, times: int) -> str:
    """The text many times with a number for each `#`."""
    return " ".join(text.replace("#", str(number)) for number in range(times))


def circle(length: int) -> str:
    """Fragments that spread one another in a circle, and all the first one."""
    return "{ ...f0 } " + " ".join(
        f"fragment f{number} on Query {{ ...f{(number + 1) % length} ...f0 }}"
        for number in range(length)
    )


SITE_FIELDS = "id name timezone weekStart origins createdAt"
SITES = " ".join(f"{key}: site(id: $id) {{ {SITE_FIELDS} }}" for key in "abcdefg")
# Documents about as large as may be, with nothing to complain of.
GOOD_OPERATIONS = numbered(f"query q#($id: ID!) {{ {SITES} }}", 11)
GOOD_FRAGMENTS = " ".join(
    [
        f"query ($id: ID!) {{ {numbered('...f#', 36)} }}",
        numbered(f"fragment f# on Query {{ s#: site(id: $id) {{ {SITE_FIELDS} ...g# }} }}", 36),
        numbered(f"fragment g# on Site {{ {SITE_FIELDS} }}", 36),
    ]
)


PARSE = (Code.GRAPHQL_PARSE_FAILED, None)
INVALID = (Code.GRAPHQL_VALIDATION_FAILED, None)


def too_many(limit: str) -> tuple[Code, str]:
    """The refusal for having too many of something."""
    return (Code.QUERY_TOO_EXPENSIVE, limit)


HOSTILE: dict[str, tuple[str, tuple[Code, str | None]]] = {
    **{f"chain of {n} fragments": (chain(n), too_many("fields")) for n in (12, 14, 16, 18, 30)},
    "chain of 10 fragments": (chain(10), too_many("repeatedFields")),
    "chain of 140 fragments": (chain(140), too_many("fields")),
    "long chain of single fragments": (
        chain(180, 1).replace("__typename", "unknown"),
        INVALID,
    ),
    **{f"nested aliases, {n} levels": (nested(n), too_many("fields")) for n in (10, 12, 13)},
    "nested aliases, 30 levels": (nested(30), too_many("depth")),
    "101 aliases": (f"{{ {numbered('a#: __typename', 101)} }}", too_many("aliases")),
    "490 aliases": (f"{{ {numbered('a#: __typename', 490)} }}", too_many("aliases")),
    "1,000 aliases": (f"{{ {numbered('a#: __typename', 1_000)} }}", PARSE),
    "a field 500 times": (f"{{ {'__typename ' * 500} }}", too_many("repeatedFields")),
    "a field 1,400 times": (f"{{ {'__typename ' * 1_400} }}", too_many("repeatedFields")),
    "an object 240 times": (f"{{ {'sites{id} ' * 240} }}", too_many("repeatedFields")),
    "an object 370 times": (f"{{ {'sites{id} ' * 370} }}", too_many("repeatedFields")),
    "an object 1,000 times": (f"{{ {'n{id} ' * 1_000} }}", PARSE),
    "an object 3,000 times": (f"{{ {'n{id} ' * 3_000} }}", PARSE),
    "an object in 205 inline fragments": (
        f"{{ {'...{sites{id}} ' * 205} }}",
        too_many("repeatedFields"),
    ),
    "135 fragments of the same fields": (spread("id name timezone", "Site", 135), INVALID),
    "95 fragments of the same six fields": (spread(SITE_FIELDS, "Site", 95), INVALID),
    # Nothing is wrong with them until their last words.
    "good operations and a bad one": (f"{GOOD_OPERATIONS} query b {{ unknown }}", INVALID),
    "good fragments and a bad operation": (f"{GOOD_FRAGMENTS} query b {{ unknown }}", INVALID),
    "the same fields of 50 operations": (
        numbered("query a# { ...f }", 50) + f" fragment f on Query {{ {numbered('x#', 500)} }}",
        too_many("rootFields"),
    ),
    "290 operations": (numbered("query a# { __typename }", 290), too_many("operations")),
    "100,000 short tokens": (f"{{a(b:[{'[]' * 49_990}])}}", PARSE),
    "100,000 names": (f"{{ {'a ' * 100_000} }}", PARSE),
    "1 MB in a comment": (f"{{ __typename }}#{'x' * 1_000_000}", PARSE),
    "1 MB of comments": ("{ __typename }" + "#\n" * 500_000, PARSE),
    "50,000 comments": ("{ __typename }" + "#\n" * 49_900, PARSE),
    "10,000 deep": ("{a" * 10_000 + "}" * 10_000, PARSE),
    "10,000 deep, never closed": ("{a" * 10_000, PARSE),
    "190 deep": ("{a" * 190 + "}" * 190, too_many("depth")),
    "a value 10,000 deep": (f"{{a(x:{'[' * 10_000}{']' * 10_000})}}", PARSE),
    "3,000 directives": (f"{{ __typename {'@skip(if: false) ' * 3_000}}}", PARSE),
    "200 directives": (
        f"{{ __typename {'@skip(if: false) ' * 200}}}",
        too_many("directivesInOnePlace"),
    ),
    "140 directives on fields": (
        f"{{ {numbered('a#: __typename @skip(if: false)', 140)} }}",
        too_many("aliases"),
    ),
    "ten unknown directives": (
        f"{{ __typename {'@aa ' * 10}}}",
        too_many("directivesInOnePlace"),
    ),
    "a circle": (circle(2), INVALID),
    "a large circle": (circle(145), INVALID),
    "740 unknown fragments": (f"{{ {numbered('...f#', 740)} }}", INVALID),
    "210 unused fragments": (
        "{ __typename } " + numbered("fragment f# on Query { __typename }", 210),
        INVALID,
    ),
    "only fragments": (chain(30).replace("{ ...f0 }", ""), INVALID),
    "360 unused variables": (f"query ({numbered('$v#: ID', 360)}) {{ __typename }}", INVALID),
    # Where each of them is has to be counted from the start.
    "mistakes behind 90,000 lines": ("{" + "\n" * 90_000 + numbered("x#", 10) + "}", PARSE),
    "mistakes behind 4,900 lines": ("{" + "\n" * 4_900 + numbered("x#", 20) + "}", INVALID),
    "210 types": ("type A { a: Int } " * 210, INVALID),
    "an alias bomb in an unused fragment": (
        f"{{ __typename }} fragment f on Query {{ {numbered('a#: __typename', 480)} }}",
        INVALID,
    ),
    "types of types of types": (
        "{ __schema { types { fields { type { fields { type { fields { name }}}}}}}}",
        INVALID,
    ),
}


# JSON that costs much to decode, or would if it were taken.
BODIES: dict[str, bytes] = {
    "20,000 arrays in one another": b"[" * 20_000 + b"]" * 20_000,
    "as many as go into a body": b"[" * (MAX_BODY_BYTES - 1),
    "20,000 objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "variables 20,000 deep": (
        b'{"query":"{__typename}","variables":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_001
    ),
    "a text of escapes": b'"' + b"\\u0000" * 800_000 + b'"',
    "a number of a million digits": b"1" * 1_000_000,
    "an exponent of a million digits": b"1e" + b"9" * 1_000_000,
}
