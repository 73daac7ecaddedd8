"""Where a model's projections are in its graph, found by how it is built and not by how its nodes are called."""

from collections.abc import Iterator, Mapping
from typing import Any

Place = tuple[int, str]  # layer and target, as adapters name them

_ATTENTION = "PagedAttentionExtension"
_GATES = ("Swish", "Gelu")


def find_projections(model: Any) -> Mapping[Place, Any]:
    """The matrix products of each layer's attention and gated MLP, after the paged attention transformation.

    Of a layer that is built otherwise, what is not recognised is left out: no adapter can change it then.
    """
    found: dict[Place, Any] = {}
    attentions = [node for node in model.get_ordered_ops() if node.get_type_name() == _ATTENTION]
    for attention in attentions:
        layer = _layer(attention)
        for index, target in enumerate(("q_proj", "k_proj", "v_proj")):
            if (product := _above(attention.input_value(index).get_node())) is not None:
                found[layer, target] = product
        if (product := next(_below(attention), None)) is not None:
            found[layer, "o_proj"] = product
            found |= {(layer, target): node for target, node in _mlp(product).items()}
    return found


def sizes(product: Any) -> tuple[int, int]:
    """What a projection takes and gives."""
    out, width = product.input_value(1).get_shape()
    return width, out


def _layer(attention: Any) -> int:
    """The number of its key cache."""
    caches = (attention.input_value(index).get_node() for index in range(attention.get_input_size()))
    name = next(n.get_friendly_name() for n in caches if n.get_friendly_name().startswith("key_cache."))
    return int(name.rpartition(".")[2])


def _is_projection(node: Any) -> bool:
    """A product with a constant matrix of (out, in)."""
    if node.get_type_name() != "MatMul":
        return False
    weights = node.input_value(1)
    return (
        weights.get_partial_shape().is_static and len(weights.get_shape()) == 2 and node.get_attributes()["transpose_b"]
    )


def _above(node: Any) -> Any:
    """The nearest projection on the way up, by the inputs that come from the hidden state."""
    seen, level = set(), [node]
    while level:
        following = []
        for each in level:
            if _is_projection(each):
                return each
            key = each.get_friendly_name()
            if key not in seen and each.get_type_name() != _ATTENTION:
                seen.add(key)
                following += [each.input_value(index).get_node() for index in range(each.get_input_size())]
        level = following
    return None


def _below(node: Any) -> Iterator[Any]:
    """The projections on the way down, nearest first; it goes on through none of them."""
    seen, level = set(), [node]
    while level:
        following = []
        for each in level:
            for target in _readers(each):
                key = target.get_friendly_name()
                if key in seen:
                    continue
                seen.add(key)
                if _is_projection(target):
                    yield target
                elif target.get_type_name() != _ATTENTION:
                    following.append(target)
        level = following


def _mlp(output: Any) -> dict[str, Any]:
    """Gate, up and down behind an attention's output projection."""
    inner = []
    for product in _below(output):
        inner.append(product)
        if len(inner) == 2:
            break
    if len(inner) < 2:
        return {}
    gates = [product for product in inner if any(r.get_type_name() in _GATES for r in _readers(product))]
    if len(gates) != 1:
        return {}
    gate = gates[0]
    [up] = [product for product in inner if product is not gate]
    found = {"gate_proj": gate, "up_proj": up}
    if (down := next(_below(up), None)) is not None:
        found["down_proj"] = down
    return found


def _readers(node: Any) -> list[Any]:
    return [target.get_node() for output in node.outputs() for target in output.get_target_inputs()]
