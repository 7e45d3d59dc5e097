"""Object storage: boto3 behind lehr.runtime.ports.Objects. Imported only where a run's root is one."""

from lehr.infra.storage.s3 import S3Objects

__all__ = ["S3Objects"]
