"""All settings of a server process in one typed object, read once in `bootstrap.py` and passed on.

Each comes from the environment variable of its alias; flags of `nozle-server serve` override it.
"""

import re
from datetime import time
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """What a process is told from outside. Unknown variables are ignored, bad values stop the start with their name."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    data_dir: Path = Field(Path(".nozle"), alias="NOZLE_DATA_DIR")
    database_url: str | None = Field(None, alias="DATABASE_URL")
    host: str = Field("127.0.0.1", alias="HOST")
    port: int = Field(8080, alias="PORT", ge=0, le=65535)
    # Processes that answer requests; with more than one, another does the jobs.
    workers: int = Field(1, alias="NOZLE_WORKERS", ge=1, le=64)
    # Where the world reaches this server; links to files begin with it.
    public_url: str | None = Field(
        None, alias="NOZLE_PUBLIC_URL", pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="NOZLE_LOG_LEVEL")
    cors_allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(("*",), alias="CORS_ALLOWED_ORIGINS")
    metrics_secret: str | None = Field(None, alias="NOZLE_METRICS_SECRET", min_length=1)
    # What realtime tokens are signed with; generated and kept in the database when it is not given.
    centrifugo_token_hmac_secret: str | None = Field(
        None, alias="CENTRIFUGO_TOKEN_HMAC_SECRET", min_length=32
    )
    # A Centrifugo that browsers are connected to instead of this server: where its server API is, and the API's key.
    centrifugo_url: str | None = Field(
        None, alias="CENTRIFUGO_URL", pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$"
    )
    centrifugo_api_key: str | None = Field(None, alias="CENTRIFUGO_API_KEY", pattern=r"^[!-~]+$")
    # Where browsers reach it, when that is not under CENTRIFUGO_URL.
    centrifugo_public_url: str | None = Field(
        None, alias="CENTRIFUGO_PUBLIC_URL", pattern=r"^wss?://[^\s/?#]+(/[^\s?#]*)?$"
    )
    # Start even on a database that may lose what it acknowledged; said loudly at every start.
    allow_unsafe_durability: bool = Field(False, alias="NOZLE_ALLOW_UNSAFE_DURABILITY")
    database_connections: int = Field(16, alias="NOZLE_DATABASE_CONNECTIONS", ge=2, le=90)
    # Off, every request goes through the framework: the same answers, later.
    lane: bool = Field(True, alias="NOZLE_LANE")
    # Of each worker: customers of whom it keeps what `can()` is decided from.
    cached_customers: int = Field(100_000, alias="NOZLE_CACHED_CUSTOMERS", ge=1)
    max_body_bytes: int = Field(2 * 1024 * 1024, alias="NOZLE_MAX_BODY_BYTES", ge=1024)

    # Hour and minute (UTC) of the daily audit; None, as "off": there is none.
    audit_at: Annotated[time | None, NoDecode] = Field(time(3, 37), alias="NOZLE_AUDIT_AT")

    @field_validator("audit_at", mode="before")
    @classmethod
    def _read_time_of_day(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value == "off":
            return None
        if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d(:00)?", value):
            raise ValueError("must be hour and minute (UTC), such as 03:37, or off")
        return time.fromisoformat(value)

    @model_validator(mode="after")
    def _know_centrifugo(self) -> Self:
        if self.centrifugo_url and not (self.centrifugo_api_key and self.centrifugo_token_hmac_secret):
            raise ValueError("CENTRIFUGO_URL needs CENTRIFUGO_API_KEY and CENTRIFUGO_TOKEN_HMAC_SECRET")
        return self

    @field_validator("public_url", "centrifugo_url")
    @classmethod
    def _without_last_slash(cls, value: str | None) -> str | None:
        return value.rstrip("/") if value else value

    @field_validator("cors_allowed_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(origin.strip() for origin in value.split(",") if origin.strip())
        return value
