"""The recipe: one dataclass tree, validated once, unknown keys refused with the nearest name.

recipe = load_recipe("recipes/quickstart.yaml", ["grpo.learning_rate=1e-6"])
GRPOConfig(**grpo_arguments(recipe))
"""

from avst.config.arguments import grpo_arguments, sft_arguments
from avst.config.loading import load_recipe, recipe_values
from avst.config.recipe import (
    DataRecipe,
    EvalRecipe,
    LoraRecipe,
    MediaRecipe,
    ModelRecipe,
    PromptRecipe,
    Recipe,
    RewardRecipe,
    WordVectorsRecipe,
)

__all__ = [
    "DataRecipe",
    "EvalRecipe",
    "LoraRecipe",
    "MediaRecipe",
    "ModelRecipe",
    "PromptRecipe",
    "Recipe",
    "RewardRecipe",
    "WordVectorsRecipe",
    "grpo_arguments",
    "load_recipe",
    "recipe_values",
    "sft_arguments",
]
