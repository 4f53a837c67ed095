"""The protocols: which frames and objects count, how they are averaged, and what is refused."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shards.errors import ScoreError
from vosdata.evaluate.measures import boundary_measure
from vosdata.evaluate.predictions import CopyFirstMask
from vosdata.evaluate.score import score_videos

Mask = NDArray[np.uint8]
Make = Callable[..., Any]

SIZE = (24, 32)


def mask(**columns: tuple[int, int]) -> Mask:
    """A mask with vertical bars: ``o1=(left, right)`` for object 1, ``o255`` for void."""
    drawn = np.zeros(SIZE, np.uint8)
    for name, (left, right) in columns.items():
        drawn[4:20, left:right] = int(name[1:])
    return drawn


def plain_j(truth: Mask, prediction: Mask, object_id: int) -> float:
    union = ((truth == object_id) | (prediction == object_id)).sum()
    return 1.0 if union == 0 else float(((truth == object_id) & (prediction == object_id)).sum() / union)


def test_scores_average_over_objects_not_over_sequences_or_frames(video: Make, predictions: Make) -> None:
    one = [mask(o1=(2, 10))] * 9
    two = [mask(o1=(2, 10), o2=(12, 20))] * 4
    guess = {"a": [mask(o1=(4, 10))] * 9, "b": [mask(o1=(2, 10), o2=(16, 20))] * 4}
    score = score_videos([video(one, "a"), video(two, "b")], predictions(**guess))
    expected = [0.75, 1.0, 0.5]
    assert [(item.sequence, item.object_id) for item in score.objects] == [("a", 1), ("b", 1), ("b", 2)]
    assert [item.j.mean for item in score.objects] == pytest.approx(expected)
    assert [item.num_frames for item in score.objects] == [7, 2, 2]
    assert score.j.mean == pytest.approx(np.mean(expected))
    assert score.j.recall == pytest.approx(2 / 3)  # 0.5 itself does not count
    assert score.j_and_f == pytest.approx((score.j.mean + score.f.mean) / 2)
    assert [part.j.mean for part in score.sequences()] == pytest.approx([0.75, 0.75])


def test_the_first_and_last_annotated_frames_are_not_scored(video: Make, predictions: Make) -> None:
    truth = [None, mask(o1=(2, 10)), None, mask(o1=(3, 11)), mask(o1=(4, 12)), mask(o1=(5, 13)), None]
    wrong = mask()
    guess = predictions(one=[wrong, wrong, wrong, truth[3], truth[4], wrong, wrong])
    score = score_videos([video(truth)], guess)
    assert guess.asked == [3, 4]
    assert score.objects[0].num_frames == 2
    assert score.j.mean == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_the_rules_applied_to_stacks_of_masks(seed: int, video: Make, predictions: Make) -> None:
    rng = np.random.default_rng(seed)
    num_frames, num_objects = int(rng.integers(3, 12)), int(rng.integers(1, 5))
    truth = rng.integers(0, num_objects + 1, (num_frames, 4, 5)).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    truth[0, 0, 0] = num_objects
    guess = np.where(rng.random(truth.shape) < 0.3, rng.integers(0, num_objects + 1, truth.shape), truth).astype(
        np.uint8
    )
    score = score_videos([video(list(truth))], predictions(one=list(guess)))

    # All objects at once as boolean stacks (N, T, H, W), as the published evaluation code holds them.
    ids = np.arange(1, num_objects + 1)[:, None, None, None]
    stacks = truth[None, 1:-1] == ids, guess[None, 1:-1] == ids
    union = (stacks[0] | stacks[1]).sum((2, 3))
    j = np.where(union == 0, 1.0, (stacks[0] & stacks[1]).sum((2, 3)) / np.maximum(union, 1))
    f = [[boundary_measure(t, p) for t, p in zip(*pair, strict=True)] for pair in zip(*stacks, strict=True)]
    assert [item.j.mean for item in score.objects] == pytest.approx(j.mean(1), abs=1e-12)
    assert [item.j.recall for item in score.objects] == pytest.approx((j > 0.5).mean(1), abs=1e-12)
    assert [item.f.mean for item in score.objects] == pytest.approx(np.mean(f, axis=1), abs=1e-12)
    assert score.j_and_f == pytest.approx((j.mean() + np.mean(f)) / 2, abs=1e-12)


def test_void_counts_as_background(video: Make, predictions: Make) -> None:
    truth = [mask(o1=(2, 10), o255=(10, 12))] * 3
    guess = [mask(o1=(2, 12))] * 3
    for protocol in ("davis2016", "davis2017"):
        score = score_videos([video(truth)], predictions(one=guess), protocol)
        assert score.j.mean == pytest.approx(0.8), protocol


def test_ids_below_the_highest_of_the_first_frame_count_even_when_absent(video: Make, predictions: Make) -> None:
    truth = [mask(o3=(2, 10))] * 3
    score = score_videos([video(truth)], predictions(one=[mask(o3=(2, 6))] * 3))
    assert [item.object_id for item in score.objects] == [1, 2, 3]
    assert [item.j.mean for item in score.objects] == [1.0, 1.0, 0.5]


def test_an_object_hidden_after_the_first_frame_is_judged_by_what_is_predicted(video: Make, predictions: Make) -> None:
    truth = [mask(o1=(2, 10))] + [mask()] * 4
    found = [mask()] * 5
    invented = [mask(), mask(o1=(2, 10)), mask(), mask(o1=(2, 10)), mask()]
    assert score_videos([video(truth)], predictions(one=found)).j.mean == 1.0
    assert score_videos([video(truth)], predictions(one=invented)).j.mean == pytest.approx(1 / 3)


def test_an_object_that_joins_later_is_not_scored_and_that_is_said(video: Make, predictions: Make) -> None:
    truth = [mask(o1=(2, 10)), mask(o1=(2, 10)), *[mask(o1=(2, 10), o2=(12, 20))] * 3]
    guess = [mask(o1=(2, 10)), mask(o1=(2, 10)), *[mask(o1=(2, 10), o2=(16, 20))] * 3]
    score = score_videos([video(truth)], predictions(one=guess))
    assert [item.object_id for item in score.objects] == [1]
    assert score.j.mean == 1.0
    assert any("object 2 joins after the first frame" in warning for warning in score.warnings)


def test_an_id_that_the_truth_does_not_have_is_refused(video: Make, predictions: Make) -> None:
    truth = [mask(o1=(2, 10))] * 5
    guess = [*truth[:2], mask(o1=(2, 10), o7=(12, 13)), *truth[3:]]
    with pytest.raises(ScoreError, match=r"davis2017: prediction of one frame 00002 has the id 7.*1 object"):
        score_videos([video(truth)], predictions(one=guess))


def test_binary_predictions_are_refused_where_objects_are_told_apart(video: Make, predictions: Make) -> None:
    truth = [mask(o1=(2, 10))] * 3
    binary = [np.where(item > 0, np.uint8(255), np.uint8(0)) for item in truth]
    with pytest.raises(ScoreError, match=r"value 255.*davis2016"):
        score_videos([video(truth)], predictions(one=binary))


@pytest.mark.parametrize("values", [(255, 255), (1, 1), (1, 2)], ids=["binary", "one id", "two ids"])
def test_davis2016_scores_the_union_however_it_is_written(
    values: tuple[int, int], video: Make, predictions: Make
) -> None:
    truth = [mask(o1=(2, 10), o2=(12, 20))] * 4
    lookup = np.zeros(256, np.uint8)
    lookup[1:3] = values
    guess = [lookup[mask(o1=(2, 10), o2=(12, 16))]] * 4
    score = score_videos([video(truth)], predictions(one=guess), "davis2016")
    assert [item.object_id for item in score.objects] == [1]
    assert score.j.mean == pytest.approx(12 / 16)
    assert score.protocol == "davis2016"


def test_soft_masks_are_refused(video: Make, predictions: Make) -> None:
    truth = [mask(o1=(2, 10))] * 3
    soft = np.tile(np.arange(SIZE[1], dtype=np.uint8) * 8, (SIZE[0], 1))
    with pytest.raises(ScoreError, match="soft or JPEG-saved"):
        score_videos([video(truth)], predictions(one=[soft] * 3), "davis2016")


def test_another_size_is_refused(video: Make, predictions: Make) -> None:
    truth = [mask(o1=(2, 10))] * 3
    with pytest.raises(ScoreError, match=r"one frame 00001 is 12x16, its truth is 24x32"):
        score_videos([video(truth)], predictions(one=[item[::2, ::2] for item in truth]))


def test_sequences_that_cannot_be_scored_are_named(video: Make, predictions: Make) -> None:
    good = [mask(o1=(2, 10))] * 3
    videos = [
        video(good, "good"),
        video([good[0], None, good[0]], "short"),
        video([mask(), *good], "late"),
        video([None, None], "bare"),
    ]
    score = score_videos(videos, predictions(good=[mask(o1=(2, 6))] * 3))
    assert {item.sequence for item in score.objects} == {"good"}
    assert [warning.split(":")[0] for warning in score.warnings] == ["short", "late", "bare"]
    with pytest.raises(ScoreError, match="no sequence can be scored"):
        score_videos(videos[1:], predictions())
    with pytest.raises(ScoreError, match="no sequence can be scored"):
        score_videos([], predictions())


def test_truth_given_as_prediction_is_noticed(video: Make, predictions: Make) -> None:
    truth = [mask(o1=(t, t + 6)) for t in range(6)]
    assert any(
        "is this the truth itself" in text for text in score_videos([video(truth)], predictions(one=truth)).warnings
    )
    almost = [item.copy() for item in truth]
    almost[3][0, 0] = 1
    assert not score_videos([video(truth)], predictions(one=almost)).warnings


def test_a_misspelt_protocol_is_answered_with_the_right_one(video: Make, predictions: Make) -> None:
    with pytest.raises(ValueError, match="did you mean 'davis2017'"):
        score_videos([], predictions(), "davis-2017")


def test_copying_the_first_mask_forward_scores_the_overlap_with_it(video: Make) -> None:
    truth = [mask(o1=(t, t + 8)) for t in range(6)]
    score = score_videos([video(truth)], CopyFirstMask())
    assert score.j.mean == pytest.approx(np.mean([plain_j(truth[t], truth[0], 1) for t in range(1, 5)]))


def test_copying_forward_takes_up_objects_that_join(video: Make) -> None:
    truth = [mask(), mask(o1=(2, 8)), mask(o1=(4, 10), o2=(8, 12)), mask(o1=(6, 12)), mask()]
    read = CopyFirstMask().open(video(truth))
    joined = mask(o1=(2, 8), o2=(8, 12))
    expected = [mask(), mask(o1=(2, 8)), joined, joined, joined]
    assert all(np.array_equal(read(t), expected[t]) for t in range(5))


def test_memory_does_not_grow_with_the_length_of_a_video() -> None:
    class Generated:
        """A video whose masks are made when asked for."""

        name = "one"

        def __init__(self, num_frames: int) -> None:
            self.num_frames = num_frames
            self.frame_numbers = range(num_frames)

        def mask(self, t: int) -> Mask:
            drawn = np.zeros((256, 256), np.uint8)
            drawn[t % 100 : t % 100 + 40, 50:90] = 1
            return drawn

        def open(self, video: Any) -> Callable[[int], Mask]:
            return lambda t: self.mask(t + 1)

    def peak(num_frames: int) -> int:
        generated = Generated(num_frames)
        tracemalloc.start()
        score_videos([generated], generated)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(10)
    assert peak(300) - peak(20) < 2 * 256 * 256
