"""The recipe: typed, validated once at the edge, explained in one line when it is wrong."""

from lehr.config.load import load_recipe, recipe_yaml
from lehr.config.recipe import Recipe

__all__ = ["Recipe", "load_recipe", "recipe_yaml"]
