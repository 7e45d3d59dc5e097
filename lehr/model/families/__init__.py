"""The model families, one file each. To add one: a file here, a line below, and its name in `lehr.config.model.Family`."""

from __future__ import annotations

from collections.abc import Mapping

from lehr.model.families import granite, granitemoe, olmo, olmo2, stablelm
from lehr.model.families.base import ModelFamily

FAMILIES: Mapping[str, ModelFamily] = {
    module.FAMILY.name: module.FAMILY for module in (olmo, olmo2, granite, granitemoe, stablelm)
}
