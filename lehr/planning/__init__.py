"""What a recipe will cost, before anything is spent: arithmetic over the recipe, without data and without torch."""
