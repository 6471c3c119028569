"""What weights depend on: recipe, starting weights, data. Cells of an ablation and checkpoints are known by it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avst.config import Recipe, recipe_values
from avst.durable import file_digest, json_safe
from avst.errors import AvstError
from avst.run_folder import masked

PER_RUN = ("name", "output_dir", "seed")
EVALUATION = ("eval",)  # sections that change no weight


def trained(recipe: Recipe) -> dict[str, Any]:
    """What training depends on: the recipe without its names, its seed and how it is evaluated."""
    values = recipe_values(recipe)
    values["data"] = {key: value for key, value in values["data"].items() if key != "eval"}
    return {key: value for key, value in values.items() if key not in (*PER_RUN, *EVALUATION)}


def identity(recipe: Recipe, start: str) -> dict[str, Any]:
    """All that weights depend on, the seed apart. start: digest of the weights that training begins from."""
    return json_safe(
        {"recipe": masked(trained(recipe)), "starting weights": start, "data": file_digests(recipe.data.train)}
    )


def file_digests(files: Sequence[str]) -> dict[str, str]:
    """File -> digest of its content. Raises AvstError for one that cannot be read."""
    found = {}
    for file in files:
        try:
            found[file] = file_digest(Path(file))
        except OSError as error:
            raise AvstError(f"{file}: cannot be read: {error.strerror}") from error
    return found
