"""What a service that faces real users does not start with: secrets that others know."""

from __future__ import annotations

from collections.abc import Collection, Iterator
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
        *("devonlytoken", "devtoken", "myroot", "roottoken", "vaulttoken"),
        *("123", "1234", "12345", "123456", "12345678", "123456789", "password1", "password123"),
    }
)
# What a URL says instead of a password.
_OTHER_PROOFS = frozenset({"passfile", "sslcert", "krbsrvname"})
_DATABASES = ("DATABASE_URL", "REPLICA_DATABASE_URL")
_REDIS = ("REDIS_URL",)
_DEMO_NOTES = ("demo.json", "demo-key")


class UnfitForProduction(Exception):
    """The settings will not do where ENVIRONMENT=production; `problems` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def require_fit(settings: Settings) -> None:
    """Raises `UnfitForProduction` with everything that has to be mended, all at once.

    What Vault adds to it is looked at later, by `require_fit_urls`.
    """
    if settings.is_production:
        # Vault adds the passwords to the URLs.
        passwordless = (*_DATABASES, *_REDIS) if settings.vault_addr else ()
        _refuse([*_of_urls(settings, passwordless), *_of_the_rest(settings)])


def require_fit_urls(settings: Settings) -> None:
    """Raises `UnfitForProduction` unless the URLs will do, as they are once Vault was asked."""
    if settings.is_production and settings.vault_addr:
        # Users that Vault makes have passwords that it makes up.
        passwordless = _DATABASES if settings.vault_database_role else ()
        found = _of_urls(settings, passwordless)
        _refuse([f"with what Vault has, {problem}" for problem in found])


def _refuse(found: list[str]) -> None:
    if found:
        raise UnfitForProduction(found)


def _of_urls(settings: Settings, passwordless: Collection[str]) -> Iterator[str]:
    """What is wrong with URLs; those of `passwordless` may lack a password."""
    for name in (*_DATABASES, *_REDIS):
        url = getattr(settings, name.lower())
        judge = _of_redis if name in _REDIS else _of_database
        problem = judge(url, is_given=name in passwordless) if url else None
        if problem:
            yield f"{name} {problem}"


def _of_the_rest(settings: Settings) -> Iterator[str]:
    if settings.vault_token and _is_known(settings.vault_token):
        yield "VAULT_TOKEN is one that everybody knows, of a Vault for development: log in otherwise"
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
