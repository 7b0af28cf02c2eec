"""ONNX files that the tests make, small and real: a linear classifier behind what a graph may ask for."""

from pathlib import Path
from typing import Any

import numpy as np

DRAW = np.random.default_rng(5)
WEIGHT = DRAW.normal(size=(64, 10)).astype(np.float32)


def linear(
    path: Path,
    kind: str = "FLOAT",
    shape: tuple[Any, ...] = ("n", 1, 8, 8),
    ends: tuple[str, ...] = ("Softmax",),
    **about: str,
) -> Path:
    """The classes' probabilities by WEIGHT of the flattened input, `ends` applied to their logits; `about` is what the
    file states.
    """
    from onnx import TensorProto, checker, helper, numpy_helper, save

    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["f"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y0"]),
    ]
    for k, op in enumerate(ends):
        nodes.append(helper.make_node(op, [f"y{k}"], [f"y{k + 1}"]))
    out = helper.make_tensor_value_info(f"y{len(ends)}", TensorProto.FLOAT, [shape[0], 10])
    given = helper.make_tensor_value_info("x", getattr(TensorProto, kind), list(shape))
    graph = helper.make_graph(nodes, "linear", [given], [out], [numpy_helper.from_array(WEIGHT, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, about)
    checker.check_model(model)
    save(model, str(path))
    return path
