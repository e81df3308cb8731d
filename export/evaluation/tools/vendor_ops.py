"""Published operator lists of accelerators, for want of their compilers.

Only Qualcomm's compiler is public (`qualcomm.py`). Each list is as its source had it. A
list proves nothing: it has no shapes, ranks or versions of operators, the vendor's
compiler may refuse listed operators, and a newer compiler may support more.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class OpList:
    """A published list.

    Arguments:
        source: URL of the list.
        date: of the list, as far as known.
        operators: supported names of TFLite's BuiltinOperator.
        dtypes: names of TFLite's TensorType for activations.
        notes: conditions and uncertainties.
        refuted: {(operator, type of its first input): what the maker's compiler says},
            of those listed.
    """

    source: str
    date: str
    operators: tuple[str, ...]
    dtypes: tuple[str, ...]
    notes: tuple[str, ...]
    refuted: dict[tuple[str, str], str] = dataclasses.field(default_factory=dict)


LITERT = "https://github.com/google-ai-edge/LiteRT/blob"
UNDATED = "unknown date, read 2026-11-24"


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


OP_LISTS: dict[str, OpList] = {
    "qualcomm": OpList(
        source=(
            f"{LITERT}/a0fcf4f4a07250c025535d77e7b234f640325bac/litert/vendors/"
            "qualcomm/compiler/Qualcomm_QNN_Compiler.md"
        ),
        date=UNDATED,
        operators=_names("""
            ABS ADD ARG_MAX ARG_MIN AVERAGE_POOL_2D BATCH_MATMUL BROADCAST_TO CAST
            CEIL CONCATENATION CONV_2D CONV_3D COS CUMSUM DEPTHWISE_CONV_2D
            DEPTH_TO_SPACE DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP
            EQUAL EXP FLOOR FLOOR_DIV FULLY_CONNECTED GATHER GATHER_ND GELU GREATER
            GREATER_EQUAL HARD_SWISH L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS
            LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC MAXIMUM
            MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 POW
            PRELU QUANTIZE REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN RELU RELU6
            RELU_0_TO_1 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
            REVERSE_V2 ROUND RSQRT SELECT SELECT_V2 SIGN SIN SLICE SOFTMAX
            SPACE_TO_DEPTH SPLIT SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB
            SUM TANH TILE TOPK_V2 TRANSPOSE TRANSPOSE_CONV UNPACK
        """),
        dtypes=_names("""
            BOOL FLOAT16 FLOAT32 FLOAT64 INT4 INT8 INT16 INT32 INT64
            UINT8 UINT16 UINT32 UINT64
        """),
        notes=(
            "Types are those that have a QNN type; which of them an operator supports "
            "depends on the chip and its QNN library.",
            "INT4 only where quantised; blockwise quantisation is refused.",
            "Composites of RMS norm, group norm and L2 norm are supported too.",
            "Later source also has LOG_SOFTMAX and SCATTER_ND.",
            "Its compiler, QAIRT 2.51, takes products of two INT16 from Hexagon v73 "
            "on, floats on some SoCs only, and no DEQUANTIZE of weights by channel.",
        ),
        refuted={("EXP", "INT8"): "QAIRT 2.51 has no EXP in INT8 on any SoC"},
    ),
    "mediatek": OpList(
        source=(
            f"{LITERT}/07d751eb0ab1d165ee0838d613d2f66d80c0b7ad/litert/vendors/"
            "mediatek/compiler/compiler_plugin.cc"
        ),
        date=UNDATED,
        operators=_names("""
            ABS ADD AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D
            DEPTHWISE_CONV_2D DEQUANTIZE DIV FULLY_CONNECTED GELU GREATER HARD_SWISH
            L2_NORMALIZATION LEAKY_RELU LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM
            MUL PAD PADV2 PRELU QUANTIZE REDUCE_MAX RELU RESHAPE RESIZE_BILINEAR
            RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPLIT SQRT
            SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TILE TRANSPOSE
            TRANSPOSE_CONV UNPACK
        """),
        # From MediaTek_Neuro_Compiler.md beside it, commit eee2d388be4f.
        dtypes=_names("BOOL FLOAT16 FLOAT32 INT8 INT16 INT32 UINT8"),
        notes=(
            "MediaTek's own compiler runs after this list and may refuse more.",
            "GELU is computed by its tanh approximation, whatever the file says.",
            "INT8 must be quantised; INT16 must be quantised per tensor.",
            "INT4 is listed for weights only, INT64 for constants only.",
            "STRIDED_SLICE: begin, end and shrink masks.",
            "Composites of RMS norm and L2 norm are supported too.",
        ),
    ),
    "google_tensor": OpList(
        source=(
            f"{LITERT}/91f2115004959547b2e4d1103982ca5fc6a97a5e/litert/vendors/"
            "google_tensor/compiler/compiler_plugin.cc"
        ),
        date=UNDATED,
        # The source lists refused operators; these are TFLite's others, without
        # STABLEHLO_*, DELEGATE and the placeholder.
        operators=_names("""
            ABS ADD ADD_N ARG_MAX ARG_MIN ATAN2 AVERAGE_POOL_2D BATCH_MATMUL
            BATCH_TO_SPACE_ND BIDIRECTIONAL_SEQUENCE_RNN BITCAST BITWISE_XOR
            BROADCAST_TO CALL CAST CEIL CONCATENATION CONCAT_EMBEDDINGS CONV_2D COS
            CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DILATE DIV
            DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EMBEDDING_LOOKUP_SPARSE EQUAL
            EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER
            GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH HASHTABLE_LOOKUP IF
            L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND
            LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX LSH_PROJECTION LSTM MAXIMUM
            MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT PACK PAD
            PADV2 POW PRELU QUANTIZE RANGE REDUCE_ALL REDUCE_ANY REDUCE_MAX
            REDUCE_MIN REDUCE_WINDOW RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE
            RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 RIGHT_SHIFT RNN ROUND
            RSQRT SCATTER_ND SELECT SELECT_V2 SIGN SIN SKIP_GRAM SLICE SOFTMAX
            SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE
            SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH TILE TOPK_V2
            TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK WHILE
            ZEROS_LIKE
        """),
        dtypes=_names("BOOL FLOAT16 FLOAT32 INT4 INT8 INT16 INT32 INT64 UINT8"),
        notes=(
            "The weakest list: the source names only 45 refused operators, and passes "
            "every other one to a compiler that may refuse it.",
            "The source checks no types; these are the usual ones, not its own list.",
            "Options of the source allow floats as half or bfloat16, and INT64 as "
            "INT32.",
        ),
    ),
    "edge_tpu": OpList(
        source="https://coral.ai/docs/edgetpu/models-intro/#supported-operations",
        date=UNDATED,
        operators=_names("""
            ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS
            FULLY_CONNECTED L2_NORMALIZATION LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN
            MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6
            RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SLICE
            SOFTMAX SPACE_TO_DEPTH SPLIT SQUEEZE STRIDED_SLICE SUB TANH TRANSPOSE
            TRANSPOSE_CONV
        """),
        dtypes=_names("INT8 UINT8"),
        notes=(
            "Read in copies of the table: ADD to RESIZE_BILINEAR at "
            "developer.axis.com (ARTPEC-7), RESIZE_NEAREST_NEIGHBOR to TANH in one of "
            "its first years; TRANSPOSE and TRANSPOSE_CONV from issues 433 and 684 of "
            "google-coral/edgetpu.",
            "Unsure: RSQRT, SUM and SQUARED_DIFFERENCE may be in the newest table; no "
            "copy with them was found, so they are left out.",
            "Sizes are fixed and parameters constant; of more than 3 dimensions only "
            "the innermost 3 may exceed 1.",
            "After the first unsupported operator, all others run on the CPU.",
            "The compiler, 16.0, stops at an operator newer than itself, such as GELU "
            "(issue 818), and at newer versions of others.",
            "FULLY_CONNECTED: the output has one dimension.",
            "SOFTMAX: one dimension, at most 16,000 elements.",
            "CONCATENATION, AVERAGE_POOL_2D, MAX_POOL_2D: no fused activation. A "
            "constant joined by CONCATENATION must be zero, with one other input.",
            "MEAN, REDUCE_MAX, REDUCE_MIN, PACK, PAD: not along the batch; MEAN along "
            "channels only where they are a multiple of 4.",
            "STRIDED_SLICE: strides of 1, no ellipsis or new-axis mask.",
            "SQUEEZE: leading dimensions only. RESHAPE: not where tensors are large. "
            "LSTM: one direction.",
            "CONV_2D, DEPTHWISE_CONV_2D: the same dilation along x and y.",
        ),
    ),
}
