"""Questions about a model or a run: which documents a step held, where a step goes, how a model starts, how runs compare."""
