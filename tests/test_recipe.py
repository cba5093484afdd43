import pytest

from toolchain.amounts import QuantSpec
from toolchain.augmentation import NONE, Augmentation
from toolchain.errors import RecipeError
from toolchain.recipe import Recipe, Request, read_recipe, read_request


@pytest.fixture
def write(tmp_path):
    def writer(text):
        path = tmp_path / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return writer


def failure(path):
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    return f"{caught.value} | {caught.value.hint}"


def test_a_full_recipe_reaches_every_option(write):
    recipe = read_recipe(
        write("""
            prune = "36x"
            quant = "2bit"
            budget = "1h30m"
            exclude = ["head.*"]

            [[tensor]]
            match = "conv1.*"
            op = "Conv"
            prune = 0.5
            quant = "8bit"

            [[tensor]]
            op = "Gemm"
            prune = false

            [train]
            batch_size = 64
            learning_rate = 1e-3
            augment = "shift4,flip"

            [prune_schedule]
            update_every = 16
            rho = 1
            score = "lamp"

            [quant_schedule]
            admm_share = 0.25

            [calibration]
            observer = "mse"
            samples = 100

            [export]
            kernel = "int8"
            threads = 2
        """)
    )
    excluded, conv, gemm = recipe.rules
    assert recipe.prune.kept(3600) == 100
    assert recipe.quant == QuantSpec("uniform", 2)
    assert (recipe.train.budget_s, recipe.train.epochs) == (5400, None)
    assert (recipe.train.batch_size, recipe.train.learning_rate) == (64, 1e-3)
    assert recipe.train.augment == Augmentation(4, flip=True)
    assert (excluded.match, excluded.prune, excluded.quant) == ("head.*", False, False)
    assert (conv.match, conv.op, conv.prune.kept(10)) == ("conv1.*", "Conv", 5)
    assert conv.quant == QuantSpec("uniform", 8)
    assert (gemm.match, gemm.prune, gemm.quant) == (None, False, None)
    assert (recipe.prune_schedule.update_every, recipe.prune_schedule.score) == (16, "lamp")
    assert recipe.quant_schedule.admm_share == 0.25
    assert (recipe.calibration.observer, recipe.calibration.samples) == ("mse", 100)
    assert (recipe.export.kernel, recipe.export.threads) == ("int8", 2)


def test_the_request_wins_over_the_recipe_file(write):
    path = write('prune = "4x"\nquant = "8bit"\nbudget = "10m"')
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


def test_training_options_that_are_asked_for_win_over_those_of_the_recipe(write):
    path = write('prune = "4x"\n[train]\nlearning_rate = 1e-3\nprecision = "bfloat16"')
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
def test_an_augmentation_that_is_asked_for_wins_over_that_of_the_recipe(write, given, expected):
    path = write('prune = "4x"\n[train]\naugment = "shift2"')
    assert read_request(Request(recipe=path, augment=given)).train.augment == expected


def test_zero_epochs_are_kept_apart_from_none_given():
    assert read_request(Request(quant="8bit", epochs=0)).train.epochs == 0
    assert read_request(Request(quant="8bit")).train.epochs is None


def test_a_target_of_a_single_tensor_is_something_to_do(write):
    assert read_request(Request(recipe=write('[[tensor]]\nmatch = "a"\nquant = "binary"'))).rules


