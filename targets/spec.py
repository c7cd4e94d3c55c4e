"""`EngineSpec`: one parallelism-factor engine, read from TOML, self-validating.

The class of machine: an array that unrolls input channels × output channels × positions, a
fixed-rate output stage, a vector unit, one software-managed SRAM and a DRAM behind two DMA queues.
Sources of the shape of the model: Ethos-U and NVDLA as described in the vendors' manuals and
in Vela's performance model; the `ne-*` family is our own.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError, SpecError, UnknownNameError
from ..common.files import read_config_text, stable_hash
from .spec_rules import LIST_WIDTHS, problems

_SECTIONS: dict[str, dict[str, str]] = {
    "engine": {"name": "name", "clock_mhz": "clock_mhz", "issue_cycles": "issue_cycles", "semaphores": "semaphores"},
    "array": {
        "input_lanes": "input_lanes",
        "output_lanes": "output_lanes",
        "positions_h": "positions_h",
        "positions_w": "positions_w",
        "dataflow": "dataflow",
        "folds": "folds",
        "micro_blocks": "micro_blocks",
        "step_cycles": "step_cycles",
        "depthwise_taps": "depthwise_taps",
        "weight_bytes_per_cycle": "weight_bytes_per_cycle",
        "accumulator_bytes": "accumulator_bytes",
    },
    "rates": {"int8": "int8_rate", "int8x16": "int8x16_rate", "bf16": "bf16_rate"},
    "blocks": {
        "rows": "block_h",
        "cols": "block_w",
        "channels": "block_c",
        "channel_step": "block_c_step",
        "in_flight": "blocks_in_flight",
        "dependency_cycles": "dependency_cycles",
        "pool_tap_cycles": "pool_tap_cycles",
        "outstanding_bytes": "outstanding_bytes",
        "banks": "buffer_banks",
        "bank_bytes": "buffer_bank_bytes",
        "reserved_banks": "buffer_reserved_banks",
        "input_granule": "buffer_input_granule",
        "sum_granule": "buffer_sum_granule",
    },
    "output": {
        "elements_per_cycle": "output_elements_per_cycle",
        "pool_elements_per_cycle": "pool_elements_per_cycle",
        "add_elements_per_cycle": "add_elements_per_cycle",
    },
    "vector": {
        "lanes": "vector_lanes",
        "table_passes": "table_passes",
        "softmax_passes": "softmax_passes",
        "norm_passes": "norm_passes",
    },
    "memory": {
        "sram_bytes": "sram_bytes",
        "sram_banks": "sram_banks",
        "sram_bytes_per_cycle": "sram_bytes_per_cycle",
        "sram_latency_cycles": "sram_latency_cycles",
        "sram_burst_bytes": "sram_burst_bytes",
        "brick_channels": "brick_channels",
        "dram_bytes_per_cycle": "dram_bytes_per_cycle",
        "dram_latency_cycles": "dram_latency_cycles",
        "dram_burst_bytes": "dram_burst_bytes",
        "flash_bytes_per_cycle": "flash_bytes_per_cycle",
        "flash_latency_cycles": "flash_latency_cycles",
        "flash_burst_bytes": "flash_burst_bytes",
        "weight_decoder": "weight_decoder",
        "io_memory": "io_memory",
        "spill": "spill",
    },
}


_PRESETS = resources.files(__name__.rpartition(".")[0]) / "presets"
_LARGEST = 2**53  # every integer up to here is exact as a float
_KINDS: dict[str, tuple[type, ...]] = {"str": (str,), "bool": (bool,), "int": (int,), "float": (int, float)}


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One engine. Rates are per cycle, sizes in bytes, the clock in MHz (cycles per microsecond)."""

    name: str
    clock_mhz: float
    input_lanes: int  # products summed per cycle and output lane
    output_lanes: int  # output channels per cycle
    sram_bytes: int
    sram_bytes_per_cycle: float
    dram_bytes_per_cycle: float
    output_elements_per_cycle: float  # bias, requantise, clamp, residual add
    vector_lanes: int  # int8 elements per cycle of the vector unit
    positions_h: int = 1  # micro-block: rows and columns of output positions per cycle
    positions_w: int = 1
    depthwise_taps: int = 1  # kernel taps that input lanes can serve per cycle in a depthwise convolution
    weight_bytes_per_cycle: float = 0.0  # SRAM → array weight feed; 0 means input_lanes × output_lanes / 4
    accumulator_bytes: int = 65536  # int32 partial sums
    int8_rate: float = 1.0
    int8x16_rate: float = 0.5
    bf16_rate: float = 0.25
    table_passes: float = 1.0  # of the vector unit over its operands; 1 for operators not named here
    softmax_passes: float = 3.0  # maximum, sum of exponentials, division
    norm_passes: float = 2.0  # statistics, scaling
    sram_banks: int = 1
    dram_latency_cycles: int = 64
    dram_burst_bytes: int = 64
    issue_cycles: int = 8  # decode and fill of one data instruction
    semaphores: int = 256
    dataflow: str = "weight-stationary"  # one of `DATAFLOWS`
    folds: tuple[tuple[int, int], ...] = ()  # ways to use the input lanes, channels × taps; () means input_lanes × 1
    micro_blocks: tuple[tuple[int, int, int], ...] = ()  # rows × columns × output channels; () means the above
    step_cycles: int = 1  # cycles in which the array works through one fold
    # Dataflow "block": largest output block, what limits its rate, and the buffers that hold it.
    block_h: int = 32
    block_w: int = 64
    block_c: int = 128
    block_c_step: int = 16  # a block that is not as deep as the map is a multiple of this deep
    blocks_in_flight: int = 4  # commands that the engine keeps open: it takes at least their time, divided by this
    dependency_cycles: int = 2  # from a product to the next one that adds to the same sum
    pool_tap_cycles: int = 1  # array cycles for one tap of a pooling window and one micro-block
    outstanding_bytes: int = 256  # biases requested before the first arrives
    buffer_banks: int = 24
    buffer_bank_bytes: int = 1024
    buffer_reserved_banks: int = 4
    buffer_input_granule: int = 4
    buffer_sum_granule: int = 8
    pool_elements_per_cycle: float = 0.0  # maximum pooling on the array; 0: pooling runs on the vector unit
    add_elements_per_cycle: float = 0.0  # 0: additions run at the rate of the vector lanes
    brick_channels: int = 1  # channels of a position that lie together in SRAM before the next column begins
    sram_latency_cycles: int = 0
    sram_burst_bytes: int = 1
    flash_bytes_per_cycle: float = 0.0  # 0: constants live in DRAM; otherwise they come through a channel of their own
    flash_latency_cycles: int = 0
    flash_burst_bytes: int = 1
    weight_decoder: bool = False  # loads may leave out the zeros among weights
    io_memory: str = "dram"  # where the host leaves inputs and expects outputs: "dram" or "sram"
    spill: bool = True  # False: feature maps never leave SRAM

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.type == "float":  # 500 and 500.0 are one engine: same digest, same file
                object.__setattr__(self, f.name, float(getattr(self, f.name)))
        if not self.weight_bytes_per_cycle:
            object.__setattr__(self, "weight_bytes_per_cycle", self.input_lanes * self.output_lanes / 4)
        for problem in problems(self):
            raise SpecError(problem, where=f"engine {self.name!r}", hint="correct the engine description")

    def __hash__(self) -> int:
        # Equal specs agree in these; hashing every field would cost more than most of what is cached by spec.
        return hash((self.name, self.sram_bytes, self.dram_bytes_per_cycle, self.output_elements_per_cycle))

    @property
    def positions(self) -> int:
        return self.positions_h * self.positions_w

    @property
    def parallelism(self) -> int:
        """The parallelism factor: int8 multiply-accumulates per cycle."""
        return self.input_lanes * self.output_lanes * self.positions

    @property
    def array_folds(self) -> tuple[tuple[int, int], ...]:
        """Input channels × kernel taps that one step of the array sums, one of these per instruction."""
        return self.folds or ((self.input_lanes * self.step_cycles, 1),)

    @property
    def array_blocks(self) -> tuple[tuple[int, int, int], ...]:
        """Rows × columns × output channels that the array computes together, one of these per instruction."""
        return self.micro_blocks or ((self.positions_h, self.positions_w, self.output_lanes),)

    @property
    def channel_multiples(self) -> tuple[int, int]:
        """Input and output channel counts that are multiples of these leave no lane idle in any dense layer."""
        return max(channels for channels, _ in self.array_folds), max(c for _, _, c in self.array_blocks)

    @property
    def channel_multiple(self) -> int:
        """Channel counts that are multiples of this leave no lane idle."""
        return max(self.channel_multiples)

    def digest(self) -> str:
        """Stable hash of every field, for caches, packages and measurement keys."""
        return stable_hash(asdict(self))

    def as_dict(self) -> dict[str, Any]:
        """Every field, as JSON and TOML hold them: lists in the place of tuples."""
        return asdict(self) | {name: [list(row) for row in getattr(self, name)] for name in LIST_WIDTHS}


