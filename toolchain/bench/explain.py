"""What the runtime's messages mean: which operator of which node, on which provider."""

import re

from toolchain.bench.probe import short_provider

_NODE = (
    # ONNX Runtime: "... for Foo(1) node with name 'bar'", "Node (bar) Op (Foo) ...", "running Foo node. Name:'bar' ..."
    re.compile(r"for (?:the node )?(?:[\w.]*[:.])?(?P<op>\w+)\(\d+\) node with name '(?P<node>[^']*)'"),
    re.compile(r"Node ?\((?P<node>[^)]*)\) Op(?:erator)? ?\((?P<op>[^)]*)\)"),
    re.compile(r"running (?P<op>\w+) node\. Name: ?'(?P<node>[^']*)'"),
    re.compile(r"node '(?P<node>[^']*)'.*?(?P<op>[\w.:]+)\(-?\d+\) is not a registered function/op"),
    re.compile(r"(?P<op>[\w.:]+)\(-?\d+\) is not a registered function/op"),
    re.compile(r"No Op registered for (?P<op>\w+)"),
    re.compile(r"of operator \((?P<op>\w+)\) in node \((?P<node>[^)]*)\)"),
)
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_SOURCE = re.compile(r"Status Message: /\S+?:\d+ ")  # where in the runtime's own sources


def operator_of(message: str) -> str:
    """Return ``"operator Foo of node 'bar'"`` where the runtime's message says so, else an empty text."""
    for pattern in _NODE:
        found = pattern.search(message)
        if found:
            parts = found.groupdict()
            node = f" of node {parts['node']!r}" if parts.get("node") else ""
            return f"operator {parts['op']}{node}"
    return ""


def failure(name: str, error: dict[str, str], provider: str) -> str:
    """Return one sentence about a model that could not be measured.

    Args:
        name: of the model.
        error: ``{stage, message}`` from the probe.
        provider: ONNX Runtime's name.
    """
    message = " ".join(error["message"].split())
    operator = operator_of(message)
    at = f", at {operator}" if operator else ""
    memory = ": out of memory" if "Failed to allocate memory" in message or "bad_alloc" in message else ""
    short = _SOURCE.sub("", _CODE.sub("", message))
    return f"ONNX Runtime cannot {error['stage']} {name} on {short_provider(provider)}{at}{memory}: {short}"
