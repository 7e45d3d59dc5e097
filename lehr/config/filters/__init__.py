"""The filters of documents, each with its thresholds."""

from lehr.config.filters.base import FilterConfig
from lehr.config.filters.own import OwnFilter

Filter = OwnFilter  # once there are more: Annotated[A | B, Field(discriminator="kind")]

__all__ = ["Filter", "FilterConfig"]
