"""Cuboid self-attention in plain torch: the meaning that the kernel, its integer form and its ONNX pattern answer to.

Earthformer (Gao et al. 2022, arXiv:2207.05833), §3.1-3.2: layer norm, decomposition into cuboids, multi-head
attention with relative position bias inside each, optional global vectors in the same pass, projection,
recomposition. Names of parameters are those of the published checkpoints. Inference only: no dropout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..common.errors import InputError, UnsupportedError
from .cuboid_geometry import Cuboids, Triple, nearest_index, relative_position_index
from .cuboid_parameters import CuboidParameters, Floats, GlobalParameters, LayerNorm, Projection

_MASKED = -1e18


class CuboidSelfAttention(nn.Module):
    """x (B, T, H, W, C) → the branch of the same shape; with `use_global_vector` also (B, K, ratio × C) → its update.

    Residual additions are the caller's. Two habits of the published code can be switched off:
    `official_bias_index` reads the bias of a clamped cuboid by raster index in the configured one;
    `official_global_mask` orders the mask of global queries by raster while their keys are in cuboid
    order, so that with padding "ignore" they drop some tokens and attend to some padding.
    """

    relative_position_index: Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int,
        cuboid_size: Sequence[int] = (2, 7, 7),
        shift_size: Sequence[int] = (0, 0, 0),
        strategy: Sequence[str] = ("l", "l", "l"),
        padding_type: str = "ignore",
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        use_final_proj: bool = True,
        use_relative_pos: bool = True,
        use_global_vector: bool = False,
        use_global_self_attn: bool = False,
        separate_global_qkv: bool = False,
        global_dim_ratio: int = 1,
        official_bias_index: bool = True,
        official_global_mask: bool = True,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise UnsupportedError(f"{num_heads} heads do not divide {dim} channels")
        if global_dim_ratio != 1 and not separate_global_qkv:
            raise UnsupportedError(f"global_dim_ratio {global_dim_ratio} needs separate_global_qkv")
        self.dim, self.num_heads, self.scale = dim, num_heads, qk_scale or (dim // num_heads) ** -0.5
        self.cuboid_size, self.shift_size = cast(Triple, tuple(cuboid_size)), cast(Triple, tuple(shift_size))
        self.strategy, self.padding_type = cast(tuple[str, str, str], tuple(strategy)), padding_type
        self.use_relative_pos, self.use_global_vector = use_relative_pos, use_global_vector
        self.use_global_self_attn, self.separate_global_qkv = use_global_self_attn, separate_global_qkv
        self.official_bias_index, self.official_global_mask = official_bias_index, official_global_mask
        if use_relative_pos:
            rows = 1
            for size in self.cuboid_size:
                rows *= 2 * size - 1
            self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, num_heads))
            nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
            index = torch.from_numpy(relative_position_index(self.cuboid_size))
            self.register_buffer("relative_position_index", index)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        wide = global_dim_ratio * dim
        if use_global_vector:
            self._add_global(dim, wide, qkv_bias)
        self.proj = nn.Linear(dim, dim) if use_final_proj else nn.Identity()
        self.norm = nn.LayerNorm(dim)
        if use_global_vector:
            self.global_proj = nn.Linear(wide, wide) if use_final_proj else nn.Identity()
            self.global_vec_norm = nn.LayerNorm(wide)

    def _add_global(self, dim: int, wide: int, bias: bool) -> None:
        if not self.separate_global_qkv:
            self.global_qkv = nn.Linear(dim, 3 * dim, bias=bias)
            return
        self.l2g_q_net = nn.Linear(dim, dim, bias=bias)
        self.l2g_global_kv_net = nn.Linear(wide, 2 * dim, bias=bias)
        self.g2l_global_q_net = nn.Linear(wide, dim, bias=bias)
        self.g2l_k_net = nn.Linear(dim, dim, bias=bias)
        self.g2l_v_net = nn.Linear(dim, wide, bias=bias)
        if self.use_global_self_attn:
            self.g2g_global_qkv_net = nn.Linear(wide, 3 * wide, bias=bias)

    def cuboids(self, shape: Triple) -> Cuboids:
        """The decomposition of a tensor of this (T, H, W)."""
        return Cuboids.of(shape, self.cuboid_size, self.shift_size, self.strategy, self.padding_type)

    def forward(self, x: Tensor, global_vectors: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        if x.dim() != 5 or x.shape[-1] != self.dim:
            raise InputError(
                f"the layer takes (B, T, H, W, {self.dim}), got {tuple(x.shape)}", where="cuboid attention"
            )
        if self.use_global_vector != (global_vectors is not None):
            wants = "needs" if self.use_global_vector else "was built without"
            raise InputError(f"the layer {wants} global vectors", where="cuboid attention")
        cuboids = self.cuboids((int(x.shape[1]), int(x.shape[2]), int(x.shape[3])))
        tokens = decompose(self.norm(x), cuboids)
        q, k, v = self._heads(self.qkv(tokens), 3)
        logits = (q * self.scale) @ k.transpose(-2, -1)
        if self.use_relative_pos:
            logits = logits + self._bias(cuboids)
        mask = None if cuboids.mask.all() else torch.from_numpy(cuboids.mask).to(x.device)
        if global_vectors is None:
            return recompose(self.proj(_merge(_masked_softmax(logits, mask) @ v)), cuboids)
        g = self.global_vec_norm(global_vectors).unsqueeze(1)
        l2g_q, l2g_k, l2g_v, updated = self._global(g, tokens, (q, k, v), cuboids)
        joint = torch.cat((logits, (l2g_q * self.scale) @ l2g_k.transpose(-2, -1)), -1)
        if mask is not None:
            mask = functional.pad(mask, (0, g.shape[2]), value=True)
        values = torch.cat((v, l2g_v.expand(-1, -1, cuboids.count, -1, -1)), -2)
        return recompose(self.proj(_merge(_masked_softmax(joint, mask) @ values)), cuboids), updated

    def _global(
        self, g: Tensor, tokens: Tensor, qkv: tuple[Tensor, Tensor, Tensor], cuboids: Cuboids
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Query, key and value of local → global attention, and the updated global vectors. g is (B, 1, K, C)."""
        if self.separate_global_qkv:
            (l2g_q,) = self._heads(self.l2g_q_net(tokens), 1)
            l2g_k, l2g_v = self._heads(self.l2g_global_kv_net(g), 2)
            (query,) = self._heads(self.g2l_global_q_net(g), 1)
            (k,), (v,) = self._heads(self.g2l_k_net(tokens), 1), self._heads(self.g2l_v_net(tokens), 1)
            own = self._heads(self.g2g_global_qkv_net(g), 3) if self.use_global_self_attn else None
        else:
            query, l2g_k, l2g_v = own = self._heads(self.global_qkv(g), 3)
            l2g_q, k, v = qkv
        k, v = k.flatten(2, 3), v.flatten(2, 3)  # the keys are all tokens of all cuboids
        logits = (query * self.scale).squeeze(2) @ k.transpose(-2, -1)
        seen = self._global_mask(cuboids)
        if self.use_global_self_attn and own is not None:
            own_q, own_k, own_v = (part.squeeze(2) for part in own)
            logits = torch.cat((logits, (own_q * self.scale) @ own_k.transpose(-2, -1)), -1)
            seen = None if seen is None else functional.pad(seen, (0, own_k.shape[2]), value=True)
            v = torch.cat((v, own_v), -2)
        attended = _masked_softmax(logits, None if seen is None else seen.to(logits.device)) @ v
        return l2g_q, l2g_k, l2g_v, self.global_proj(attended.transpose(1, 2).flatten(2))

    def _global_mask(self, cuboids: Cuboids) -> Tensor | None:
        """Which tokens, in cuboid order, the global vectors see; None for all."""
        if cuboids.padding != "ignore" or not cuboids.is_padded:
            return None
        valid = torch.from_numpy(cuboids.valid.copy())
        if not self.official_global_mask:
            return valid.flatten()
        inside = functional.pad(torch.ones(cuboids.shape, dtype=torch.bool), _end_pads(cuboids)[2:], value=False)
        return torch.roll(inside, [-axis.shift for axis in cuboids.axes], (0, 1, 2)).flatten()

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(B, N, M, parts × heads × d) → `parts` tensors (B, heads, N, M, d)."""
        split = x.unflatten(-1, (parts, self.num_heads, -1))
        return tuple(split[..., part, :, :].permute(0, 3, 1, 2, 4) for part in range(parts))

    def _bias(self, cuboids: Cuboids) -> Tensor:
        """(heads, 1, volume, volume)."""
        if self.official_bias_index:
            index = self.relative_position_index[: cuboids.volume, : cuboids.volume]
        else:
            index = torch.from_numpy(cuboids.bias_index(by_raster=False)).to(self.relative_position_index.device)
        return self.relative_position_bias_table[index].permute(2, 0, 1).unsqueeze(1)


def decompose(x: Tensor, cuboids: Cuboids) -> Tensor:
    """(B, T, H, W, C) → (B, cuboids, volume, C), by padding, rolling and reshaping."""
    if cuboids.is_padded:
        x = _resized(x, cuboids.padded) if cuboids.padding == "nearest" else functional.pad(x, _end_pads(cuboids))
    shifts = [-axis.shift for axis in cuboids.axes]
    if any(shifts):
        x = torch.roll(x, shifts, (1, 2, 3))
    sizes, order = _factors(cuboids)
    return x.reshape(x.shape[0], *sizes, x.shape[-1]).permute(order).flatten(4, 6).flatten(1, 3)


def recompose(tokens: Tensor, cuboids: Cuboids) -> Tensor:
    """The inverse of `decompose`; what stood in the padding is dropped."""
    _, order = _factors(cuboids)
    inverse = [order.index(axis) for axis in range(len(order))]
    batch, channels = tokens.shape[0], tokens.shape[-1]
    x = tokens.reshape(batch, *cuboids.blocks, *cuboids.cuboid, channels).permute(inverse)
    x = x.reshape(batch, *cuboids.padded, channels)
    shifts = [axis.shift for axis in cuboids.axes]
    if any(shifts):
        x = torch.roll(x, shifts, (1, 2, 3))
    if not cuboids.is_padded:
        return x
    if cuboids.padding == "nearest":
        return _resized(x, cuboids.shape)
    t, h, w = cuboids.shape
    return x[:, :t, :h, :w]


def _factors(cuboids: Cuboids) -> tuple[list[int], list[int]]:
    """Two factors of every axis, and the permutation that brings blocks to the front: (B, blocks, inners, C)."""
    sizes: list[int] = []
    blocks: list[int] = []
    inners: list[int] = []
    for number, axis in enumerate(cuboids.axes):
        first, second = 2 * number + 1, 2 * number + 2
        local = axis.strategy == "l"
        sizes += [axis.blocks, axis.block] if local else [axis.block, axis.blocks]
        blocks.append(first if local else second)
        inners.append(second if local else first)
    return sizes, [0, *blocks, *inners, 7]


def _end_pads(cuboids: Cuboids) -> list[int]:
    """Operand of `functional.pad` for (T, H, W, C): zeros behind each axis, last axis first."""
    t, h, w = (axis.padded - axis.size for axis in cuboids.axes)
    return [0, 0, 0, w, 0, h, 0, t]


def _resized(x: Tensor, target: Triple) -> Tensor:
    """Nearest-neighbour resize of the three inner axes."""
    for axis, size in enumerate(target, 1):
        index = torch.from_numpy(nearest_index(int(x.shape[axis]), size)).to(x.device)
        x = x.index_select(axis, index)
    return x


def _masked_softmax(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the keys that `mask` shows, or all; a query that sees none gets zeros."""
    if mask is None:
        return torch.softmax(logits, -1)
    return torch.softmax(logits.masked_fill(~mask, _MASKED), -1) * mask