@pytest.mark.parametrize("text", ["", 'exclude = ["a"]', '[[tensor]]\nmatch = "a"\nprune = false'])
def test_neither_prune_nor_quant_is_an_error(write, text):
    with pytest.raises(RecipeError, match="nothing to do"):
        read_request(Request(recipe=write(text)))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(prune="36x", epochs=2, budget="10m"), "epochs and budget exclude each other"),
        (Request(prune="36x", epochs=-1), "epochs: got -1"),
        (Request(prune="36x", seed=-1), "seed: got -1"),
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[prune_schedule]\nallocate = "flop"',
            "recipe.toml: [prune_schedule] allocate: got 'flop', expected",
        ),
        ('[train]\naugment = "flop"', "recipe.toml: [train]: augment: 'flop' is not known; did you mean flip"),
        ("[train]\naugment = true", r"recipe.toml: [train]: augment: got a boolean"),
        ('prun = "36x"', "recipe.toml: unknown key 'prun'; did you mean prune"),
        ("[prune_schedule]\nupdate_evry = 3", "[prune_schedule]: unknown key 'update_evry'; did you mean update_every"),
        ("[train]\nseed = 3", "[train]: unknown key 'seed'"),
        ("[sparsify]\na = 1", "unknown key 'sparsify'"),
        ('[[tensor]]\nmatch = "a"\nprune = "2x"\n[[tensor]]\nmach = "b"', "[[tensor]] number 2: unknown key 'mach'"),
        ("prune = true", "prune: got a boolean True, expected an amount"),
        ("prune = [1]", "prune: got a list [1]"),
        ("prune = 36", "ambiguous"),
        ("quant = 2", "quant: got a whole number 2, expected a text"),
        ('quant = "2bits"', "did you mean 2bit"),
        ("epochs = 1.5", "epochs: got 1.5, expected a whole number"),
        ("epochs = true", "epochs: got True"),
        ('epochs = 1\nbudget = "1m"', "recipe.toml: epochs and budget exclude each other"),
        ("budget = [1]", "budget: got a list"),
        ('budget = "soon"', "'soon' is not a duration"),
        ('exclude = "a"', "exclude: got a text 'a', expected a list of patterns"),
        ("exclude = [1]", "exclude: got a list"),
        ('tensor = "a"', "tensor must be written as [[tensor]] tables, got a text"),
        ("[tensor]\nmatch = 'a'", "tensor must be written as [[tensor]] tables, got a table"),
        ('[[tensor]]\nprune = "2x"', "number 1 says no tensors"),
        ('[[tensor]]\nmatch = "a"', "says nothing to do"),
        ('structure = "colum"', "'colum' is not a known structure; did you mean column"),
        ("structure = 4", "structure: got a whole number 4, expected a text"),
        ('[[tensor]]\nmatch = "a"\nexclude = true\nstructure = "2:4"', "excludes tensors and gives them"),
        ('[[tensor]]\nmatch = 1\nprune = "2x"', "match: got a whole number 1, expected a text"),
        ('[[tensor]]\nmatch = "a"\nexclude = 1', "exclude: got a whole number 1, expected true or false"),
        ('[[tensor]]\nmatch = "a"\nexclude = true\nprune = "2x"', "excludes tensors and gives them a target"),
        ('[[tensor]]\nmatch = "a"\nprune = "1x"', "[[tensor]] number 1: prune: '1x' prunes nothing"),
        ("train = 1", "train must be written as a [train] table, got a whole number"),
        ("[train]\nbatch_size = 0", "[train] batch_size: got 0, expected at least 1"),
        ("[train]\nbatch_size = 1.5", "batch_size: got a number 1.5, expected a whole number"),
        ("[train]\nlearning_rate = nan", "learning_rate: got nan, expected 1e-09 to 1000"),
        ("[prune_schedule]\nrho = inf", "rho: got inf, expected 0 to 1"),
        ("[prune_schedule]\nadmm_share = 2", "admm_share: got 2, expected 0 to 1"),
        (
            '[prune_schedule]\nscore = "magnitud"',
            "expected one of auto, curvature, magnitude, normalised, lamp; did you mean magnitude",
        ),
        ("[calibration]\nobserver = 1", "observer: got 1, expected one of auto"),
    ],
)
def test_every_mistake_in_a_recipe_says_where_and_what_was_expected(write, text, message):
    assert message in failure(write(text))


def test_malformed_toml_names_the_line(write):
    assert "at line 2" in failure(write('quant = "2bit"\nprune = 36x\n'))


def test_a_recipe_that_cannot_be_read_says_why(tmp_path):
    assert "No such file" in failure(tmp_path / "missing.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in failure(tmp_path / "binary.toml")


def test_an_empty_recipe_file_has_every_default(write):
    assert read_recipe(write("")) == Recipe()


def test_an_allocation_that_is_asked_for_wins_over_that_of_the_recipe(write):
    path = write('prune = "4x"\n[prune_schedule]\nallocate = "bytes"')
    assert read_request(Request(recipe=path)).prune_schedule.allocate == "bytes"
    assert read_request(Request(recipe=path, allocate="ms")).prune_schedule.allocate == "ms"
    with pytest.raises(RecipeError, match=r"allocate: got 'flop', expected one of auto, .* did you mean flops"):
        read_request(Request(prune="4x", allocate="flop"))


def test_channels_are_rounded_as_asked(tmp_path):
    (tmp_path / "r.toml").write_text('prune = "2x"\nstructure = "channel"\nround = 4\n')
    assert str(read_request(Request(recipe=tmp_path / "r.toml")).structure) == "channel4"
    assert str(read_request(Request(recipe=tmp_path / "r.toml", round_to=2)).structure) == "channel2"
    with pytest.raises(RecipeError, match="filter keeps none by number"):
        read_request(Request(prune="2x", structure="filter", round_to=8))
    with pytest.raises(RecipeError, match="unstructured keeps none by number"):
        read_request(Request(prune="2x", round_to=8))
