"""The recipe: typed, validated once when it is read, with one line of explanation for each mistake."""

from lehr.config.load import load_recipe, recipe_yaml
from lehr.config.recipe import Recipe

__all__ = ["Recipe", "load_recipe", "recipe_yaml"]
