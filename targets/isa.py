"""The instruction set, version 2: what the four decoupled units of the engine execute.

A program has one in-order queue per unit. Units meet only at counting semaphores. Every operand
is a signed 32-bit *field*; fields may depend on the hardware loop counters of their own queue by
*steps*, so that code grows with the number of layers and not of tiles.

Value of field f inside loops with counters L0 (outermost) .. L3:

    f + Σ over its steps of  increment × g,    g = Σ_k coefficient_k × L_k,   g mod `modulo` when modulo > 0

`modulo` expresses ring buffers (double buffering): slot = linear iteration number mod depth.

**Tensors.** Activations lie in SRAM as [row][column][channel] elements of `*_type` (`DType`), little endian.
A *view* (fields `*_addr`, `*_pitch_h`, `*_pitch_w`, `*_row0`, `*_wrap`, `*_chan0`, `*_type`; addresses and
pitches in bytes) places element (r, c, k) of a tensor at

    addr + ((r − row0) if wrap == 0 else r mod wrap) × pitch_h + c × pitch_w + (k − chan0) × element bytes

An input view also has `in_rows` × `in_cols`, the true size of the map: positions outside of it
read as the zero point (padding needs no bytes and no DMA).

**Clipping.** A compute instruction covers output rows [row_start, min(row_start + row_count,
row_limit)) and channels [chan_start, min(chan_start + chan_count, chan_limit)); an empty range is
a legal no-op. LOAD and STORE skip index i of dimension d < 3 unless 0 <= origin_d + i < limit_d.

**Integer semantics** are those of TOSA 1.0: int32 accumulation of (x − zero point) × w, RESCALE
with scale32 and single rounding: (v × multiplier + 2^(shift−1)) >> shift, 2 <= shift <= 62, then
+ output zero point, saturating clamp to [act_min, act_max] within the range of the output type.

**Element types.** The types of the operands choose the arithmetic (`ranges.TYPES` lists the combinations):

* INT8 activations: as above; outputs may also be INT16.
* INT16 activations × INT8 weights: zero points of INT16 are 0; accumulators of 48 bits; RESCALE with scale16, that is
  multipliers below 2^15. Outputs are INT16 or INT8.
* BF16: every operation in float32, rounded to nearest even, in the order in which the formulas below are written
  (first index slowest), starting at +0; results are rounded once more to BF16. act_min, act_max and `multiplier`
  hold the bits of a float32 (`elements.float_bits`); shifts are unused.

**Faults.** No meaning is given to, and emulation stops at: an access outside of SRAM or DRAM, a STORE to the
constants; a row before row0, a channel before chan0, more rows than `wrap`; two output elements in
one byte; an output that overlaps its input, save for ADD, REQUANTISE, TABLE and MUL with elements of one size;
statistics or shares over more than 2^16 elements; a maximum over padding alone; an accumulator beyond int32 (48 bits
for INT16), a RESCALE result beyond int32, a multiplier below 1; a semaphore above 2^16;
units that all wait. LOOP has no steps, an element type neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

ISA_VERSION = 2
MAX_LOOPS = 4
RECORD_HEADER_BYTES = 12  # before the weights of one output channel; see CONV
NO_LIMIT = 2**31 - 1


class DType(IntEnum):
    """Type of the elements of a tensor, as the fields `*_type` hold it."""

    INT8 = 0
    INT16 = 1
    INT32 = 2
    BF16 = 3
    FP32 = 4

    @property
    def bytes(self) -> int:
        return _ELEMENT_BYTES[self]


_ELEMENT_BYTES = (1, 2, 4, 2, 4)


class Unit(IntEnum):
    """The queues. DMA_IN moves DRAM → SRAM, DMA_OUT SRAM → DRAM."""

    DMA_IN = 0
    ARRAY = 1
    VECTOR = 2
    DMA_OUT = 3


class Opcode(IntEnum):
    LOOP = 1  # repeat up to the matching END `count` times (count >= 1)
    END = 2
    WAIT = 3  # block until semaphore >= count, then subtract count
    SIGNAL = 4  # add count to semaphore once every earlier instruction of this queue has completed
    LOAD = 16
    STORE = 17
    LOAD_SPARSE = 18  # engines with a weight decoder
    CONV = 32  # dense or depthwise convolution + output stage
    CONV_ADD = 33  # the same, then a residual operand is added in the output stage
    MATMUL = 34  # product of two activations + output stage
    POOL = 48
    ADD = 49
    REQUANTISE = 50
    TABLE = 51  # any function of one element
    MUL = 52
    SOFTMAX = 53
    NORM = 54  # layer and group normalisation
    REDUCE = 55  # sum or maximum over channels
    RESIZE = 56
    SOFTMAX_LOG = 58  # the same, and the logarithm of the sum of exponentials of each row


class ConvMode(IntEnum):
    DENSE = 0
    DEPTHWISE = 1


class PoolMode(IntEnum):
    """MAX ignores padding; SUM adds (x − zero point), padding adds nothing; RESCALE divides."""

    MAX = 0
    SUM = 1


class SoftmaxMode(IntEnum):
    """MASKED takes no part of a sum and gives 0 where a logit is the least value of its type."""

    PLAIN = 0
    MASKED = 1


class NormMode(IntEnum):
    """Over what the statistics of a group of channels go: each position alone, or all covered positions."""

    POSITION = 0
    MAP = 1


class ResizeMode(IntEnum):
    NEAREST = 0
    BILINEAR = 1


_DMA = (
    "dram_addr", "sram_addr",
    "count0", "count1", "count2", "count3",
    "dram_stride0", "dram_stride1", "dram_stride2", "dram_stride3",
    "sram_stride0", "sram_stride1", "sram_stride2", "sram_stride3",
    "origin0", "origin1", "origin2", "limit0", "limit1", "limit2",
)  # fmt: skip
_IN = (
    "in_addr", "in_pitch_h", "in_pitch_w", "in_row0", "in_wrap", "in_chan0", "in_rows", "in_cols", "in_zp", "in_type",
)  # fmt: skip
_STAGE = ("out_zp", "out_type", "act_min", "act_max")
_OUT = ("out_addr", "out_pitch_h", "out_pitch_w", "out_row0", "out_wrap", "out_chan0", *_STAGE)
_RANGE = ("row_start", "row_count", "row_limit", "col_count", "chan_start", "chan_count", "chan_limit")
_WINDOW = ("kernel_h", "kernel_w", "stride_h", "stride_w", "pad_h", "pad_w")
_SECOND = ("b_addr", "b_pitch_h", "b_pitch_w", "b_row0", "b_wrap", "b_chan0", "b_zp", "b_type")
_ADD = ("a_multiplier", "a_shift", "b_multiplier", "b_shift", "sum_multiplier", "sum_shift")
_SCALES = ("scale_h_n", "scale_h_d", "offset_h", "scale_w_n", "scale_w_d", "offset_w")
_LOG = ("log_addr", "log_pitch_h", "log_pitch_w", "log_multiplier", "log_shift")
_MATMUL = (
    "in_addr", "in_pitch_g0", "in_pitch_g1", "in_pitch_m", "in_zp", "in_type",
    "b_addr", "b_pitch_g0", "b_pitch_g1", "b_pitch_n", "b_pitch_k", "b_zp", "b_type",
    "bias_addr", "bias_pitch_g0", "bias_pitch_g1", "bias_pitch_m", "multiplier", "shift",
    "g0_start", "g0_count", "g0_limit", "g1_count", "m_count", "n_count", "k_count",
    "out_addr", "out_pitch_g0", "out_pitch_g1", "out_pitch_m",
)  # fmt: skip
_CONV = _IN + _WINDOW + ("mode", "channels_in", "weights_addr", "weights_chan0", "record_pitch") + _RANGE + _OUT

# LOAD/STORE  bytes at dram_addr + Σ (origin_d + i_d) × dram_stride_d (origin3 = 0) and
#             sram_addr + Σ i_d × sram_stride_d, for i_d < count_d and not clipped.
# LOAD_SPARSE `size` bytes at sram_addr: byte i is 0 where bit i (lowest first) of the mask, the ⌈size / 8⌉ bytes at
#             dram_addr, is 0, and otherwise the next of the bytes behind the mask. Both together take `packed` bytes.
# CONV        DENSE: out[r, c, k] = stage(bias_k + Σ (in[r·stride_h − pad_h + y, c·stride_w − pad_w + x, i] − in_zp)
#             × w_k[y, x, i]) over y < kernel_h, x < kernel_w, i < channels_in (in_chan0 = 0).
#             DEPTHWISE: only i = k, and w_k has [y, x].
#             The record of channel k lies at weights_addr + (k − weights_chan0) × record_pitch: 12 bytes, then the
#             weights in the order y, x, i. The 12 bytes by in_type: INT8 bias, multiplier, shift (int32 each);
#             INT16 bias (int64, within 48 bits), multiplier, shift (int16 each); BF16 bias (float32) and zeros.
#             Weights are INT8, or BF16 for BF16; bias_k is added to the finished sum.
# CONV_ADD    y = stage with conv_zp, conv_min, conv_max, of out_type; then as ADD with a = y (zero point conv_zp) and
#             b = second view.
# MATMUL      out[g, h, m, n] = stage(Σ_k (in[g, h, m, k] − in_zp) × (b[g, h, n, k] − b_zp) + bias[g, h, m, n])
#             for g0_start <= g < min(g0_start + g0_count, g0_limit), h < g1_count, m < m_count, n < n_count and
#             k < k_count. Element (g, h, m, k) of `in` lies at in_addr + (g − g0_start) × in_pitch_g0 +
#             h × in_pitch_g1 + m × in_pitch_m + k elements; `b` has pitches for n and k, `out` and bias hold n
#             contiguous. bias_addr −1: no bias; else int32 (float32 for BF16), and pitch 0 broadcasts.
#             INT32 outputs are the accumulators themselves: no RESCALE, zero point 0.
# ADD         out = clamp(RESCALE(RESCALE(a − in_zp) + RESCALE(b − b_zp)) + out_zp); b has the size of the output.
#             BF16: clamp(a + b).
# POOL        MAX: clamp(max(x)) and, when multiplier != 0, RESCALE(max − in_zp) + out_zp before the clamp.
#             SUM: clamp(RESCALE(Σ (x − in_zp)) + out_zp); BF16: clamp(Σ x × multiplier), each column of the
#             window summed from top to bottom, then these sums from left to right.
# REQUANTISE  out = clamp(RESCALE(x − in_zp) + out_zp). Integers to BF16: clamp((x − in_zp) × multiplier);
#             BF16 to integers: clamp(round to nearest even(x × multiplier) + out_zp), NaN as 0; BF16 to BF16: clamp(x).
# TABLE       out = clamp(table[x + 128]), 256 entries of the output's type at table_addr. INT16, as TOSA 1.0 TABLE and
#             a RESCALE by 2^-7: 513 int16, with i = (x + 2^15) >> 7 and f = x mod 128
#             out = clamp((table[i] × 128 + (table[i + 1] − table[i]) × f + 2^6) >> 7). BF16: see `table_float.py`.
# MUL         out = clamp(RESCALE((a − in_zp) × (b − b_zp)) + out_zp); pitches 0 of b broadcast it. BF16: clamp(a × b).
# SOFTMAX     over the covered channels of each row and column: d = max − x, and with two tables of 256 int16 at
#             table_addr (coarse, then fine) e = (coarse[d >> 8] × fine[d & 255] + 2^14) >> 15, s = Σ e,
#             p = (e × 2^15 + (s >> 1)) // s, out = clamp(RESCALE(p) + out_zp). MASKED: a logit that is the least
#             value of its type has e = 0; where s = 0, p = 0. BF16: e = exp(x − max), the exponential of float64
#             rounded to float32, s = Σ e in the order of the channels, out = clamp(e / s); the least value is −∞.
# NORM        over the n elements x of each group of `group` channels (and of all covered positions in MAP mode):
#             S = Σ x, D = n × Σ x² − S² + eps_high × 2^31 + eps_low, R = ⌊√⌊D × 4^t⌋⌋ with the one t for which
#             2^60 <= D × 4^t < 2^62, I = (2^61 + (R >> 1)) // R; y = ((n × x − S) × I + 2^(40 − t)) >> (41 − t), and
#             0 where D = 0: 20 fraction bits. Then with the record of channel k, three int32 (bias, multiplier of any
#             sign, shift) at params_addr + 12 × (k − params_chan0):
#             out = clamp(((RESCALE(y) + bias + 2^7) >> 8) + out_zp). BF16: d = x − Σ x / n, then
#             clamp(d / √(Σ d² / n + eps) × gamma + beta), sums over rows, columns and channels in this order; eps_low
#             and the first two words of a record (beta, gamma) hold float32.
# REDUCE      over in[r, c, k × channels_in + i], i < channels_in. MAX as POOL; SUM:
#             out = clamp(RESCALE(Σ (x − in_zp)) + out_zp); BF16: clamp(Σ x × multiplier), channels ascending.
# SOFTMAX_LOG as SOFTMAX, and for each row and column the logarithm of s, in units of the logits, as INT16 at log_addr +
#             (r − row_start) × log_pitch_h + c × log_pitch_w: max x + RESCALE(⌊2^15 × log2 s⌋ − 15 × 2^15) with
#             log_multiplier and log_shift, clamped to what is above the least value; that value where all are masked.
#             log2 has its integer bits from the highest bit of s and 15 fraction bits by repeated squaring of 31-bit
#             mantissas, each square cut to 30 fraction bits.
# RESIZE      as TOSA 1.0 RESIZE: y = r × scale_h_d + offset_h, row y // scale_h_n, fraction y mod scale_h_n of
#             scale_h_n, columns alike, rows and columns clamped to the map. NEAREST: the element (fraction × 2 >=
#             scale_n takes the next one), clamped, and rescaled as by POOL when multiplier != 0. BILINEAR:
#             clamp(RESCALE(Σ over the four neighbours of (x − in_zp) × weights) + out_zp), weights summing to
#             scale_h_n × scale_w_n. INT16: sums of 48 bits, scale16. BF16: clamp(y × multiplier), where y takes in
#             float32 low × (whole − fraction) + high × fraction along the rows, then along the columns.
FIELDS: dict[Opcode, tuple[str, ...]] = {
    Opcode.LOOP: ("count",),
    Opcode.END: (),
    Opcode.WAIT: ("semaphore", "count"),
    Opcode.SIGNAL: ("semaphore", "count"),
    Opcode.LOAD: _DMA,
    Opcode.LOAD_SPARSE: ("dram_addr", "sram_addr", "size", "packed"),
    Opcode.STORE: _DMA,
    Opcode.CONV: _CONV,
    Opcode.CONV_ADD: (*_CONV, "conv_zp", "conv_min", "conv_max", *_SECOND, *_ADD),
    Opcode.MATMUL: (*_MATMUL, *_STAGE),
    Opcode.POOL: _IN + _WINDOW + ("mode", "multiplier", "shift") + _RANGE + _OUT,
    Opcode.ADD: _IN + _SECOND + _ADD + _RANGE + _OUT,
    Opcode.REQUANTISE: (*_IN, "multiplier", "shift", *_RANGE, *_OUT),
    Opcode.TABLE: (*_IN, "table_addr", *_RANGE, *_OUT),
    Opcode.MUL: (*_IN, *_SECOND, "multiplier", "shift", *_RANGE, *_OUT),
    Opcode.SOFTMAX: (*_IN, "mode", "table_addr", "multiplier", "shift", *_RANGE, *_OUT),
    Opcode.NORM: (*_IN, "mode", "group", "params_addr", "params_chan0", "eps_high", "eps_low", *_RANGE, *_OUT),
    Opcode.REDUCE: (*_IN, "mode", "channels_in", "multiplier", "shift", *_RANGE, *_OUT),
    Opcode.SOFTMAX_LOG: (*_IN, "mode", "table_addr", "multiplier", "shift", *_LOG, *_RANGE, *_OUT),
    Opcode.RESIZE: (*_IN, "mode", *_SCALES, "multiplier", "shift", *_RANGE, *_OUT),
}
_VECTOR = frozenset(
    {
        Opcode.POOL, Opcode.ADD, Opcode.REQUANTISE, Opcode.TABLE, Opcode.MUL, Opcode.SOFTMAX, Opcode.NORM,
        Opcode.REDUCE, Opcode.RESIZE, Opcode.SOFTMAX_LOG,
    }
)  # fmt: skip
CONTROL = frozenset({Opcode.LOOP, Opcode.END, Opcode.WAIT, Opcode.SIGNAL})
UNIT_OPCODES: dict[Unit, frozenset[Opcode]] = {
    Unit.DMA_IN: CONTROL | {Opcode.LOAD, Opcode.LOAD_SPARSE},
    Unit.ARRAY: CONTROL | {Opcode.CONV, Opcode.CONV_ADD, Opcode.MATMUL},
    Unit.VECTOR: CONTROL | _VECTOR,
    Unit.DMA_OUT: CONTROL | {Opcode.STORE},
}


TYPE_FIELDS: dict[Opcode, tuple[int, ...]] = {
    opcode: tuple(number for number, name in enumerate(names) if name.endswith("_type"))
    for opcode, names in FIELDS.items()
}


@dataclass(frozen=True, slots=True)
class Step:
    """Makes field number `field` depend on the loop counters; see the module docstring."""

    field: int
    coefficients: tuple[int, int, int, int]
    increment: int
    modulo: int = 0


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; `fields` follow the order of `FIELDS[opcode]`."""

    opcode: Opcode
    fields: tuple[int, ...] = ()
    steps: tuple[Step, ...] = ()

    def named(self) -> dict[str, int]:
        """Fields by name, without their steps."""
        return dict(zip(FIELDS[self.opcode], self.fields, strict=True))