def spec_from_dict(values: dict[str, Any], *, where: str = "") -> EngineSpec:
    """The inverse of `EngineSpec.as_dict`; unknown or mistyped fields raise `ConfigError`."""
    known = {f.name: f for f in fields(EngineSpec)}
    read: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"unknown key {key!r}", where=where, hint=f"known: {', '.join(sorted(known))}")
        place = f"{where}:{key}" if where else key
        read[key] = (
            _lists(key, value, place) if key in LIST_WIDTHS else _scalar(key, value, str(known[key].type), place)
        )
    missing = [n for n, f in known.items() if n not in values and f.default is f.default_factory]  # both MISSING
    if missing:
        raise ConfigError(
            f"missing {', '.join(missing)}", where=where, hint="see `lanefit info TARGET` for a complete one"
        )
    return EngineSpec(**read)


def _scalar(key: str, value: Any, wanted: str, place: str) -> Any:
    if not isinstance(value, _KINDS[wanted]) or (isinstance(value, bool) and wanted != "bool"):
        raise ConfigError(f"{key} must be {wanted}, got {value!r}", where=place)
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ConfigError(f"{key} is larger than {_LARGEST}", where=place)
    return value


def _lists(key: str, value: Any, place: str) -> tuple[tuple[int, ...], ...]:
    """A list of equally long lists of integers, as tuples."""
    width = LIST_WIDTHS[key]
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{key} must be a list of lists of {width} integers, got {value!r}", where=place)
    for row in value:
        if not isinstance(row, list | tuple) or len(row) != width:
            raise ConfigError(f"{key} must be a list of lists of {width} integers, got {row!r} in it", where=place)
    return tuple(tuple(_scalar(key, number, "int", place) for number in row) for row in value)


