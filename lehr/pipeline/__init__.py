"""The graph of a recipe, the stages that it is made of, and the runner of one stage and of all of them in this process."""
