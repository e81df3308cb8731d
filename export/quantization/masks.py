"""Ranges of masked attention scores.

A mask adds -1e9, the least float, or -infinity to the scores that a softmax must not
see, or puts it in their place. With that in its range a tensor would have one integer
for all others. But `NOTHING` below the largest score of its row, one score is as good
as another: the softmax gives zero. So the range ends there, and clips what lies below.
"""

import math

import numpy as np

from ..evaluation.interpreter import operators_of
from ..flatbuffer.float_fixes import SCORES

NOTHING = 12.0  # exp(-12) rounds to zero even in int16, whose steps are 2 ** -15
MASKED = -1e3  # no score of a query and a key that it may see is as low


class Masks:
    """The masks of a float file, found by the values in front of a softmax.

    Arguments:
        interpreter: of the file.
    """

    def __init__(self, interpreter):
        self._makers, self._readers = {}, {}
        for op in operators_of(interpreter):
            self._makers |= dict.fromkeys(op["outputs"], op)
            for index in op["inputs"]:
                self._readers.setdefault(index, []).append(op)
        # Of the rows' largest scores, the least.
        self._peaks = {
            op["inputs"][0]: math.inf
            for op in self._makers.values()
            if op["op_name"] == "SOFTMAX"
        }
        self._lowest: dict[int, float] = {}
        for index in self._peaks:
            self._follow(index)

    def _follow(self, index):
        """Note a tensor in front of a softmax, and those that it is made of."""
        self._lowest[index] = math.inf
        for operand in self._operands(index):
            self._follow(operand)

    def _operands(self, index):
        op = self._makers.get(index)
        if op is None or op["op_name"] not in SCORES:
            return []
        return op["inputs"][SCORES[op["op_name"]]]

    def visible(self, index, values) -> np.ndarray:
        """The values of a tensor without those of masked scores."""
        if index not in self._lowest:
            return values
        self._lowest[index] = min(self._lowest[index], float(values.min()))
        if index in self._peaks:
            rows = values.max(-1)
            rows = rows[rows > MASKED]  # of the others all is masked: whatever
            peaks = (self._peaks[index], *rows.ravel())
            self._peaks[index] = float(min(peaks))
        return values[~(values <= MASKED)]  # with NaN, which is to be found

    def limit(self, ranges) -> dict[int, tuple[float, float]]:
        """Ranges that end where masks begin.

        Only where masked scores would take more than half of the range, so that a
        tensor without a mask keeps its own.

        Arguments:
            ranges: {index of a tensor: (min, max)} of the visible values.
        """
        floors: dict[int, float] = {}
        for index, peak in self._peaks.items():
            floor, high = peak - NOTHING, _high(ranges, index)
            masked = high - self._lowest[index] > 2 * (high - floor)
            if masked and math.isfinite(floor):
                self._descend(index, floor, ranges, floors)
        least, limited = float(np.finfo("float32").min), {}
        for index, lowest in self._lowest.items():
            low, high = max(lowest, least), _high(ranges, index)
            if lowest < floors.get(index, lowest):
                limited[index] = floors[index], high
            elif lowest <= MASKED:  # not a mask, as it turned out
                limited[index] = low, high
        return ranges | limited

    def _descend(self, index, floor, ranges, floors):
        """Note that values of a tensor at or below `floor` are as one, and what follows
        for the tensors that it is made of."""
        floors[index] = min(floor, floors.get(index, floor))
        operands = self._operands(index)
        for operand, other in zip(operands, reversed(operands), strict=True):
            added = self._makers[index]["op_name"] == "ADD"
            inside = [op["outputs"][0] in self._lowest for op in self._readers[operand]]
            if all(inside):  # whoever else reads it may see the difference
                shift = _high(ranges, other) if added else 0.0
                self._descend(operand, floor - shift, ranges, floors)


def _high(ranges, index):
    return ranges.get(index, (0.0, 0.0))[1]
