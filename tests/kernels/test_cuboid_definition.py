"""The torch definition of cuboid attention against published vectors and its own laws."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import InputError, UnsupportedError
from lanefit.kernels.cuboid_definition import CuboidSelfAttention, decompose, parameters_of, recompose
from lanefit.kernels.cuboid_geometry import Axis, Cuboids
from lanefit.kernels.cuboid_parameters import attention

_TOLERANCE = 2e-5  # ten times the distance of the published float32 results from float64
_ROOT = Path(os.environ.get("LANEFIT_REFERENCE", Path(__file__).parents[3] / "shared" / "golden")) / "earthformer"


def _cases() -> list[Any]:
    index = _ROOT / "index_earthformer.json"
    if not index.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no reference vectors at {index}"))]
    cases = json.loads(index.read_text())["cases"].values()
    mine = [case for case in cases if case["cls"] == "CuboidSelfAttentionLayer" and (_ROOT / case["file"]).exists()]
    return [pytest.param(case, id=Path(case["file"]).stem) for case in mine]


@pytest.mark.parametrize("case", _cases())
def test_published_vectors_are_reproduced(case: dict[str, Any]) -> None:
    stored = np.load(_ROOT / case["file"])
    layer = CuboidSelfAttention(**case["kwargs"]).eval()
    weights = {key[2:]: torch.from_numpy(stored[key]) for key in stored.files if key.startswith("w.")}
    layer.load_state_dict(weights, strict=True)
    inputs = [torch.from_numpy(stored[key]) for key in stored.files if key.startswith("in.")]
    with torch.no_grad():
        found = layer(*inputs)
    for name, value in zip(("y", "global_vectors"), found if isinstance(found, tuple) else (found,), strict=False):
        assert np.abs(value.numpy() - stored[f"out.{name}"]).max() <= _TOLERANCE
    if "dbg.attn_mask" in stored.files:
        _, t, h, w, _ = inputs[0].shape
        np.testing.assert_array_equal(layer.cuboids((t, h, w)).mask, stored["dbg.attn_mask"])


_AXES = st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(0, 4), st.sampled_from("ld")).map(
    lambda a: (a[0], a[1], a[2] % a[1], a[3])
)


@st.composite
def _cuboids(draw: st.DrawFn) -> Cuboids:
    sizes, blocks, shifts, strategies = zip(*(draw(_AXES) for _ in range(3)), strict=True)
    return Cuboids.of(sizes, blocks, shifts, strategies, draw(st.sampled_from(["zeros", "ignore"])))


@given(_cuboids())
def test_recomposition_undoes_decomposition(cuboids: Cuboids) -> None:
    x = torch.randn(2, *cuboids.shape, 3)
    assert torch.equal(recompose(decompose(x, cuboids), cuboids), x)


@given(_cuboids(), st.booleans())
def test_index_tables_say_where_tokens_come_from_and_return_to(cuboids: Cuboids, stretched: bool) -> None:
    if stretched:
        sizes, shifts = [axis.block for axis in cuboids.axes], [axis.shift for axis in cuboids.axes]
        strategies = [axis.strategy for axis in cuboids.axes]
        cuboids = Cuboids.of(cuboids.shape, *(tuple(v) for v in (sizes, shifts, strategies)), "nearest")  # type: ignore[arg-type]
    raster = torch.arange(int(np.prod(cuboids.shape))).reshape(1, *cuboids.shape, 1)
    tokens = decompose(raster + 1, cuboids)[0, :, :, 0].numpy()
    np.testing.assert_array_equal(tokens, cuboids.gathered + 1)
    numbers = torch.arange(cuboids.count * cuboids.volume).reshape(1, cuboids.count, cuboids.volume, 1)
    np.testing.assert_array_equal(recompose(numbers, cuboids).flatten().numpy(), cuboids.scattered)


@given(_cuboids())
def test_masks_are_symmetric_and_every_real_token_sees_itself(cuboids: Cuboids) -> None:
    mask = cuboids.mask
    np.testing.assert_array_equal(mask, mask.transpose(0, 2, 1))
    assert np.diagonal(mask, axis1=1, axis2=2)[cuboids.valid].all()


def test_a_mean_over_each_cuboid_is_what_equal_logits_give() -> None:
    layer = CuboidSelfAttention(8, 2, (2, 3, 1), strategy=("d", "l", "l"), use_relative_pos=False, use_final_proj=False)
    with torch.no_grad():
        layer.qkv.weight[:16].zero_()
        layer.qkv.weight[16:].copy_(torch.eye(8))
        x = torch.randn(1, 4, 3, 2, 8)
        expected = decompose(layer.norm(x), layer.cuboids((4, 3, 2))).mean(2, keepdim=True)
        found = decompose(layer(x), layer.cuboids((4, 3, 2)))
    torch.testing.assert_close(found, expected.expand_as(found))


def test_tokens_in_padding_change_nothing_when_ignored() -> None:
    torch.manual_seed(0)
    padded = CuboidSelfAttention(8, 2, (4, 1, 1), use_relative_pos=False)
    exact = CuboidSelfAttention(8, 2, (3, 1, 1), use_relative_pos=False)
    exact.load_state_dict(padded.state_dict())
    x = torch.randn(1, 3, 2, 2, 8)
    torch.testing.assert_close(padded(x), exact(x))
    longer = torch.randn(1, 7, 2, 2, 8)  # cuboids {0..3} and {4..6 + padding}
    torch.testing.assert_close(padded(longer)[:, 4:], exact(longer[:, 4:]))


def test_the_corrected_global_mask_sees_exactly_the_real_tokens() -> None:
    torch.manual_seed(1)
    options: dict[str, Any] = {"use_global_vector": True, "use_relative_pos": False}
    layer = CuboidSelfAttention(8, 2, (2, 2, 2), official_global_mask=False, **options)
    whole = CuboidSelfAttention(8, 2, (3, 3, 3), **options)
    whole.load_state_dict(layer.state_dict())
    x, g = torch.randn(1, 3, 3, 3, 8), torch.randn(1, 4, 8)
    torch.testing.assert_close(layer(x, g)[1], whole(x, g)[1])
    layer.official_global_mask = True
    assert (layer(x, g)[1] - whole(x, g)[1]).abs().max() > 1e-3


def test_a_clamped_cuboid_can_read_its_bias_at_true_offsets() -> None:
    cuboids = Cuboids.of((2, 2, 3), (2, 4, 4), (1, 2, 2), ("l", "l", "l"), "ignore")
    by_raster, true = cuboids.bias_index(), cuboids.bias_index(by_raster=False)
    assert (by_raster != true).any()
    corner = (2 - 1) * 49 + (4 - 1) * 7 + (4 - 1)
    assert (np.diagonal(true) == corner).all()
    assert true[0, 3] == corner - 7  # one row further down


def test_impossible_layers_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="3 heads do not divide 8"):
        CuboidSelfAttention(8, 3)
    with pytest.raises(UnsupportedError, match="needs separate_global_qkv"):
        CuboidSelfAttention(8, 2, use_global_vector=True, global_dim_ratio=2)
    with pytest.raises(UnsupportedError, match="'x' is neither"):
        Axis.of(4, 2, 0, "x")
    with pytest.raises(UnsupportedError, match="shift 2"):
        Axis.of(4, 2, 2, "l")
    with pytest.raises(UnsupportedError, match="'wrap' is none of"):
        Cuboids.of((2, 2, 2), (2, 2, 2), (0, 0, 0), ("l", "l", "l"), "wrap")
    with pytest.raises(InputError, match="without global vectors"):
        CuboidSelfAttention(8, 2)(torch.zeros(1, 2, 2, 2, 8), torch.zeros(1, 1, 8))


_LAYERS = {
    "axial": {"cuboid_size": (4, 1, 1), "padding_type": "zeros"},
    "shifted-padded": {"cuboid_size": (2, 3, 2), "shift_size": (1, 1, 1), "padding_type": "ignore"},
    "stretched": {"cuboid_size": (3, 3, 2), "shift_size": (1, 1, 1), "padding_type": "nearest"},
    "dilated-no-projection": {"cuboid_size": (2, 2, 1), "strategy": ("d", "d", "l"), "use_final_proj": False},
    "global-shared": {"cuboid_size": (4, 1, 1), "use_global_vector": True, "use_global_self_attn": True},
    "global-separate": {"cuboid_size": (2, 2, 2), "use_global_vector": True, "separate_global_qkv": True,
                        "global_dim_ratio": 2, "use_global_self_attn": True, "official_global_mask": False},
}  # fmt: skip


@pytest.mark.parametrize("options", _LAYERS.values(), ids=_LAYERS)
def test_the_matrices_alone_give_the_layers_result(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = CuboidSelfAttention(8, 2, qkv_bias=True, qk_scale=0.4, **options).double()
    x = torch.randn(1, 4, 4, 3, 8, dtype=torch.float64)
    g = torch.randn(1, 3, 8 * options.get("global_dim_ratio", 1), dtype=torch.float64)
    inputs = (x, g) if layer.use_global_vector else (x,)
    with torch.no_grad():
        expected = layer(*inputs)
    found = attention(parameters_of(layer, (4, 4, 3)), *(value[0].numpy() for value in inputs))
    local, updated = expected if isinstance(expected, tuple) else (expected, None)
    np.testing.assert_allclose(found.output, local[0].numpy(), atol=1e-10)
    if updated is not None:
        assert found.global_output is not None
        np.testing.assert_allclose(found.global_output, updated[0].numpy(), atol=1e-10)
