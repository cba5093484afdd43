"""Names for values and nodes that are added to a graph."""


def take_name(name: str, taken: set[str]) -> str:
    """Return ``name``, made longer by underscores until it is none of those taken; from then on it is one of them."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name
