"""Recipes: what the bundled ones say, how they extend and are overridden, and how faults are told."""

import dataclasses
import importlib.resources
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import RecipeError
from vosdata.recipe import ModelRecipe, Recipe, load_recipe, parse_size, recipe_to_yaml
from vosdata.recipe_files import known_recipes

MINIMAL = """
data: {sets: {a: 1}, frames: 4, size: 32x48}
train: {epochs: 1, batch: 1, learning_rate: 1e-3, lr_decay: 1, weight_decay: 0}
"""


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    """A recipe file with only the keys that have no default."""
    path = tmp_path / "minimal.yaml"
    path.write_text(MINIMAL)
    return path


def fault(recipe: str | Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, overrides)
    return str(caught.value)


def test_initial_stage_is_that_of_the_paper() -> None:
    recipe = load_recipe("agame_initial")
    assert (recipe.data.size, recipe.data.frames, recipe.train.batch) == ((240, 432), 8, 4)
    assert (recipe.train.epochs, recipe.train.lr_decay) == (80, 0.95)
    assert (recipe.train.learning_rate, recipe.train.weight_decay) == (1e-4, 1e-5)
    assert set(recipe.data.sets) == {"davis2017", "ytvos", "synthvos"}
    assert (recipe.model.backbone, recipe.model.weights, recipe.model.train_from) == ("resnet101", "imagenet", "layer4")
    assert recipe.train.init_from is None


def test_finetuning_stage_is_that_of_the_paper() -> None:
    recipe = load_recipe("agame_finetune")
    assert (recipe.data.size, recipe.data.frames, recipe.train.batch) == ((480, 864), 14, 2)
    assert (recipe.train.epochs, recipe.train.lr_decay) == (100, 0.985)
    assert (recipe.train.learning_rate, recipe.train.weight_decay) == (1e-5, 1e-6)
    assert recipe.data.sets == {"davis2017": 0.5, "ytvos": 0.5}
    assert recipe.train.init_from == "runs/agame_initial"


def test_smoke_needs_no_download_and_trains_every_stage() -> None:
    recipe = load_recipe("smoke")
    assert (recipe.model.backbone, recipe.model.weights, recipe.model.train_from) == ("resnet18", "none", "stem")


@pytest.mark.parametrize("name", known_recipes())
def test_bundled_recipes_are_short_and_say_why(name: str) -> None:
    lines = (importlib.resources.files("vosdata.recipes") / f"{name}.yaml").read_text().splitlines()
    assert len([line for line in lines if line.strip() and not line.lstrip().startswith("#")]) <= 25
    assert lines[0].startswith("#")
    assert load_recipe(name).name == name


def test_model_keys_and_defaults_are_those_of_the_network() -> None:
    from vosdata.models.agame import AGAMEConfig

    config = {field.name: field.default for field in dataclasses.fields(AGAMEConfig)}
    keys = {name: field.default for name, field in ModelRecipe.model_fields.items()}
    del config["keep_classifier"], keys["weights"]
    assert keys == config
    assert ModelRecipe().config() == AGAMEConfig()


def test_extending_replaces_a_key_as_a_whole_and_keeps_the_others(minimal: Path) -> None:
    child = minimal.with_name("child.yaml")
    child.write_text("extends: minimal.yaml\ndata: {sets: {b: 2}}\nmodel:\n")
    recipe = load_recipe(child)
    assert recipe.data.sets == {"b": 2}
    assert (recipe.name, recipe.data.frames) == ("child", 4)


def test_a_recipe_that_extends_itself_is_refused(minimal: Path) -> None:
    other = minimal.with_name("other.yaml")
    other.write_text("extends: minimal.yaml")
    minimal.write_text("extends: other.yaml")
    assert "extends itself" in fault(minimal)


