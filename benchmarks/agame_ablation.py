"""Trains A-GAME and the six ablations of the paper's Table 1 with equal budgets, and prints our table beside it.

Every version is the small recipe plus exactly what its recipe (recipes/agame_<version>.yaml) changes in the published
network; versions of one seed start from the same random numbers and draw the same snippets. Trained on SynthVOS (preset
rich) and DAVIS-2016, half each; examined on held-out SynthVOS (other pictures, another seed) and on DAVIS-2016's
validation videos, beside two baselines. Runs are kept below --work: a run that was cut goes on, a finished one is not
repeated. Results go to benchmarks/results/agame_ablation.{json,md,svg}.

    python benchmarks/agame_ablation.py --jobs 2                        # small, from scratch; two cores
    python benchmarks/agame_ablation.py --scale full --device cuda      # ResNet-101 at 240x432, ImageNet weights
    python benchmarks/agame_ablation.py --scale quick --seeds 2         # does it run?
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from ablation_report import write_report
from experiment import Contender, Exam, FirstMaskCopied, Trained, run_all, stage_folder
from experiment_data import Pool, add_options, facts_of, setting_of
from nearest_neighbour import NearestNeighbour

from vosdata.recipe import Recipe, load_recipe

FULL = "full"
ABLATIONS = ("no_appearance", "no_mask_propagation", "unimodal", "no_update", "softmax", "no_end_to_end")
NUM_BUILTIN = 100


def changes(ablation: str) -> list[str]:
    """What the recipe of an ablation changes, as overrides."""
    published, ablated = (load_recipe(name) for name in ("agame_initial", f"agame_{ablation}"))
    return list(_differences(published, ablated))


def _differences(published: Recipe, ablated: Recipe) -> Iterator[str]:
    for section, values in ablated.configuration().items():
        for key, value in values.items():
            if value != published.configuration()[section][key]:
                yield f"{section}.{key}={str(value).lower() if isinstance(value, bool) else value}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "agame_ablation", seeds=3)
    options = parser.parse_args()
    setting, seeds = setting_of(options), range(options.seeds)
    pool = Pool.of(setting, NUM_BUILTIN)
    sets = {
        setting.davis_set("train"): 0.5,
        setting.synthetic_set("rich", pool.part(is_held_out=False)): 0.5,
    }
    held_out = Exam("held-out SynthVOS", setting.held_out_set("rich", pool.part(is_held_out=True)), "davis2017")
    exams = [held_out, setting.davis_exam()]
    arms = {FULL: [], **{ablation: changes(ablation) for ablation in ABLATIONS}}
    trained = [
        Trained(arm, seed, setting.recipes(sets, seed, changed)) for seed in seeds for arm, changed in arms.items()
    ]
    folder: Path = setting.work / "runs"
    results = run_all(trained, exams, folder, options.jobs, options.device)
    results += run_all(list(baselines(trained, folder)), exams, folder, options.jobs)
    facts = {
        **facts_of(options, setting, trained[0].recipes),
        "changes": arms,
    }
    write_report(options.out, results, exams, facts)
    print((options.out / "agame_ablation.md").read_text())


def baselines(trained: list[Trained], folder: Path) -> Iterator[Contender]:
    """What the full model is compared with, of those that were trained below a folder."""
    yield FirstMaskCopied()
    for one in trained:
        if one.arm == FULL:
            last, home = one.recipes[-1], folder / f"{FULL}-seed{one.seed}"
            run = stage_folder(home, len(one.recipes))
            yield NearestNeighbour("nearest_deep", one.seed, last, run, all_levels=False)
            yield NearestNeighbour("nearest", one.seed, last, run, all_levels=True)
            yield NearestNeighbour("nearest_untrained", one.seed, last, None, all_levels=True)


if __name__ == "__main__":
    main()
