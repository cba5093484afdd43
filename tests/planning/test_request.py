import pytest

from toolchain.augmentation import NONE, Augmentation
from toolchain.errors import RecipeError
from toolchain.planning.request import Request, read_request
from toolchain.structures import UNSTRUCTURED


def test_the_request_wins_over_the_recipe_file(recipe_file):
    path = recipe_file('prune = "4x"\nquant = "8bit"\nbudget = "10m"')
    recipe = read_request(Request(prune="36x", epochs=3, seed=7, device="cpu", recipe=path))
    assert recipe.prune.text == "36x"
    assert str(recipe.quant) == "8bit"
    assert (recipe.train.epochs, recipe.train.budget_s) == (3, None)
    assert (recipe.train.seed, recipe.train.device) == (7, "cpu")


def test_a_request_without_a_file_is_enough():
    recipe = read_request(Request(prune=0.97, budget=90))
    assert recipe.prune.kept(100) == 3
    assert recipe.train.budget_s == 90
    assert recipe.quant is None


def test_training_options_that_are_asked_for_win_over_those_of_the_recipe(recipe_file):
    path = recipe_file('prune = "4x"\n[train]\nlearning_rate = 1e-3\nprecision = "bfloat16"')
    assert read_request(Request(recipe=path)).train.precision == "bfloat16"
    train = read_request(Request(recipe=path, learning_rate=5e-3, precision="float32")).train
    assert (train.learning_rate, train.precision) == (5e-3, "float32")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"learning_rate": -1.0}, "learning_rate: got -1.0, expected 1e-09 to 1000"),
        ({"precision": "float16"}, "precision: got 'float16', expected one of float32, bfloat16; did you mean"),
        ({"allocate": "time"}, "allocate: got 'time', expected one of auto, parameters, bytes, flops, ms"),
    ],
)
def test_a_mistake_in_an_option_is_said_without_a_place(asked, message):
    with pytest.raises(RecipeError) as caught:
        read_request(Request(prune="4x", **asked))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("given", "expected"), [(None, Augmentation(2)), ("none", NONE), ("auto", None)])
def test_an_augmentation_that_is_asked_for_wins_over_that_of_the_recipe(recipe_file, given, expected):
    path = recipe_file('prune = "4x"\n[train]\naugment = "shift2"')
    assert read_request(Request(recipe=path, augment=given)).train.augment == expected


def test_zero_epochs_are_kept_apart_from_none_given():
    assert read_request(Request(quant="8bit", epochs=0)).train.epochs == 0
    assert read_request(Request(quant="8bit")).train.epochs is None


def test_a_target_of_a_single_tensor_is_something_to_do(recipe_file):
    assert read_request(Request(recipe=recipe_file('[[tensor]]\nmatch = "a"\nquant = "binary"'))).rules


@pytest.mark.parametrize("text", ["", 'exclude = ["a"]', '[[tensor]]\nmatch = "a"\nprune = false'])
def test_neither_prune_nor_quant_is_an_error(recipe_file, text):
    with pytest.raises(RecipeError, match="nothing to do"):
        read_request(Request(recipe=recipe_file(text)))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(prune="36x", epochs=2, budget="10m"), "epochs and budget exclude each other"),
        (Request(prune="36x", epochs=-1), "epochs: got -1"),
        (Request(prune="36x", seed=-1), "seed: got -1, expected a whole number of at least 0"),
        (Request(prune="36x", seed=2**70), "seed: got .*, expected a whole number of at most 9223372036854775807"),
        (Request(prune="36x", device="gpu"), "device: got 'gpu', expected one of auto, cpu, cuda"),
        (Request(prune=36), "ambiguous"),
        (Request(prune=True), "prune: got a boolean"),
        (Request(prune=float("nan")), "not an amount"),
        (Request(prune="36x", budget=-4.0), "not a duration"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(request_, message):
    with pytest.raises(RecipeError, match=message):
        read_request(request_)


def test_an_allocation_that_is_asked_for_wins_over_that_of_the_recipe(recipe_file):
    path = recipe_file('prune = "4x"\n[prune_schedule]\nallocate = "bytes"')
    assert read_request(Request(recipe=path)).prune_schedule.allocate == "bytes"
    assert read_request(Request(recipe=path, allocate="ms")).prune_schedule.allocate == "ms"
    with pytest.raises(RecipeError, match=r"allocate: got 'flop', expected one of auto, .* did you mean flops"):
        read_request(Request(prune="4x", allocate="flop"))


def test_the_reweighted_schedule_is_for_single_weights(recipe_file):
    path = recipe_file('prune = "4x"\n[prune_schedule]\nschedule = "reweighted"')
    assert read_request(Request(recipe=path)).prune_schedule.schedule == "reweighted"
    assert read_request(Request(recipe=path, structure="unstructured")).structure == UNSTRUCTURED
    message = "'reweighted' shrinks single weights, and structure column is about weights that go together"
    with pytest.raises(RecipeError, match=message):
        read_request(Request(recipe=path, structure="column"))


def test_channels_are_rounded_as_asked(tmp_path):
    (tmp_path / "r.toml").write_text('prune = "2x"\nstructure = "channel"\nround = 4\n')
    assert str(read_request(Request(recipe=tmp_path / "r.toml")).structure) == "channel4"
    assert str(read_request(Request(recipe=tmp_path / "r.toml", round_to=2)).structure) == "channel2"
    assert str(read_request(Request(prune="2x", structure="filter", round_to=2)).structure) == "filter2"
    (tmp_path / "only.toml").write_text('prune = "2x"\nround = 4\n')
    assert str(read_request(Request(recipe=tmp_path / "only.toml", structure="channel")).structure) == "channel4"
    assert str(read_request(Request(recipe=tmp_path / "r.toml", structure="filter")).structure) == "filter4"
    with pytest.raises(RecipeError, match="column keeps none by number"):
        read_request(Request(prune="2x", structure="column", round_to=8))
    with pytest.raises(RecipeError, match="unstructured keeps none by number"):
        read_request(Request(prune="2x", round_to=8))