def test_unknown_recipe_lists_the_known_and_the_nearest() -> None:
    message = fault("agame_intial")
    assert "did you mean 'agame_initial'?" in message
    assert "smoke" in message
    assert "\n" not in fault("nosuch")
    assert "no recipe at" in fault("missing/folder.yaml")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.bakbone=resnet18", "model.bakbone: no such key; did you mean 'backbone'?"),
        ("modle.backbone=resnet18", "modle: no such key; did you mean 'model'?"),
        ("model.frames=3", "model.frames: no such key; did you mean 'data.frames'?"),
        ("model.backbone=resnet19", "should be 'resnet18', 'resnet34', 'resnet50' or 'resnet101' (got 'resnet19')"),
        ("train.epochs=0", "train.epochs: should be greater than 0 (got 0)"),
        ("train.lr_decay=.nan", "train.lr_decay: should be a finite number"),
        ("data.size=240x430", "data.size: should have sides that are multiples of 16"),
        ("data.size=large", "data.size: should be HEIGHTxWIDTH"),
        ("data.sets={a: -1}", "data.sets.a: should be a weight greater than 0, or size (got -1)"),
        ("data.sets={}", "data.sets: should not be empty"),
        ("train=3", "train: should be a section of keys (got 3)"),
    ],
)
def test_faults_name_key_value_and_expectation_in_one_line(override: str, said: str) -> None:
    message = fault("smoke", override)
    assert message.startswith("recipe smoke: ")
    assert said in message
    assert "\n" not in message


def test_all_faults_are_told_at_once(minimal: Path) -> None:
    lines = fault(minimal, "train.epochs=0", "model.bakbone=x", "data.frames=1").splitlines()
    assert lines[0] == "recipe minimal has 3 faults:"
    assert [line.split(":")[0].strip() for line in sorted(lines[1:])] == [
        "data.frames",
        "model.bakbone",
        "train.epochs",
    ]


def test_missing_keys_are_named(minimal: Path) -> None:
    minimal.write_text(MINIMAL.replace("frames: 4, ", ""))
    assert fault(minimal) == "recipe minimal: data.frames: is required"


def test_override_values_are_yaml_and_exponents_are_numbers(minimal: Path) -> None:
    recipe = load_recipe(
        minimal, ["train.learning_rate=1e-3", "data.epoch_size=null", "data.sets.b=size", "data.flip=no"]
    )
    assert recipe.train.learning_rate == 1e-3
    assert recipe.data.epoch_size is None
    assert recipe.data.sets == {"a": 1, "b": "size"}
    assert recipe.data.flip is False


@pytest.mark.parametrize("override", ["train.epochs", "=3", "train..epochs=3", "train.epochs=[1"])
def test_malformed_overrides_are_wrong_calls(override: str) -> None:
    with pytest.raises(ValueError, match="--set"):
        load_recipe("smoke", [override])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: [", "not YAML"),
        ("- a\n- b", "expected sections"),
        ("train: {epochs: 1, epochs: 2}", "key 'epochs' is given twice in line 1"),
        ("extends: [a, b]", "extends must be"),
        ("a: !!python/object/apply:os.system [exit]", "not YAML"),
    ],
)
def test_broken_files_are_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    message = fault(path)
    assert said in message
    assert "\n" not in message


@given(st.integers(1, 50), st.integers(1, 50))
def test_sizes_are_read_back(rows: int, columns: int) -> None:
    assert (
        parse_size(f"{16 * rows}x{16 * columns}") == parse_size([16 * rows, 16 * columns]) == (16 * rows, 16 * columns)
    )


@given(
    st.floats(1e-9, 10),
    st.none() | st.integers(1, 10**9),
    st.dictionaries(st.text(min_size=1), st.floats(1e-9, 1e9) | st.just("size"), min_size=1),
)
@settings(max_examples=30)
def test_a_resolved_recipe_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, rate: float, epoch_size: int | None, sets: dict[str, float | str]
) -> None:
    smoke = load_recipe("smoke").model_dump(mode="json")
    smoke["train"]["learning_rate"], smoke["data"]["epoch_size"], smoke["data"]["sets"] = rate, epoch_size, sets
    recipe = Recipe.model_validate(smoke)
    path = tmp_path_factory.getbasetemp() / "recipe.yaml"
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    assert load_recipe(path) == recipe


def test_how_the_work_is_done_is_no_part_of_the_configuration() -> None:
    configuration = load_recipe("smoke").configuration()
    assert load_recipe("smoke", ["run.threads=5", "name=other"]).configuration() == configuration
    assert load_recipe("smoke", ["train.seed=7"]).configuration() != configuration


def test_recipes_are_frozen() -> None:
    recipe = load_recipe("smoke")
    with pytest.raises(ValueError, match="frozen"):
        recipe.train.epochs = 3  # type: ignore[misc]


def test_reading_a_recipe_does_not_import_torch() -> None:
    program = "import sys, vosdata.recipe; vosdata.recipe.load_recipe('smoke'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
