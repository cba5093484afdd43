from toolchain.validation import LONGEST_MESSAGE, misfit

SCHEMA = {
    "type": "object",
    "properties": {"rows": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}}},
}


def test_what_fits_has_no_complaint():
    assert misfit(SCHEMA, {"rows": [{"n": 1}]}) == ("", "")


def test_what_does_not_fit_is_named_by_its_place():
    assert misfit(SCHEMA, {"rows": [{"n": 1}, {"n": "x"}]}) == (".rows[1].n", "'x' is not of type 'integer'")


def test_a_message_does_not_repeat_a_long_value():
    place, why = misfit(SCHEMA, {"rows": {"a": "b" * 10_000}})
    assert place == ".rows"
    assert len(why) < LONGEST_MESSAGE + 10
