"""Does SynthVOS help? The same A-GAME, trained with the same number of steps on real and on synthetic videos.

Four arms: DAVIS-2016's training videos alone; those and SynthVOS of the preset paper, half each; those and SynthVOS of
the preset rich; SynthVOS of the preset rich alone. Arms of one seed start from the same weights. Examined on
DAVIS-2016's validation videos. Runs are kept below --work: a run that was cut goes on, a finished one is not repeated.
Results go to benchmarks/results/synth_effect.{json,md,svg}.

    python benchmarks/synth_effect.py --jobs 2                        # small, from scratch; two cores
    python benchmarks/synth_effect.py --scale full --device cuda      # ResNet-101 at 240x432, ImageNet weights
    python benchmarks/synth_effect.py --scale quick --seeds 2         # does it run?
"""

import argparse

from effect_report import write_report
from experiment import Trained, run_all
from experiment_data import Pool, add_options, facts_of, setting_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "synth_effect", seeds=5)
    options = parser.parse_args()
    setting, seeds = setting_of(options), range(options.seeds)
    pool = Pool.of(setting)
    real = setting.davis_set("train")
    paper, rich = (setting.synthetic_set(preset, pool) for preset in ("paper", "rich"))
    arms = {
        "real": {real: 1.0},
        "real_and_paper": {real: 0.5, paper: 0.5},
        "real_and_rich": {real: 0.5, rich: 0.5},
        "rich": {rich: 1.0},
    }
    exam = setting.davis_exam()
    trained = [Trained(arm, seed, setting.recipes(sets, seed)) for seed in seeds for arm, sets in arms.items()]
    results = run_all(trained, [exam], setting.work / "runs", options.jobs, options.device)
    facts = {
        **facts_of(options, setting, trained[0].recipes),
        "cutouts": len(pool.objects),
        "photographs": len(pool.backgrounds),
        "synthetic_videos": setting.scale.num_synthetic,
    }
    write_report(options.out, results, exam, facts)
    print((options.out / "synth_effect.md").read_text())


if __name__ == "__main__":
    main()
