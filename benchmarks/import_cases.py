"""How many of the official ONNX node cases the imported module passes, and in which way.

python benchmarks/import_cases.py

A case is relevant where tensors go in and come out, none of them of strings, and no operator is for training only.
What does not pass is in the table of known gaps, ``tests/ops/known_gaps.py``; the run fails where that table is wrong.
"""

import sys
import time
from collections import Counter
from typing import Any

import onnx
import onnxruntime
import torch
from common import ROOT, machine, save, table, take_no_arguments

sys.path.append(str(ROOT / "tests" / "ops"))

from node_cases import BODY, ISLAND, OWN, assert_same, by_its_body, has_body, is_relevant, load_cases, outcome_of, plain


def counts(cases: list[Any], outcomes: dict[str, Any]) -> dict[str, int | float]:
    """Return how many cases there are, how many pass, and in which way."""
    ways = Counter(outcomes[case.name].way for case in cases if outcomes[case.name].passed)
    passed = ways.total()
    return {
        "total": len(cases),
        "passed": passed,
        "percent": round(100 * passed / len(cases), 2),
        **{way: ways[way] for way in (OWN, BODY, ISLAND)},
    }


def gaps(cases: list[Any], outcomes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what fails as expected, by reason, and how many of those cases ONNX Runtime itself passes."""
    found: dict[str, dict[str, Any]] = {}
    for case in cases:
        outcome = outcomes[case.name]
        if outcome.passed or outcome.gap is None:
            continue
        row = found.setdefault(outcome.gap.reason, {"cases": [], "relevant": 0, "onnxruntime_passes": 0})
        row["cases"].append(case.name)
        row["relevant"] += is_relevant(case)
        row["onnxruntime_passes"] += runtime_passes(case)
    return [{"reason": reason, **row} for reason, row in found.items()]


def runtime_passes(case: Any) -> bool:  # noqa: ANN401 - onnx declares no type for its cases
    """Return whether ONNX Runtime passes a case, by the rules that the module is judged by."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(case.model.SerializeToString(), options)
        for inputs, outputs in case.data_sets:
            names = [value.name for value in session.get_inputs()]
            results = session.run(None, dict(zip(names, map(plain, inputs), strict=True)))
            for result, expected in zip(results, map(plain, outputs), strict=True):
                assert_same(result, expected, case.rtol, case.atol)
    except Exception:  # noqa: BLE001 - ONNX Runtime's errors have no common parent
        return False
    return True


def islands(cases: list[Any], outcomes: dict[str, Any]) -> dict[str, int]:
    """Return how many cases pass because ONNX Runtime runs a part of them, by the operators of the case."""
    passed = [case for case in cases if outcomes[case.name].passed and outcomes[case.name].way == ISLAND]
    return dict(Counter(", ".join(sorted({node.op_type for node in case.model.graph.node})) for case in passed))


def report(result: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    text = table(
        ["cases", "passed", "share", OWN, BODY, f"{ISLAND} (ONNX Runtime)"],
        [
            [name, f"{row['passed']:,} of {row['total']:,}", f"{row['percent']} %"]
            + [f"{row[way]:,}" for way in (OWN, BODY, ISLAND)]
            for name in ("all", "relevant")
            for row in [result[name]]
        ],
    )
    bodies = result["bodies"]
    text += f"\nWith the function body of ONNX in the place of the operator's own function, {bodies['passed']} of "
    text += f"{bodies['total']} pass.\n"
    text += "\nIslands: " + ", ".join(f"{name} ({count})" for name, count in result["islands"].items()) + ".\n\n"
    return text + table(
        ["known gap", "cases", "relevant", "ONNX Runtime passes"],
        [
            [row["reason"], str(len(row["cases"])), str(row["relevant"]), str(row["onnxruntime_passes"])]
            for row in result["gaps"]
        ],
    )


def main() -> None:
    """Run all cases and write down what became of them."""
    take_no_arguments(__doc__)
    torch.set_num_threads(1)
    cases = load_cases()
    started = time.monotonic()
    outcomes = {case.name: outcome_of(case) for case in cases}
    seconds = time.monotonic() - started
    defined = [case for case in cases if has_body(case)]
    result = {
        "all": counts(cases, outcomes),
        "relevant": counts([case for case in cases if is_relevant(case)], outcomes),
        "bodies": {"total": len(defined), "passed": sum(by_its_body(case).passed for case in defined)},
        "islands": islands(cases, outcomes),
        "gaps": gaps(cases, outcomes),
        "seconds": round(seconds, 1),
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        **machine(),
    }
    path = save("import_cases", result)
    text = report(result)
    path.with_suffix(".md").write_text(text)
    print(text)
    surprises = {name: outcome.surprise for name, outcome in outcomes.items() if outcome.surprise}
    for name, surprise in surprises.items():
        print(f"{name}: {surprise}")
    sys.exit(1 if surprises else 0)


if __name__ == "__main__":
    main()
