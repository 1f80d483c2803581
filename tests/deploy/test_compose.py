"""The compose files, the image and what `deploy/init` makes: nothing is open, known or unbounded."""

import os
import re
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.settings import Settings
from tests.deploy.composition import (
    PLAIN,
    PRODUCTION,
    VARIANTS,
    compose_command,
    composition,
    environment,
    make_secrets,
)
from tests.fixtures.service import ROOT

OURS = ("api", "worker", "migrate", "vault-setup")
ONCE = ("migrate", "vault-setup")
# What deploy/ itself reads, besides settings.
OF_SCRIPTS = {"VAULT_CREDENTIALS", "VAULT_KEYS"}

both = pytest.mark.parametrize("files", VARIANTS, ids=["plain", "production"])


def services(files: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = composition(files)["services"]
    return found


def by_specification(composed: dict[str, Any]) -> Any:
    """The files as the compose specification reads them; raises ValueError."""
    known = pytest.importorskip(
        "compose_spec", reason="NOT CHECKED: compose-spec has no wheel for this kind of machine"
    )
    return known.PyCompose.from_yaml(yaml.safe_dump(composed))


@both
def test_both_variants_are_what_the_compose_specification_allows(files: tuple[str, ...]) -> None:
    found = by_specification(composition(files))

    found.validate()
    assert set(found.service_names()) == set(services(files))


BROKEN: tuple[tuple[tuple[str, ...], object], ...] = (
    (("api", "healthcheck", "interval"), "a while"),
    (("api", "depends_on", "primary", "condition"), "service_happy"),
    (("api", "deploy", "resources", "limits", "memory"), "much"),
    (("api", "networks"), ["nowhere"]),
    (("api", "secrets"), ["unknown"]),
    (("nginx", "ports"), ["a:b"]),
    (("nginx", "restart"), "sometimes"),
)


@pytest.mark.parametrize(("path", "value"), BROKEN)
def test_that_check_finds_what_is_not_allowed(path: tuple[str, ...], value: object) -> None:
    found = composition(PLAIN)
    place = found["services"]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value

    with pytest.raises(ValueError, match=r"\w"):
        by_specification(found).validate()


def test_compose_takes_both_variants_in_a_clean_checkout() -> None:
    command = compose_command()
    if command is None:
        # It is no package of the index. What the specification says is checked above.
        pytest.skip("NOT CHECKED for want of docker compose: its own reading of the files")
    for files in VARIANTS:
        done = subprocess.run(
            [*command, "config", "--quiet"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "COMPOSE_FILE": ":".join(files)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@both
def test_every_setting_of_the_service_exists_and_has_a_value_that_it_takes(
    files: tuple[str, ...],
) -> None:
    for name in OURS:
        for variable in environment(services(files)[name]):
            setting = variable.removesuffix("_FILE").lower()
            known = {variable.lower(), setting} & set(Settings.model_fields)
            assert known or variable in OF_SCRIPTS, f"{name} sets {variable}, which nobody reads"


@both
def test_only_nginx_can_be_reached_from_outside(files: tuple[str, ...]) -> None:
    found = composition(files)
    assert found["networks"]["internal"]["internal"] is True
    beside = {"nginx": ["outside"], "api": ["outgoing"]}
    for name, service in found["services"].items():
        assert ("ports" in service) == (name == "nginx")
        assert service["networks"] == ["internal", *beside.get(name, [])], name


@both
def test_the_api_has_a_way_out_to_sources_buckets_and_webhooks(files: tuple[str, ...]) -> None:
    found = composition(files)
    ways = [found["networks"][name] for name in found["services"]["api"]["networks"]]
    assert any(not way.get("internal") for way in ways)


def test_exports_can_be_tried_on_the_s3_server_and_production_calls_nothing_private() -> None:
    plain, production = (environment(services(one)["api"]) for one in (PLAIN, PRODUCTION))
    assert plain["S3_ENDPOINT_URL"] == "http://s3:9000"
    assert ":9000" in (ROOT / "deploy/s3/start").read_text(encoding="utf-8")
    assert plain["OUTBOUND_ALLOW_PRIVATE"] == "true"
    assert production["S3_ENDPOINT_URL"] == ""
    assert production["OUTBOUND_ALLOW_PRIVATE"] == "false"


def test_the_plain_variant_listens_on_this_machine_only() -> None:
    assert services(PLAIN)["nginx"]["ports"] == ["127.0.0.1:8080:8080"]


@both
def test_every_service_has_a_health_check_bounds_and_a_rule_for_its_restart(
    files: tuple[str, ...],
) -> None:
    for name, service in services(files).items():
        assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"]), name
        if name in ONCE:
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        assert {"test", "interval", "timeout", "retries"} <= set(service["healthcheck"]), name
        waits = service.get("depends_on", {})
        assert all("condition" in one for one in waits.values()), name
        assert set(waits) <= set(services(files)), name


@both
def test_no_password_stands_in_the_files_and_secrets_are_files_that_init_makes(
    files: tuple[str, ...], tmp_path: Path
) -> None:
    made = {path.name for path in make_secrets(tmp_path / "secrets").iterdir()}
    found = composition(files)
    for name, secret in found["secrets"].items():
        assert Path(secret["file"]).name in made, name
    for name, service in found["services"].items():
        assert set(service.get("secrets", ())) <= set(found["secrets"]), name
        for variable, value in environment(service).items():
            sensitive = re.search("PASSWORD|TOKEN|SECRET|KEY", variable)
            assert not sensitive or value.startswith("/") or not value, f"{name}: {variable}"
            assert not re.search(r"://[^/]*:[^/]*@", value), f"{name}: {variable}"


@both
def test_images_are_pinned_and_what_is_mounted_is_there(files: tuple[str, ...]) -> None:
    for name, service in services(files).items():
        assert name in OURS or re.search(r":v?\d+\.\d+", service["image"]), service["image"]
        for volume in service.get("volumes", ()):
            source = str(volume).split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).is_file(), source
            else:
                assert source in composition(files)["volumes"], source


@both
def test_nothing_of_ours_runs_as_root_or_writes_outside_its_volumes(files: tuple[str, ...]) -> None:
    for name in OURS:
        service = services(files)[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "user" not in service  # the image's


def test_production_reaches_vault_by_tls_and_leaves_unsealing_to_people() -> None:
    found = services(PRODUCTION)
    for name in ("api", "worker"):
        values = environment(found[name])
        assert values["ENVIRONMENT"] == "production"
        assert values["VAULT_ADDR"].startswith("https://")
        assert values["VAULT_CACERT"] == "/run/secrets/authority"
        assert "authority" in found[name]["secrets"]
    assert environment(found["vault-setup"])["VAULT_KEYS"] == ""
    assert not any("plain" in str(one) for one in found["vault"]["volumes"])
    assert not any("plain" in str(one) for one in found["nginx"]["volumes"])


def test_init_makes_what_nobody_can_guess_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    folder = make_secrets(tmp_path / "secrets", "stats.example")
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    make_secrets(folder)

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "authority.key").stat().st_mode) == 0o600
    passwords = [value for name, value in first.items() if name.endswith("_password")]
    assert len(set(passwords)) == len(passwords) == 6
    assert all(len(one) == 48 for one in passwords)
    assert all(first.values())
    for name in ("vault", "web"):
        context = ssl.create_default_context(cafile=folder / "authority.pem")
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
        subprocess.run(
            ["openssl", "verify", "-CAfile", folder / "authority.pem", folder / f"{name}.pem"],
            check=True,
            capture_output=True,
        )


def test_the_image_installs_by_hashes_and_runs_as_an_ordinary_user() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    assert len(stages) == 2
    build, final = stages
    assert all(re.match(r"python:3\.\d+\.\d+-slim", stage) for stage in stages)
    assert "--require-hashes" in build
    assert not re.search(r"apt|gcc|pip", final)
    assert re.search(r"^USER footfall$", final, re.MULTILINE)
    assert "HEALTHCHECK" in final
    assert 'CMD ["serve", "--host", "0.0.0.0"' in final


# Starts the service out of a folder, wherever else an environment may find its packages (the
# checkout is installed in place), and tells which of our files it has loaded.
START = """
import sys
from pathlib import Path

OURS = {"data", "jobs", "migrations", "resolvers", "schema", "server", "telemetry"}
sys.path[:] = [one for one in sys.path if not (Path(one) / "server" / "cli").is_dir()]
sys.path.insert(0, sys.argv.pop(1))

from server.cli import main

try:
    main()
finally:
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in OURS and getattr(module, "__file__", None):
            print(module.__file__)
"""


def test_the_image_has_everything_that_the_service_runs_from(tmp_path: Path) -> None:
    kept = [
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    ]
    for name in kept:
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", ROOT / name, place], check=True)
    (tmp_path / "start.py").write_text(START, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "start.py", str(tmp_path), "serve", "--port", "70000"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    # All modules are there, and it is the port that it does not like.
    assert done.returncode == 2, done.stderr
    assert "port" in done.stderr
    loaded = {Path(line) for line in done.stdout.splitlines()}
    assert tmp_path / "server" / "cli" / "main.py" in loaded
    assert all(file.is_relative_to(tmp_path) for file in loaded)
    for path in ("docs/examples", "web/graphiql/build", "migrations/sql", "deploy/api/start"):
        assert (tmp_path / path).exists()
    assert not (tmp_path / "deploy" / "secrets").exists()