def _merge(heads: Tensor) -> Tensor:
    """(B, heads, N, M, d) → (B, N, M, heads × d)."""
    return heads.permute(0, 2, 3, 1, 4).flatten(3)


def parameters_of(layer: CuboidSelfAttention, shape: Triple) -> CuboidParameters:
    """The layer's matrices for tensors of this (T, H, W).

    Raises:
        UnsupportedError: the layer masks global queries as published, which depends on more than its matrices.
    """
    cuboids = layer.cuboids(shape)
    odd_mask = layer.use_global_vector and cuboids.padding == "ignore" and cuboids.is_padded
    if odd_mask and layer.official_global_mask:
        raise UnsupportedError(
            "global queries with padding 'ignore' are masked in raster order", hint="set official_global_mask=False"
        )
    q, k, v = _split(layer.qkv, 3)
    return CuboidParameters(
        cuboids=cuboids,
        heads=layer.num_heads,
        scale=layer.scale,
        norm=_norm(layer.norm),
        query=q,
        key=k,
        value=v,
        bias=_array(layer._bias(cuboids)[:, 0]) if layer.use_relative_pos else None,
        out=_out(layer.proj),
        globals=_global_parameters(layer, (q, k, v)) if layer.use_global_vector else None,
    )


def _global_parameters(layer: CuboidSelfAttention, qkv: tuple[Projection, Projection, Projection]) -> GlobalParameters:
    norm, out = _norm(layer.global_vec_norm), _out(layer.global_proj)
    if not layer.separate_global_qkv:
        query, key, value = _split(layer.global_qkv, 3)
        own = (query, key, value) if layer.use_global_self_attn else None
        return GlobalParameters(norm, qkv[0], key, value, query, qkv[1], qkv[2], own, out)
    (l2g_q,), (l2g_k, l2g_v) = _split(layer.l2g_q_net, 1), _split(layer.l2g_global_kv_net, 2)
    (query,), (key,), (value,) = (_split(n, 1) for n in (layer.g2l_global_q_net, layer.g2l_k_net, layer.g2l_v_net))
    own = None
    if layer.use_global_self_attn:
        own_q, own_k, own_v = _split(layer.g2g_global_qkv_net, 3)
        own = (own_q, own_k, own_v)
    return GlobalParameters(norm, l2g_q, l2g_k, l2g_v, query, key, value, own, out)


def _split(linear: nn.Linear, parts: int) -> tuple[Projection, ...]:
    weight = _array(linear.weight)
    bias = np.zeros(len(weight)) if linear.bias is None else _array(linear.bias)
    pairs = zip(np.split(weight, parts), np.split(bias, parts), strict=True)
    return tuple(Projection(*pair) for pair in pairs)


def _out(proj: nn.Module) -> Projection | None:
    return _split(proj, 1)[0] if isinstance(proj, nn.Linear) else None


def _norm(norm: nn.LayerNorm) -> LayerNorm:
    return LayerNorm(_array(norm.weight), _array(norm.bias), norm.eps)


def _array(tensor: Tensor) -> Floats:
    return tensor.detach().cpu().double().numpy()
