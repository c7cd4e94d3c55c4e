"""The part of global vectors in the program of cuboid attention; what it computes: `cuboid_global_integer.py`.

Their keys and values stand behind those of every cuboid, so that one softmax covers both. Their own attention runs
leaf by leaf beside that of the tokens; only its results and their logarithms are kept, and joined after each group.
Their weights are square chunks that pass through one buffer.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..targets.isa import DType, Opcode, SoftmaxMode, Unit
from .builder import Value
from .cuboid_emit import LOGIT_BYTES, ONE, Emitter
from .cuboid_moves import Fields, Tile
from .cuboid_op import CuboidAttention, fan_of
from .cuboid_tiles import Box

_LOGITS = (-(2**15), 2**15 - 1)
_INT16 = int(DType.INT16)


def part_sizes(op: CuboidAttention) -> dict[str, int]:
    """Bytes of what global vectors keep in SRAM beside tiles."""
    rows, vector = op.heads * op.global_vectors, op.global_vectors * op.channels
    counts = [box.tile_count for box in op.leaf_boxes]
    fan, groups = max(fan_of(count) for count in counts), group_count(op)
    return {
        "normed": vector, "query": vector, "joined": vector, "result": vector,
        "logs": rows * fan * LOGIT_BYTES, "group_logs": rows * groups * LOGIT_BYTES,
        "weights": rows * max(fan, groups, op.global_vectors) * LOGIT_BYTES,
        "own": rows * op.global_vectors * LOGIT_BYTES,
        "parts": fan * vector, "group_parts": groups * vector,
        **dict.fromkeys(("own_key", "own_value", "own_query"), vector if op.separate else 0),
    }  # fmt: skip


def group_count(op: CuboidAttention) -> int:
    """Groups of leaves, and one part more for what global vectors see of each other."""
    return sum(box.tile_count // fan_of(box.tile_count) for box in op.leaf_boxes) + op.global_own


@dataclass(frozen=True, slots=True)
class _Rows:
    """int16 values of every head and global vector: `count` from `address` on, rows `pitch` bytes apart."""

    address: Value
    count: int
    pitch: int


class GlobalEmitter(Emitter):
    """Adds the global vectors to every phase of a tile."""

    def _open(self, tiles: list[Box]) -> None:
        op = self.op
        self.rows, self.vector = op.heads * op.global_vectors, op.global_vectors * op.channels
        self.most = max(box.cuboids_per_tile for box in tiles)
        self.groups = 0
        address = self.slots["global"].address
        self.at: dict[str, int] = {}
        for name, size in part_sizes(op).items():
            self.at[name] = address
            address += -(-size // 64) * 64
        flow = self.b.flow
        self.flows |= {
            "second": flow(Unit.DMA_IN, Unit.VECTOR, 1), "normed": flow(Unit.VECTOR, Unit.ARRAY, 1),
            "chunk": flow(Unit.DMA_IN, Unit.ARRAY, 1), "own": flow(Unit.ARRAY, Unit.VECTOR, 1),
            "weights": flow(Unit.VECTOR, Unit.ARRAY, 1), "result": flow(Unit.ARRAY, Unit.DMA_OUT, 1),
        }  # fmt: skip
        self._normalise_vectors()
        self._project_vectors()
        if op.global_own:
            self._attend_own()

    # --- before the tiles ----------------------------------------------------------------------------

    def _normalise_vectors(self) -> None:
        second, normed, stage = self.flows["second"], self.flows["normed"], self.o.stages[5]
        assert self.o.second is not None
        self._await_memory("second")
        source = Value(self.slots["second"].address)
        self.b.acquire(second)
        self._transfer(Opcode.LOAD, self.o.second.address, [(self.vector, 1, 1)], source)
        self.b.publish(second)
        self.b.receive(second)
        self.b.acquire(normed)
        count, width = self.op.global_vectors, self.op.channels
        self.b.emit(
            Unit.VECTOR, Opcode.NORM, **self._view("in", source, 1, count, width),
            **self._size(1, count, self.o.second.zero_point), mode=0, group=width,
            params_addr=self.sections["global_norm"], params_chan0=0,
            eps_high=self.o.second_epsilon >> 31, eps_low=self.o.second_epsilon & (2**31 - 1),
            **self._range(1, count, width), **self._view("out", Value(self.at["normed"]), 1, count, width),
            out_zp=stage.zero_point, act_min=-128, act_max=127,
        )  # fmt: skip
        self._hide_gaps()
        self.b.publish(normed)
        self.b.release(second)

    def _hide_gaps(self) -> None:
        """Logits of a leaf have room for every key of its cuboids; those of global vectors take no part."""
        slots, width = self.slots["sg"], self.op.global_vectors
        for number in range(slots.depth):
            self._hide(slots.address + number * slots.size + self.volume * LOGIT_BYTES, self.rows * self.most, width)

    def _hide(self, start: int, rows: int, width: int) -> None:
        multiplier, shift = ONE
        address = Value(start)
        view = {"pitch_h": self.keys * LOGIT_BYTES, "pitch_w": width * LOGIT_BYTES, "row0": 0, "wrap": 0, "chan0": 0}
        views: Fields = {f"{side}_{name}": value for side in ("in", "out") for name, value in view.items()}
        self.b.emit(
            Unit.VECTOR, Opcode.REQUANTISE, **views, in_addr=address, out_addr=address, **self._size(rows, 1, 0),
            in_type=_INT16, out_type=_INT16, multiplier=multiplier, shift=shift, **self._range(rows, 1, width),
            out_zp=0, act_min=_LOGITS[0], act_max=_LOGITS[0],
        )  # fmt: skip

    def _project_vectors(self) -> None:
        """Keys and values go behind those of every cuboid of every slot, queries to their own place."""
        op, slots = self.op, self.slots["qkv"]
        self.b.receive(self.flows["normed"])
        row = self.keys * op.token_channels
        places = [self.at["query"], *(self.at[name] for name in ("own_key", "own_value", "own_query") if op.separate)]
        for chunk in range(op.chunks - op.projected):
            self._load_chunk(chunk)
            self.b.receive(self.flows["chunk"])
            if chunk < 2:
                for number in range(slots.depth):
                    place = slots.address + number * slots.size + self.volume * op.token_channels
                    self._project_chunk(
                        "normed", place + (chunk + 1) * op.channels, (self.most, row), op.token_channels
                    )
            else:
                self._project_chunk("normed", places[chunk - 2], (1, self.vector), op.channels)
            self.b.release(self.flows["chunk"])
        self.b.release(self.flows["normed"])

    def _load_chunk(self, chunk: int) -> None:
        if chunk == 0:
            self._await_memory("chunk")
        flow = self.flows["chunk"]
        self.b.acquire(flow)
        address = self.o.records[0] + self.op.resident_bytes + chunk * self.op.chunk_bytes
        self._transfer(Opcode.LOAD, address, [(self.op.chunk_bytes, 1, 1)], self.slots["chunk"].address)
        self.b.publish(flow)

    def _project_chunk(self, source: str, target: int, copies: tuple[int, int], pitch: int) -> None:
        """The product of global vectors with the loaded chunk, to `copies` = (count, pitch) places."""
        count, width = self.op.global_vectors, self.op.channels
        zero_point = self.o.stages[5].zero_point if source == "normed" else 0
        stage = self.o.stages[6 if source == "normed" else 11]
        view = self._view("in", Value(self.at[source]), copies[0], count, width) | {"in_pitch_h": 0}
        out = {
            "out_addr": target, "out_pitch_h": copies[1], "out_pitch_w": pitch, "out_row0": 0, "out_wrap": 0,
            "out_chan0": 0,
        }  # fmt: skip
        self.b.emit(
            Unit.ARRAY, Opcode.CONV, **view, **self._size(copies[0], count, zero_point), kernel_h=1, kernel_w=1,
            stride_h=1, stride_w=1, pad_h=0, pad_w=0, mode=0, channels_in=width,
            weights_addr=self.slots["chunk"].address, weights_chan0=0, record_pitch=self.op.record_pitch,
            **self._range(copies[0], count, width), **out, out_zp=stage.zero_point, act_min=-128, act_max=127,
        )  # fmt: skip

    def _attend_own(self) -> None:
        """What global vectors see of each other is the last part."""
        op, qkv = self.op, self.slots["qkv"].address + self.volume * self.op.token_channels
        keys, values, query, pitch = qkv + op.channels, qkv + 2 * op.channels, self.at["query"], op.token_channels
        if op.separate:
            keys, values, query = (self.at[name] for name in ("own_key", "own_value", "own_query"))
            pitch = op.channels
        last, own, weights = group_count(op) - 1, self.flows["own"], self.flows["weights"]
        logits = _Rows(Value(self.at["own"]), op.global_vectors, op.global_vectors * LOGIT_BYTES)
        self.b.acquire(own)
        self._products(logits, Value(keys), 1, op.global_vectors, None, (query, pitch))
        self.b.publish(own)
        self.b.receive(own)
        self.b.acquire(weights)
        logs = Value(self.at["group_logs"] + last * LOGIT_BYTES)
        self._shares(logits, Value(self.at["weights"]), (logs, self._group_pitch))
        self.b.publish(weights)
        self.b.release(own)
        self.b.receive(weights)
        shares = _Rows(Value(self.at["weights"]), op.global_vectors, logits.pitch)
        self._results(shares, Value(values), Value(self.at["group_parts"] + last * self.vector), pitch)
        self.b.release(weights)

    @property
    def _group_pitch(self) -> int:
        return group_count(self.op) * LOGIT_BYTES

    # --- tiles ---------------------------------------------------------------------------------------

    def _compute(self, box: Box) -> None:
        """Group by group; a group begins before the one ahead of it is joined, so that no unit waits for the join."""
        self.fan = fan_of(box.tile_count)
        last = box.tile_count // self.fan - 1
        self._first(box)
        if last:
            with self.b.loop(last) as group:
                self._group(box, 0, group, more=True)
        self._group(box, last, Value(), more=False)
        self.groups += last + 1

    def _group(self, box: Box, first: int, group: Value, *, more: bool) -> None:
        """The tiles of group `first` + `group` of a box, the beginning of the next where there are `more`, the join."""
        done, start, last = self.done + first * self.fan, group * self.fan, self.fan - 1
        for early, late in self._phases(box):
            if last:
                with self.b.loop(last) as i:
                    early(Tile(done + 1, start + i))
                    late(Tile(done, start + i, i))
            if more:
                early(Tile(done + self.fan, start))
            late(Tile(done + last, start, Value(last)))
        number = self.groups + first
        logs = Value(self.at["group_logs"] + number * LOGIT_BYTES) + group * LOGIT_BYTES
        target = Value(self.at["group_parts"] + number * self.vector) + group * self.vector
        self._join(_Rows(Value(self.at["logs"]), self.fan, self.fan * LOGIT_BYTES), "parts", target, logs)

    def _logits(self, box: Box, tile: Tile) -> None:
        super()._logits(box, tile)
        if self.op.separate:
            self._far_logits(box, tile)
        logits = _Rows(self._slot("sg", tile), box.cuboids_per_tile, self._leaf_pitch)
        keys = self._slot("qkv", tile) + (4 if self.op.separate else 1) * self.op.channels
        self._products(logits, keys, box.cuboids_per_tile, self.volume, self._hidden(box))

    def _far_logits(self, box: Box, tile: Tile) -> None:
        """Queries of tokens for global vectors × their keys, behind the logits of the cuboid."""
        op, wide, row, qkv = self.op, self.op.token_channels, self.keys * LOGIT_BYTES, self._slot("qkv", tile)
        multiplier, shift = self.o.stages[2].rescale
        self.b.emit(
            Unit.ARRAY, Opcode.MATMUL,
            in_addr=qkv + 3 * op.channels, in_pitch_g0=self.keys * wide, in_pitch_g1=op.head_channels, in_pitch_m=wide,
            in_zp=0, b_addr=qkv + self.volume * wide + op.channels, b_pitch_g0=self.keys * wide,
            b_pitch_g1=op.head_channels, b_pitch_n=wide, b_pitch_k=1, b_zp=0,
            bias_addr=-1, bias_pitch_g0=0, bias_pitch_g1=0, bias_pitch_m=0, multiplier=multiplier, shift=shift,
            g0_start=0, g0_count=box.cuboids_per_tile, g0_limit=box.cuboids_per_tile, g1_count=op.heads,
            m_count=self.volume, n_count=op.global_vectors, k_count=op.head_channels,
            out_addr=self._slot("s", tile) + self.volume * LOGIT_BYTES, out_pitch_g0=op.heads * self.volume * row,
            out_pitch_g1=self.volume * row, out_pitch_m=row,
            out_zp=0, out_type=_INT16, act_min=_LOGITS[0], act_max=_LOGITS[1],
        )  # fmt: skip

    @property
    def _leaf_pitch(self) -> int:
        return self.most * self.keys * LOGIT_BYTES

    def _hidden(self, box: Box) -> int | None:
        if not self.op.hidden_tables:
            return None
        return self.sections["global_hidden"] + 4 * self._mask(box) * self.volume

    def _shared(self, box: Box, tile: Tile) -> None:
        logits = _Rows(self._slot("sg", tile), box.cuboids_per_tile * self.keys, self._leaf_pitch)
        logs = Value(self.at["logs"]) + tile.place * LOGIT_BYTES
        self._shares(logits, self._slot("pg", tile), (logs, self.fan * LOGIT_BYTES))

    def _values(self, box: Box, tile: Tile, target: Value) -> None:
        super()._values(box, tile, target)
        shares = _Rows(self._slot("pg", tile), box.cuboids_per_tile * self.keys, self._leaf_pitch)
        values = self._slot("qkv", tile) + (5 if self.op.separate else 2) * self.op.channels
        self._results(shares, values, Value(self.at["parts"]) + tile.place * self.vector)

    def _close(self) -> None:
        op, result = self.op, self.flows["result"]
        assert self.o.extra is not None
        final = _Rows(Value(self.at["group_logs"]), group_count(op), self._group_pitch)
        self.b.acquire(result)
        self._join(final, "group_parts", Value(self.at["joined"]), None)
        source = self.at["joined"]
        if op.projected:
            self._load_chunk(op.chunks - 1)
            self.b.receive(self.flows["chunk"])
            self._project_chunk("joined", self.at["result"], (1, self.vector), op.channels)
            self.b.release(self.flows["chunk"])
            source = self.at["result"]
        self.b.publish(result)
        self.b.receive(result)
        self._transfer(Opcode.STORE, self.o.extra.address, [(self.vector, 1, 1)], source)
        self.b.release(result)

    # --- steps of the attention of global vectors ------------------------------------------------------

    def _join(self, logs: _Rows, parts: str, target: Value, log_target: Value | None) -> None:
        """Weights parts by the softmax of their logarithms, and adds them."""
        op, flow, stage = self.op, self.flows["weights"], self.o.stages[10]
        self.b.acquire(flow)
        self._shares(logs, Value(self.at["weights"]), None if log_target is None else (log_target, self._group_pitch))
        self.b.publish(flow)
        self.b.receive(flow)
        pitch = logs.count * LOGIT_BYTES
        self.b.emit(
            Unit.ARRAY, Opcode.MATMUL,
            in_addr=self.at["weights"], in_pitch_g0=pitch, in_pitch_g1=op.global_vectors * pitch, in_pitch_m=pitch,
            in_zp=0, in_type=_INT16,
            b_addr=self.at[parts], b_pitch_g0=op.channels, b_pitch_g1=op.head_channels, b_pitch_n=1,
            b_pitch_k=self.vector, b_zp=0, bias_addr=-1, bias_pitch_g0=0, bias_pitch_g1=0, bias_pitch_m=0,
            multiplier=stage.rescale[0], shift=stage.rescale[1],
            g0_start=0, g0_count=op.global_vectors, g0_limit=op.global_vectors, g1_count=op.heads,
            m_count=1, n_count=op.head_channels, k_count=logs.count,
            out_addr=target, out_pitch_g0=op.channels, out_pitch_g1=op.head_channels, out_pitch_m=op.channels,
            out_zp=0, act_min=-128, act_max=127,
        )  # fmt: skip
        self.b.release(flow)

    def _products(
        self,
        logits: _Rows,
        keys: Value,
        cuboids: int,
        count: int,
        hidden: int | None,
        own: tuple[int, int] | None = None,
    ) -> None:
        """Queries of the global vectors × `count` keys of each cuboid; `own` = (queries, pitch of the keys)."""
        op, stage = self.op, self.o.stages[7]
        query, pitch = own or (self.at["query"], op.token_channels)
        self.b.emit(
            Unit.ARRAY, Opcode.MATMUL,
            in_addr=query, in_pitch_g0=0, in_pitch_g1=op.head_channels, in_pitch_m=op.channels, in_zp=0,
            b_addr=keys, b_pitch_g0=self.keys * op.token_channels, b_pitch_g1=op.head_channels,
            b_pitch_n=pitch, b_pitch_k=1, b_zp=0,
            bias_addr=-1 if hidden is None else hidden, bias_pitch_g0=0, bias_pitch_g1=0, bias_pitch_m=0,
            multiplier=stage.rescale[0], shift=stage.rescale[1],
            g0_start=0, g0_count=cuboids, g0_limit=cuboids, g1_count=op.heads,
            m_count=op.global_vectors, n_count=count, k_count=op.head_channels,
            out_addr=logits.address, out_pitch_g0=self.keys * LOGIT_BYTES,
            out_pitch_g1=op.global_vectors * logits.pitch, out_pitch_m=logits.pitch,
            out_zp=0, out_type=_INT16, act_min=_LOGITS[0], act_max=_LOGITS[1],
        )  # fmt: skip

    def _results(self, shares: _Rows, values: Value, target: Value, pitch: int | None = None) -> None:
        """Shares × values for every head and global vector."""
        op, stage = self.op, self.o.stages[9]
        self.b.emit(
            Unit.ARRAY, Opcode.MATMUL,
            in_addr=shares.address, in_pitch_g0=0, in_pitch_g1=op.global_vectors * shares.pitch,
            in_pitch_m=shares.pitch, in_zp=0, in_type=_INT16,
            b_addr=values, b_pitch_g0=0, b_pitch_g1=op.head_channels, b_pitch_n=1,
            b_pitch_k=pitch or op.token_channels, b_zp=0,
            bias_addr=-1, bias_pitch_g0=0, bias_pitch_g1=0, bias_pitch_m=0,
            multiplier=stage.rescale[0], shift=stage.rescale[1],
            g0_start=0, g0_count=1, g0_limit=1, g1_count=op.heads,
            m_count=op.global_vectors, n_count=op.head_channels, k_count=shares.count,
            out_addr=target, out_pitch_g0=0, out_pitch_g1=op.head_channels, out_pitch_m=op.channels,
            out_zp=0, act_min=-128, act_max=127,
        )  # fmt: skip

    def _shares(self, logits: _Rows, target: Value, logs: tuple[Value, int] | None) -> None:
        """Shares with the pitch of the logits; their logarithms go to `logs` = (address, pitch)."""
        multiplier, shift = ONE
        log_multiplier, log_shift = self.o.stages[8].rescale
        extra: Fields = {}
        if logs is not None:
            extra = {
                "log_addr": logs[0], "log_pitch_h": logs[1], "log_pitch_w": logs[1],
                "log_multiplier": log_multiplier, "log_shift": log_shift,
            }  # fmt: skip
        self.b.emit(
            Unit.VECTOR, Opcode.SOFTMAX_LOG if extra else Opcode.SOFTMAX,
            **self._row_view("in", logits.address, logits.pitch),
            **self._size(self.rows, 1, 0), in_type=_INT16, mode=int(SoftmaxMode.MASKED),
            table_addr=self.sections["global_exponential"], multiplier=multiplier, shift=shift, **extra,
            **self._range(self.rows, 1, logits.count), **self._row_view("out", target, logits.pitch), out_type=_INT16,
            out_zp=0, act_min=0, act_max=_LOGITS[1],
        )  # fmt: skip

    @staticmethod
    def _row_view(prefix: str, address: Value, pitch: int) -> Fields:
        return {
            f"{prefix}_addr": address, f"{prefix}_pitch_h": pitch, f"{prefix}_pitch_w": pitch,
            f"{prefix}_row0": 0, f"{prefix}_wrap": 0, f"{prefix}_chan0": 0,
        }  # fmt: skip
