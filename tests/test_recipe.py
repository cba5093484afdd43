import pytest

from toolchain.amounts import QuantSpec
from toolchain.augmentation import Augmentation
from toolchain.errors import RecipeError
from toolchain.recipe import Recipe, read_recipe


def failure(path):
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    return f"{caught.value} | {caught.value.hint}"


def test_a_full_recipe_reaches_every_option(recipe_file):
    recipe = read_recipe(
        recipe_file("""
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
            batch_size = 32
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
    assert (recipe.train.batch_size, recipe.train.learning_rate) == (32, 1e-3)
    assert recipe.train.augment == Augmentation(4, flip=True)
    assert (excluded.match, excluded.prune, excluded.quant) == ("head.*", False, False)
    assert (conv.match, conv.op, conv.prune.kept(10)) == ("conv1.*", "Conv", 5)
    assert conv.quant == QuantSpec("uniform", 8)
    assert (gemm.match, gemm.prune, gemm.quant) == (None, False, None)
    assert (recipe.prune_schedule.update_every, recipe.prune_schedule.score) == (16, "lamp")
    assert recipe.quant_schedule.admm_share == 0.25
    assert (recipe.calibration.observer, recipe.calibration.samples) == ("mse", 100)
    assert (recipe.export.kernel, recipe.export.threads) == ("int8", 2)


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
        (
            '[prune_schedule]\nschedule = "one-shot"\nupdate_every = 3',
            "update_every does not go with schedule 'one-shot', whose learning rate restarts at each update",
        ),
        (
            '[prune_schedule]\nschedule = "reweighted"\nscore = "lamp"',
            "score does not go with schedule 'reweighted', which has prices of its own",
        ),
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
        ("round = 0", "round: got 0, expected a whole number of at least 1"),
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
def test_every_mistake_in_a_recipe_says_where_and_what_was_expected(recipe_file, text, message):
    assert message in failure(recipe_file(text))


def test_malformed_toml_names_the_line(recipe_file):
    assert "at line 2" in failure(recipe_file('quant = "2bit"\nprune = 36x\n'))


def test_a_recipe_that_cannot_be_read_says_why(tmp_path):
    assert "No such file" in failure(tmp_path / "missing.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in failure(tmp_path / "binary.toml")


def test_an_empty_recipe_file_has_every_default(recipe_file):
    assert read_recipe(recipe_file("")) == Recipe()
