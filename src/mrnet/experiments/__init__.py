"""Experiments as files: variants of a recipe, trained with several seeds, and what came of them."""
