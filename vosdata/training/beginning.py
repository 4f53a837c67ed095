"""Where a run begins: with the checkpoint that it goes on from, or with first weights."""

from collections.abc import Callable
from pathlib import Path

from vosdata.checkpoint import Checkpoint, checkpoint_path, load_checkpoint, load_weights, open_checkpoint
from vosdata.models.agame import AGAME
from vosdata.models.weights import load_backbone
from vosdata.recipe import Recipe
from vosdata.training.ranks import Ranks
from vosdata.training.run_folder import last_state


def shared_state(out: Path, recipe: Recipe, ranks: Ranks, tell: Callable[[str], None]) -> Checkpoint | None:
    """Finds on rank 0 where the run stands, and gives every rank that checkpoint, if any."""
    checkpoint = last_state(out, recipe, tell) if ranks.is_main else None
    step = ranks.from_main(-1 if checkpoint is None else checkpoint.step)
    if step < 0:
        return None
    return checkpoint or load_checkpoint(checkpoint_path(out, step))


def first_weights(network: AGAME, recipe: Recipe, weights_dir: Path | None, tell: Callable[[str], None]) -> str:
    """Gives a network the weights that the recipe starts from, and says where they came from."""
    if recipe.train.init_from is None:
        origin = load_backbone(network, recipe.model.weights, weights_dir, tell)
        return f"{origin.source} {origin.sha256}".strip()
    checkpoint = open_checkpoint(Path(recipe.train.init_from), recipe.train.init_with)
    load_weights(network, checkpoint.model, recipe.train.init_from)
    tell(f"starting from {recipe.train.init_from} after step {checkpoint.step}")
    return f"{recipe.train.init_from} after step {checkpoint.step}; {checkpoint.backbone}"
