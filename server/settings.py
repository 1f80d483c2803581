"""All settings, read once from the environment or `.env`; nothing else reads the environment."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from data.postgres.engine import parse_url
from data.redis.client import check_redis_url
from data.s3.places import require_endpoint
from data.vault.address import VaultAddress, VaultLogin, check_vault_url

Network = IPv4Network | IPv6Network
# The largest Int of GraphQL, in which clients are told of them.
_INT = 2**31 - 1


class Environment(StrEnum):
    """Where the service runs."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class InvalidSettings(Exception):
    """A setting has a value that cannot be used; the message names it in one line."""


class Settings(BaseSettings):
    """What an operator can set; every field stands in `.env.example` and in the README."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", frozen=True, extra="ignore"
    )

    environment: Environment = Environment.DEVELOPMENT
    footfall_home: Path = Path(".footfall")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    database_url: str = Field(default="", repr=False)
    replica_database_url: str = Field(default="", repr=False)
    replica_max_lag_seconds: float = Field(default=60, gt=0, le=86_400)
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = ()
    redis_url: str = Field(default="", repr=False)
    ingest_mode: Literal["direct", "queue"] = "direct"
    queue_max_events: int = Field(default=1_000_000, ge=1_000, le=_INT)
    spool_megabytes: int = Field(default=1_024, ge=0, le=1_048_576)
    result_cache_megabytes: int = Field(default=64, ge=0, le=65_536)
    result_cache_patience_seconds: float = Field(default=0.25, ge=0, le=600)
    graphql_status_profile: Literal["compatible", "draft"] = "compatible"
    query_timeout_seconds: float = Field(default=30, gt=0, le=600)
    query_cost_limit: int = Field(default=200_000, ge=1_000, le=_INT)
    query_cost_budget: int = Field(default=1_000_000, ge=1_000, le=_INT)
    query_cost_restore_per_second: int = Field(default=50_000, ge=1, le=_INT)
    receive_timeout_seconds: float = Field(default=30, gt=0, le=3_600)
    rate_limit_requests: int = Field(default=0, ge=0, le=_INT)
    rate_limit_ingest_requests: int = Field(default=0, ge=0, le=_INT)
    rate_limit_window_seconds: int = Field(default=60, ge=1, le=86_400)
    sources_file: str = ""
    outbound_allow_private: bool = False
    s3_endpoint_url: str = ""
    source_history_days: int = Field(default=30, ge=1, le=36_500)
    source_audit_days: int = Field(default=90, ge=1, le=36_500)
    log_level: str = "INFO"
    otel_exporter_otlp_endpoint: str = ""
    vault_token: str = Field(default="", repr=False)
    vault_token_file: str = ""
    vault_role_id: str = Field(default="", repr=False)
    vault_secret_id: str = Field(default="", repr=False)
    vault_secret_id_file: str = ""
    vault_namespace: str = ""
    vault_cacert: str = ""
    vault_kv_mount: str = "secret"
    vault_secret_path: str = "footfall"  # noqa: S105 - where it is, not what it is
    vault_database_mount: str = "database"
    vault_database_role: str = ""
    vault_transit_key: str = "footfall"
    # Below what it is checked with.
    vault_addr: str = ""

    @property
    def is_production(self) -> bool:
        """Whether the service faces real users."""
        return self.environment is Environment.PRODUCTION

    @property
    def home(self) -> Path:
        """The folder of everything that the service keeps, as an absolute path."""
        return self.footfall_home.expanduser().resolve()

    @property
    def vault_address(self) -> VaultAddress:
        """Where Vault is; only where VAULT_ADDR is set."""
        return VaultAddress(
            url=self.vault_addr,
            namespace=self.vault_namespace,
            ca_certificate=self.vault_cacert,
            kv_mount=self.vault_kv_mount,
            secret_path=self.vault_secret_path,
            database_mount=self.vault_database_mount,
            database_role=self.vault_database_role,
            transit_key=self.vault_transit_key,
        )

    @property
    def vault_login(self) -> VaultLogin:
        """How to log in to Vault."""
        return VaultLogin(
            token=self.vault_token,
            token_file=self.vault_token_file,
            role_id=self.vault_role_id,
            secret_id=self.vault_secret_id,
            secret_id_file=self.vault_secret_id_file,
        )

    @field_validator("database_url", "replica_database_url")
    @classmethod
    def _check_database_url(cls, value: str) -> str:
        if value:
            parse_url(value)
        return value

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, value: str) -> str:
        if value:
            check_redis_url(value)
        return value

    @field_validator("ingest_mode")
    @classmethod
    def _check_queue(cls, value: str, info: ValidationInfo) -> str:
        if value == "queue" and not info.data.get("redis_url"):
            raise ValueError("the queue needs a Redis: set REDIS_URL, or INGEST_MODE=direct")
        return value

    @field_validator("vault_cacert")
    @classmethod
    def _check_certificates(cls, value: str) -> str:
        if value and not Path(value).is_file():
            raise ValueError(f"there is no file {value}")
        return value

    @field_validator("vault_kv_mount", "vault_secret_path", "vault_database_mount")
    @classmethod
    def _check_vault_path(cls, value: str) -> str:
        path = value.strip("/")
        if not path or {"", ".", ".."} & set(path.split("/")):
            raise ValueError("it is not a path in Vault such as secret or teams/footfall")
        return path

    @field_validator("vault_addr")
    @classmethod
    def _check_vault(cls, value: str, info: ValidationInfo) -> str:
        given = info.data
        if not value:
            return value
        check_vault_url(value, is_production=given.get("environment") is Environment.PRODUCTION)
        ids = [given.get(f"vault_secret_id{end}") for end in ("", "_file")]
        ways = [given.get("vault_token"), given.get("vault_token_file"), given.get("vault_role_id")]
        if sum(map(bool, ways)) != 1 or (ways[2] and sum(map(bool, ids)) != 1):
            raise ValueError(
                "it needs one way to log in: VAULT_TOKEN, or VAULT_TOKEN_FILE, or VAULT_ROLE_ID "
                "with VAULT_SECRET_ID or VAULT_SECRET_ID_FILE"
            )
        if given.get("vault_database_role") and not given.get("database_url"):
            raise ValueError("VAULT_DATABASE_ROLE needs a DATABASE_URL to make users in")
        return value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        origins = _listed(value)
        for origin in origins:
            parts = urlsplit(str(origin))
            if origin != "*" and (parts.scheme not in ("http", "https") or not parts.netloc):
                raise ValueError(f"{origin!r} is not an origin such as https://example.com")
        return tuple(str(origin).rstrip("/") for origin in origins)

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        return tuple(ip_network(str(part), strict=False) for part in _listed(value))

    @field_validator("s3_endpoint_url")
    @classmethod
    def _check_endpoint(cls, value: str) -> str:
        if value:
            require_endpoint(value)
        return value

    @field_validator("log_level")
    @classmethod
    def _check_level(cls, value: str) -> str:
        if value.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
            raise ValueError("it must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
        return value.upper()


def _listed(value: object) -> list[object]:
    """The parts of a comma-separated text, or the items of a list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return list(value) if isinstance(value, (list, tuple)) else [value]


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process; raises `InvalidSettings` with one line on the first problem."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]).upper() if first["loc"] else "settings"
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidSettings(f"{name} cannot be used: {message}") from None
