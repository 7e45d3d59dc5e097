"""What a recipe will cost, before anything is spent: arithmetic over the recipe, without data and without torch."""

from lehr.planning.plan import RunPlan, plan_run

__all__ = ["RunPlan", "plan_run"]
