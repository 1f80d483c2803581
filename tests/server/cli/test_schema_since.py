"""`footfall schema --since FILE`: what clients of an earlier schema lose."""

from pathlib import Path

from schema.build import sdl
from tests.server.cli.commands import Several


async def test_a_schema_that_only_grew_passes_and_one_that_shrank_does_not(
    tmp_path: Path, several: Several
) -> None:
    same, larger, broken = (tmp_path / f"{name}.graphql" for name in ("same", "larger", "broken"))
    same.write_text(sdl())
    larger.write_text(sdl().replace("type Viewer {", "type Viewer {\n  nickname: String", 1))
    broken.write_text("type Query {")

    kept, lost, unread, missing = await several(
        tmp_path / "home",
        *(
            ("schema", "--since", str(file))
            for file in (same, larger, broken, tmp_path / "nowhere.graphql")
        ),
    )

    assert (kept.code, kept.out) == (0, "")
    assert (lost.code, lost.out) == (1, "Field Viewer.nickname was removed.\n")
    assert "changes break clients of" in lost.line
    assert (unread.code, unread.out) == (1, "")
    assert "is no schema" in unread.line
    assert missing.code == 1
    assert "No such file" in missing.line
