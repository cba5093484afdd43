"""Damages models: what bad exporters, broken downloads and ill will do to a file."""

import random
from collections.abc import Callable

import structure
import values
from onnx import ModelProto

OF_MODELS: dict[str, Callable[[ModelProto, random.Random], None]] = {
    mutator.__name__: mutator
    for mutator in (
        structure.drop_node,
        structure.repeat_node,
        structure.reorder_nodes,
        structure.make_cycle,
        structure.rewire_input,
        structure.rename_output,
        structure.change_arity,
        structure.change_operator,
        structure.change_domain,
        structure.rename_node,
        structure.drop_attribute,
        structure.rename_attribute,
        structure.repeat_attribute,
        structure.add_attribute,
        structure.change_attribute_value,
        structure.change_attribute_type,
        structure.change_attribute_reference,
        structure.change_type,
        structure.change_shape,
        structure.change_interface,
        structure.damage_body,
        structure.damage_functions,
        structure.change_versions,
        values.change_dimension,
        values.change_data,
        values.change_values,
        values.change_element_type,
        values.rename_tensor,
        values.drop_tensor,
        values.repeat_tensor,
        values.damage_sparse,
        values.damage_external,
        values.claim_external,
    )
}

OF_BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    mutator.__name__: mutator
    for mutator in (values.truncate, values.flip_bits, values.splice, values.spoil_text, values.blank)
}


def mutate(files: dict[str, bytes], mutator: str, chance: random.Random) -> dict[str, bytes]:
    """Return the damaged files of a model's folder, by choices of ``chance`` alone.

    Raises:
        Unfit: the mutator finds nothing to damage.
    """
    if mutator in OF_BYTES:
        name = chance.choice(sorted(files))
        return {**files, name: OF_BYTES[mutator](files[name], chance)}
    model = ModelProto()
    model.ParseFromString(files["model.onnx"])
    OF_MODELS[mutator](model, chance)
    return {**files, "model.onnx": model.SerializeToString()}
