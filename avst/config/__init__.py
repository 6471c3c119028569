"""The recipe: one dataclass tree, validated once, unknown keys refused with the nearest name.

recipe = load_recipe("recipes/quickstart.yaml", ["grpo.learning_rate=1e-6"])
args = grpo_config(recipe)  # TRL's GRPOConfig
"""

from avst.config.arguments import grpo_arguments, grpo_config, sft_arguments, sft_config
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
    "grpo_config",
    "load_recipe",
    "recipe_values",
    "sft_arguments",
    "sft_config",
]
