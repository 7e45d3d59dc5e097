"""Launch plans: every tiny recipe under its name, and one of them each night.

The nightly plan exists where `LEHR_NIGHTLY_OUT`, s3://BUCKET/PREFIX, is set at registration; each night has a folder of its
date below it. As every plan with a schedule it sleeps until it is activated.
"""

from __future__ import annotations

import os
from datetime import datetime

from flytekit import CronSchedule, LaunchPlan, dynamic, workflow
from flytekit.exceptions.user import FlyteRecoverableException

from lehr.config.shipped import names
from lehr.runtime.errors import UserError
from lehr.tasks.opening import open_run, resolved
from lehr.tasks.owned import owned
from lehr.tasks.requests import default
from lehr.tasks.stages import settings
from lehr.workflows.run import run, whole

NIGHTLY, RECIPE, AT = "LEHR_NIGHTLY_OUT", "tiny/olmo2", "0 2 * * *"  # UTC


@dynamic(**settings(default("cpu")))
@owned(FlyteRecoverableException)
def night(kickoff: datetime, out: str) -> str:
    """The graph of one night's run."""
    if not out:
        raise UserError("no place is given", where=NIGHTLY, remedy="set it to s3://BUCKET/PREFIX and register again")
    return whole(open_run(resolved(RECIPE, []), f"{out.rstrip('/')}/{kickoff:%Y-%m-%d}", RECIPE, f"lehr run {RECIPE}"))


@workflow
def nightly(kickoff: datetime, out: str) -> str:
    """The smallest shipped recipe, in a folder of the night's date. Returns the report's address."""
    return night(kickoff=kickoff, out=out)


for _name in names():
    if _name.startswith("tiny/"):
        LaunchPlan.get_or_create(run, name=f"lehr.{_name.replace('/', '.')}", fixed_inputs={"recipe": _name})
if _out := os.environ.get(NIGHTLY, ""):
    LaunchPlan.get_or_create(
        nightly,
        name="lehr.nightly",
        schedule=CronSchedule(schedule=AT, kickoff_time_input_arg="kickoff"),
        fixed_inputs={"out": _out},
    )
