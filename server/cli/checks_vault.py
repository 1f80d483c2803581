"""What `footfall doctor` finds out about Vault: that it answers, and that it lets us do our work."""

from __future__ import annotations

from collections.abc import AsyncIterator

from data.secret_errors import SecretsUnreadable, Undecipherable
from data.vault.checkup import VaultCheckup, checkup
from data.vault.client import VaultUnavailable
from server.cli.checks import Check, Status, problem_of
from server.cli.session import opened_secrets
from server.production import UnfitForProduction, require_fit_urls
from server.settings import Settings

_DAY = 86_400
_POLICY = "give its token the policy that docs/operations/secrets.md shows"


async def vault_checks(settings: Settings) -> list[Check]:
    """Whether Vault does all that it will be asked for, where one is set."""
    if not settings.vault_addr:
        return []
    checks: list[Check] = []
    try:
        async with checkup(settings.vault_address, settings.vault_login) as vault:
            async for check in _checks(vault):
                checks.append(check)  # noqa: PERF401 - kept when a later one fails
    except VaultUnavailable as error:
        checks.append(
            Check(
                "vault",
                Status.PROBLEM,
                f"Vault cannot be used now: {error}",
                "start or unseal it, or mend VAULT_ADDR and VAULT_CACERT; a running service goes on",
            )
        )
    except SecretsUnreadable as error:
        checks.append(problem_of("vault", error))
    if all(check.status is not Status.PROBLEM for check in checks):
        checks += await _production(settings)
    return checks


async def _production(settings: Settings) -> list[Check]:
    """What production does not bear of the passwords that Vault has."""
    # No user is to be made in the database for this.
    without_users = settings.model_copy(update={"vault_database_role": ""})
    async with opened_secrets(without_users) as (known, _):
        role = {"vault_database_role": settings.vault_database_role}
        try:
            require_fit_urls(known.model_copy(update=role))
        except UnfitForProduction as unfit:
            return [Check("production", Status.PROBLEM, problem) for problem in unfit.problems]
    return []


async def _checks(vault: VaultCheckup) -> AsyncIterator[Check]:
    life = await vault.token()
    yield _token(life.seconds, is_renewable=life.is_renewable or vault.is_app_role)
    for name, work in (
        ("vault secrets", vault.read_secrets),
        ("vault transit", vault.use_envelope),
        ("vault database", vault.make_user),
    ):
        try:
            done = await work()
        except (SecretsUnreadable, Undecipherable) as error:
            yield Check(name, Status.PROBLEM, str(error), _POLICY)
        else:
            if done is not None:
                yield Check(name, Status.OK, done)


def _token(seconds: float | None, *, is_renewable: bool) -> Check:
    if seconds is None:
        return Check(
            "vault",
            Status.WARNING,
            "it answers; the token never ends",
            "use AppRole, or a token that ends and can be renewed: this one is as good as a "
            "password",
        )
    words = f"it answers; the token holds for {seconds:,.0f} s"
    if is_renewable:
        return Check("vault", Status.OK, f"{words} and can be renewed")
    return Check(
        "vault",
        Status.WARNING if seconds > _DAY else Status.PROBLEM,
        f"{words} and cannot be renewed",
        "use AppRole or a renewable token, or have VAULT_TOKEN_FILE kept fresh by Vault's agent",
    )
