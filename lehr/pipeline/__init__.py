"""The graph of a recipe, the stages it consists of, the runner of one stage, and the runner of all stages in this process."""
