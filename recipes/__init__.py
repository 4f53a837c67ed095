"""Recipes: YAML only. This file makes the folder a package, so that installed and editable copies both find them."""
