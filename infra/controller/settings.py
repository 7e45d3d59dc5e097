"""The settings of one controller: a YAML file with any of these fields. Thresholds are in its `policy`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lehr.infra.fleet.policy import GPU_RESOURCE, NAMES, Policy
from lehr.infra.kube.lease import LeaseSettings
from lehr.runtime.errors import UserError, validators_words
from lehr.runtime.yaml_file import read_mapping

LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"


class Settings(BaseModel):
    """Immutable; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    namespaces: tuple[str, ...] = ()  # of training pods; pods in other namespaces are never deleted
    system_namespace: str = Field(default=NAMES.namespace, pattern=LABEL)
    gpu_resource: str = GPU_RESOURCE
    image: str = "lehr"  # of the revalidation Jobs: with the same probes as before every task
    pair_resources: dict[str, str] = {}  # needed by a pair test besides GPUs, such as an RDMA device
    image_pull_secret: str = ""
    allowed_images: tuple[str, ...] = ()  # digests (sha256:...) whose verdicts count if they ran the probes; empty: all
    preflight_variables: tuple[str, ...] = ()  # names in Flyte's default-env-vars; FLYTE_* and AWS_* are always allowed
    dry_run: bool = False  # decide and log, but write nothing to the cluster
    webhook_url: str = ""  # called for cordons, repairs and open breakers, with the evidence
    webhook_url_file: str = ""  # a file that holds it instead: the address may contain a token
    metrics_address: str = "127.0.0.1"
    metrics_port: int = Field(default=9404, ge=0, le=65535)  # 0: no metrics
    decision_log: str = "-"  # file, or - for standard output
    decision_log_mib: float = Field(default=64.0, gt=0)  # size of the file; the previous one is kept as FILE.1
    identity: str = ""  # of this replica in the Lease; empty: host name and process id
    lease: str = "lehr-controller"
    lease_seconds: float = Field(default=15.0, gt=0)  # another replica takes over when the Lease was not renewed for so long
    renew_seconds: float = Field(default=3.0, gt=0)
    resync_seconds: float = Field(default=60.0, gt=0)  # every node is decided upon at least this often
    relist_seconds: float = Field(default=600.0, gt=0)
    policy: Policy = Policy()

    @field_validator("webhook_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("a webhook is an http:// or https:// address")
        return value

    @model_validator(mode="after")
    def _renews_in_time(self) -> Settings:
        if self.renew_seconds > self.lease_seconds / 3:
            raise ValueError("renew_seconds must be at most a third of lease_seconds, else leadership is lost now and then")
        return self

    @model_validator(mode="after")
    def _has_one_webhook(self) -> Settings:
        if self.webhook_url and self.webhook_url_file:
            raise ValueError("give webhook_url or webhook_url_file, not both")
        return self

    def with_webhook(self) -> Settings:
        """With the address that `webhook_url_file` holds. Raises UserError that shows nothing of the file's content."""
        if not self.webhook_url_file:
            return self
        try:
            url = Path(self.webhook_url_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text"
            remedy = "mount the Secret's key there, or leave webhook_url_file out"
            raise UserError(
                f"cannot read the webhook's address: {reason}", where=self.webhook_url_file, remedy=remedy
            ) from error
        if not url.startswith(("http://", "https://")) or len(url.split()) != 1:
            raise UserError("this is no http:// or https:// address", where=self.webhook_url_file)
        return self.model_copy(update={"webhook_url": url})

    @property
    def election(self) -> LeaseSettings:
        return LeaseSettings(self.lease, self.system_namespace, self.lease_seconds, self.renew_seconds)

    @classmethod
    def load(cls, path: Path) -> Settings:
        """Read a settings file. Raises UserError with file, key and remedy."""
        return cls.checked(read_mapping(path, "settings", "give a file of `name: value` lines", empty=True), path)

    @classmethod
    def checked(cls, data: dict[str, Any], where: str | Path = "") -> Settings:
        """Settings from plain data. Raises UserError with the key."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            remedy = f"known keys: {', '.join(sorted(cls.model_fields))}" if first["type"] == "extra_forbidden" else ""
            place = ": ".join(part for part in (str(where), key) if part)
            raise UserError(validators_words(first["msg"]), where=place, remedy=remedy) from error
