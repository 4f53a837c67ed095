"""Does A-GAME segment held-out synthetic videos better than what needs no training for it?

The full model is trained on SynthVOS alone, and examined on held-out SynthVOS of the same presets, rich and paper
(other pictures, another seed), beside the copied first mask and nearest neighbours in backbone features. Runs are
kept below --work: a run that was cut goes on, a finished one is not repeated. Results go to
benchmarks/results/agame_baselines.{json,md,svg}.

    python benchmarks/agame_baselines.py --jobs 2                       # medium, from scratch; two cores
    python benchmarks/agame_baselines.py --scale full --device cuda     # ResNet-101 at 240x432, ImageNet weights
    python benchmarks/agame_baselines.py --scale quick --seeds 2        # does it run?
"""

import argparse
from pathlib import Path

from agame_ablation import FULL, NUM_BUILTIN, baselines
from baselines_report import write_report
from experiment import Exam, Trained, run_all
from experiment_data import Pool, add_options, facts_of, setting_of

from synth.presets import PresetName

SHARES: dict[PresetName, float] = {"rich": 0.7, "paper": 0.3}
"""Of each preset's videos in what is trained on."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "agame_baselines", seeds=3, scale="medium")
    options = parser.parse_args()
    setting = setting_of(options)
    pool = Pool.of(setting, NUM_BUILTIN)
    unseen = pool.part(is_held_out=True)
    pools = {"synthvos": pool.part(is_held_out=False), "further": Pool.further(NUM_BUILTIN)}  # the pool itself is small
    sets = {
        setting.synthetic_set(preset, pictures, name): share / len(pools)
        for preset, share in SHARES.items()
        for name, pictures in pools.items()
    }
    exams = [Exam(f"held-out {preset}", setting.held_out_set(preset, unseen), "davis2017") for preset in SHARES]
    trained = [Trained(FULL, seed, setting.recipes(sets, seed)) for seed in range(options.seeds)]
    folder: Path = setting.work / "runs"
    results = run_all(trained, exams, folder, options.jobs, options.device)
    results += run_all(list(baselines(trained, folder)), exams, folder, options.jobs)
    facts = {
        **facts_of(options, setting, trained[0].recipes),
        "synthetic_videos": len(sets) * setting.scale.num_synthetic,
        "presets": SHARES,
    }
    write_report(options.out, results, exams, facts)
    print((options.out / "agame_baselines.md").read_text())


if __name__ == "__main__":
    main()
