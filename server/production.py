"""What a service that faces real users does not start with: secrets that others know."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from data.postgres.engine import parse_url
from server.settings import Settings

# Of images, tutorials and compose files, in lower case; a name of the service's own besides.
_WELL_KNOWN = frozenset(
    {
        *("admin", "administrator", "changeit", "changeme", "default", "demo", "dev"),
        *("development", "docker", "example", "foobared", "footfall", "footfall_writer", "guest"),
        *("letmein", "local", "mypassword", "mysecretpassword", "pass", "passw0rd", "passwd"),
        *("password", "pgpassword", "postgres", "postgresql", "pwd", "qwerty", "redis"),
        *("replica_user", "replication", "replicator", "root", "secret", "test", "testing"),
        *("123", "1234", "12345", "123456", "12345678", "123456789", "password1", "password123"),
    }
)
# What a URL says instead of a password.
_OTHER_PROOFS = frozenset({"passfile", "sslcert", "krbsrvname"})
_DEMO_NOTES = ("demo.json", "demo-key")


class UnfitForProduction(Exception):
    """The settings will not do where ENVIRONMENT=production; `problems` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def require_fit(settings: Settings) -> None:
    """Raises `UnfitForProduction` with everything that has to be mended, all at once."""
    found = list(_problems(settings)) if settings.is_production else []
    if found:
        raise UnfitForProduction(found)


def _problems(settings: Settings) -> Iterator[str]:
    # Vault adds the passwords to the URLs, or says that it lacks them.
    with_vault = bool(settings.vault_addr)
    urls = {
        "DATABASE_URL": settings.database_url,
        "REPLICA_DATABASE_URL": settings.replica_database_url,
    }
    for name, url in urls.items():
        problem = _of_database(url, is_given=with_vault) if url else None
        if problem:
            yield f"{name} {problem}"
    problem = _of_redis(settings.redis_url, is_given=with_vault) if settings.redis_url else None
    if problem:
        yield f"REDIS_URL {problem}"
    if "*" in settings.cors_origins:
        yield "CORS_ORIGINS lets every page of the web call /graphql: name the origins of yours"
    if any((settings.home / note).exists() for note in _DEMO_NOTES):
        yield (
            f"FOOTFALL_HOME is the folder of a `footfall demo`, which printed its keys "
            f"({settings.home}): name a new one"
        )


def _of_database(text: str, *, is_given: bool) -> str | None:
    url = parse_url(text)
    host = _first(url.query.get("host")) or url.host or ""
    if not host or host.startswith("/"):
        return None  # a socket of this machine: its server knows who asks
    if not url.password:
        if is_given or _OTHER_PROOFS & url.query.keys():
            return None
        return (
            "names no password: give the role one, or prove who you are by "
            "?passfile=... or ?sslcert=..."
        )
    if _is_known(str(url.password), url.username, url.database, host):
        return "has a password that everybody knows: give the role one of its own"
    return None


def _of_redis(text: str, *, is_given: bool) -> str | None:
    parts = urlsplit(text)
    if parts.scheme == "unix" or _is_loopback(parts.hostname or ""):
        return None
    if not parts.password:
        if is_given:
            return None
        return "names no password: set `requirepass` or an ACL, as whoever reaches it may write"
    if _is_known(unquote(parts.password), parts.username, parts.hostname):
        return "has a password that everybody knows: set one of its own"
    return None


def _is_known(password: str, *beside: str | None) -> bool:
    """Whether a guess would find it: a common one, or one that stands elsewhere in the URL."""
    plain = password.lower()
    names = {one.lower() for one in beside if one}
    return plain.replace("-", "").replace("_", "") in _WELL_KNOWN or plain in _WELL_KNOWN | names


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _first(value: str | tuple[str, ...] | None) -> str | None:
    return value[0] if isinstance(value, tuple) else value