def spec_from_toml(text: str, *, where: str) -> EngineSpec:
    """Reads the sections engine, array, rates, output, vector and memory; `where` names the file in errors."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}", where=where) from error
    values: dict[str, Any] = {}
    for section, table in document.items():
        if section not in _SECTIONS or not isinstance(table, dict):
            raise ConfigError(
                f"unknown section [{section}]", where=f"{where}:{section}", hint=f"known: {', '.join(_SECTIONS)}"
            )
        for key, value in table.items():
            if key not in _SECTIONS[section]:
                known = ", ".join(_SECTIONS[section])
                where_key = f"{where}:{section}.{key}"
                raise ConfigError(f"unknown key {key!r} in [{section}]", where=where_key, hint=f"known: {known}")
            values[_SECTIONS[section][key]] = value
    return spec_from_dict(values, where=where)


def spec_to_toml(spec: EngineSpec) -> str:
    """The TOML file that `spec_from_toml` reads back as an equal spec."""
    sections = []
    for section, keys in _SECTIONS.items():
        # JSON and TOML agree on numbers and on strings without DEL, which a name has no use for.
        lines = [f"{key} = {json.dumps(getattr(spec, field))}" for key, field in keys.items()]
        sections.append("\n".join([f"[{section}]", *lines, ""]))
    return "\n".join(sections)


def preset_names() -> list[str]:
    return sorted(p.name.removesuffix(".toml") for p in _PRESETS.iterdir())


def load_spec(target: str) -> EngineSpec:
    """The preset called `target`, or the spec in the TOML file at the path `target`."""
    if target.endswith(".toml"):
        return spec_from_toml(read_config_text(Path(target)), where=target)
    if target not in preset_names():
        raise UnknownNameError("target", target, preset_names())
    text = (_PRESETS / f"{target}.toml").read_text(encoding="utf-8")
    return spec_from_toml(text, where=f"preset {target}")
