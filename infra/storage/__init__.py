"""Object storage: lehr.runtime.ports.Objects on boto3. Imported only for a run whose root is in an object store."""

from lehr.infra.storage.s3 import S3Objects

__all__ = ["S3Objects"]
