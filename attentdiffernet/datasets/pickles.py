"""A table out of a pickle file without unpickling it.

A pickle is a program for a small stack machine, and it can name any function to be called: opening an untrusted pickle
runs whatever its author put into it. WM-811K is published as one (a pandas table, written by Python 2). This reader
interprets the program and *calls nothing*: a name becomes a `Name`, a call becomes a `Call` that records its function
and arguments, and names that a pandas table does not need are rejected. Arrays are rebuilt from their bytes, which stay
in the file until they are needed. No code of pandas or pickle runs.

Read so far: tables of pandas 0.x (Python 2), 1.x, 2.x and 3.x whose columns wanted here hold Python objects or texts,
in whatever of its ways pandas keeps them: as objects, in NumPy (`StringArray`) or in Arrow (`ArrowStringArray`).
"""

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import mmap
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError

Buffer = bytes | mmap

SHORT = 64  # bytes: longer texts stay in the file
MAX_ITEMS = 5_000_000  # rows of a table
MAX_INTEGER_BYTES = 16
NEWEST_PROTOCOL = 5

# Names in tables of pandas and in arrays of NumPy, by their last module part and name; none of them is ever called.
_KNOWN = {
    "DataFrame",
    "BlockManager",
    "_unpickle_block",
    "new_block",
    "Index",
    "_new_Index",
    "RangeIndex",
    "Int64Index",
    "slice",
    "dtype",
    "ndarray",
    "_reconstruct",
    "_frombuffer",
    "scalar",
    "encode",
    "bytes",
    "StringDtype",
    "StringArray",
    "__pyx_unpickle_NDArrayBacked",
    "ArrowStringArray",
    "_restore_array",
    "type_for_alias",
    "py_buffer",
}
_KNOWN_MODULES = ("pandas", "numpy", "pyarrow", "builtins", "__builtin__", "_codecs")
_OFFSETS = {"string": "<i4", "large_string": "<i8"}  # of Arrow's texts


class Name(NamedTuple):
    module: str
    name: str


class Span(NamedTuple):
    """A long text or byte string, left where it is in the file."""

    start: int
    length: int


class Call:
    """A call that was not made: its function and arguments, and the state of the result."""

    __slots__ = ("arguments", "function", "state")

    def __init__(self, function: Name, arguments: tuple[Any, ...]) -> None:
        self.function, self.arguments = function, arguments
        self.state: Any = None


class Pairs(list[Any]):
    """A dict as alternating keys and values: nothing is hashed, so no hostile object can interfere."""

    def get(self, key: str) -> Any:
        return next((self[k + 1] for k in range(0, len(self) - 1, 2) if _plain(self[k]) == key), None)


def read_table(data: Buffer, columns: Sequence[str], progress: Callable[[int, int], object] | None = None) -> "Table":
    """The named columns of a pickled pandas table. progress: called with (bytes, bytes in all), twice through the file.

    Raises DatasetError for what is damaged, names anything but tables and arrays, or is no table with these columns.
    """
    with guarded():
        return _table(data, _run(data, progress), columns)


@contextmanager
def guarded() -> Iterator[None]:
    """Turns the errors that a damaged or hostile table causes into a DatasetError; also for users of `Table`."""
    try:
        yield
    except DatasetError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error) as error:
        raise DatasetError("The pickle file is damaged, or is not a pandas table that can be read") from error


# ---------------------------------------------------------------- the stack machine

_FIXED = {  # opcodes whose argument is a number: (struct format, bytes)
    b"K": ("<B", 1),
    b"M": ("<H", 2),
    b"J": ("<i", 4),
    b"G": (">d", 8),
    b"q": ("<B", 1),
    b"r": ("<I", 4),
    b"h": ("<B", 1),
    b"j": ("<I", 4),
    b"\x80": ("<B", 1),
    b"\x95": ("<Q", 8),
}
_COUNTED = {  # opcodes followed by a length and as many bytes
    b"U": ("<B", 1),
    b"T": ("<i", 4),
    b"X": ("<I", 4),
    b"\x8c": ("<B", 1),
    b"\x8d": ("<Q", 8),
    b"C": ("<B", 1),
    b"B": ("<I", 4),
    b"\x8e": ("<Q", 8),
    b"\x96": ("<Q", 8),
    b"\x8a": ("<B", 1),
    b"\x8b": ("<i", 4),
}
_BARE = b"(.012N\x88\x89]ael}dsu)t\x85\x86\x87\x94\x93R\x81b"
_ARGUMENT: list[tuple[int, Callable[..., Any], int] | None] = [None] * 256
for _kind, _table_of in ((1, _FIXED), (2, _COUNTED)):
    for _code, (_format, _size) in _table_of.items():
        _ARGUMENT[_code[0]] = _kind, struct.Struct(_format).unpack_from, _size
for _byte in _BARE:
    _ARGUMENT[_byte] = 0, struct.Struct("").unpack_from, 0
_ARGUMENT[ord("c")] = 3, struct.Struct("").unpack_from, 0
_GETS = {*b"hj"}  # BINGET, LONG_BINGET
_STOP = ord(".")


def _operations(data: Buffer, report: Callable[[int], object] | None) -> Iterator[tuple[int, Any]]:
    """(opcode, argument) one after the other; texts and bytes as Span. Raises DatasetError for any other opcode."""
    position, end, seen = 0, len(data), 0
    while position < end:
        code = data[position]
        position += 1
        what = _ARGUMENT[code]
        if what is None:
            raise DatasetError(
                f"The pickle file uses opcode {code:#04x}, which no table of wafer maps needs; nothing in it was run"
            )
        kind, unpack, size = what
        if kind == 0:
            yield code, None
            if code == _STOP:
                return
        elif kind == 1:
            (value,) = unpack(data, position)
            position += size
            yield code, value
        elif kind == 2:
            (length,) = unpack(data, position)
            position += size
            if length < 0 or position + length > end:
                raise DatasetError("The pickle file is incomplete or damaged: a text in it ends behind its end")
            yield code, Span(position, length)
            position += length
        else:  # GLOBAL: two lines
            middle = data.find(b"\n", position, position + 256)
            last = data.find(b"\n", middle + 1, middle + 256) if middle >= 0 else -1
            if last < 0:
                raise DatasetError("The pickle file is damaged: a name in it has no end")
            yield code, (data[position:middle].decode(), data[middle + 1 : last].decode())
            position = last + 1
        seen += 1
        if report is not None and not seen & 0xFFFFF:
            report(position)
    raise DatasetError("The pickle file is incomplete: it has no end")


class _Machine:
    """The stack machine, an action per opcode. used: the places in the memo that are read again."""

    def __init__(self, data: Buffer, used: set[int]) -> None:
        self.data, self.used = data, used
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.n_memoized = 0

    # -- stack and memo

    def cut(self) -> list[Any]:
        """Takes everything above the last mark from the stack."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def mark(self, _: None) -> None:
        self.marks.append(len(self.stack))

    def pop(self, _: None) -> None:
        self.stack.pop()

    def pop_mark(self, _: None) -> None:
        self.cut()

    def duplicate(self, _: None) -> None:
        self.stack.append(self.stack[-1])

    def put(self, place: int) -> None:
        if place in self.used:
            self.memo[place] = self.stack[-1]

    def memoize(self, _: None) -> None:
        self.put(self.n_memoized)
        self.n_memoized += 1

    def get(self, place: int) -> None:
        self.stack.append(self.memo[place])

    # -- values

    def number(self, value: float) -> None:
        self.stack.append(value)

    def long(self, span: Span) -> None:
        if span.length > MAX_INTEGER_BYTES:
            raise DatasetError(
                f"The pickle file holds a number of more than {MAX_INTEGER_BYTES} bytes; no table needs that"
            )
        self.stack.append(int.from_bytes(self._read(span), "little", signed=True))

    def content(self, span: Span) -> None:
        """Python 2's strings, and bytes: either may be text or data, so both are bytes here."""
        self.stack.append(self._read(span) if span.length <= SHORT else span)

    def text(self, span: Span) -> None:
        short = span.length <= SHORT
        self.stack.append(self._read(span).decode("utf-8", "surrogatepass") if short else span)

    def _read(self, span: Span) -> bytes:
        return self.data[span.start : span.start + span.length]

    def none(self, _: None) -> None:
        self.stack.append(None)

    def true(self, _: None) -> None:
        self.stack.append(True)

    def false(self, _: None) -> None:
        self.stack.append(False)

    # -- containers

    def empty_tuple(self, _: None) -> None:
        self.stack.append(())

    def tuple1(self, _: None) -> None:
        self.stack[-1] = (self.stack[-1],)

    def tuple2(self, _: None) -> None:
        stack = self.stack
        stack[-2:] = [(stack[-2], stack[-1])]

    def tuple3(self, _: None) -> None:
        stack = self.stack
        stack[-3:] = [(stack[-3], stack[-2], stack[-1])]

    def make_tuple(self, _: None) -> None:
        self.stack.append(tuple(self.cut()))

    def empty_list(self, _: None) -> None:
        self.stack.append([])

    def empty_dict(self, _: None) -> None:
        self.stack.append(Pairs())

    def make_list(self, _: None) -> None:
        self.stack.append(self.cut())

    def make_dict(self, _: None) -> None:
        self.stack.append(Pairs(self.cut()))

    def append(self, _: None) -> None:
        item = self.stack.pop()
        _container(self.stack[-1], list).append(item)

    def appends(self, _: None) -> None:
        items = self.cut()
        _container(self.stack[-1], list).extend(items)

    def set_item(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _container(self.stack[-1], Pairs).extend((key, value))

    def set_items(self, _: None) -> None:
        items = self.cut()
        _container(self.stack[-1], Pairs).extend(items)

    # -- names and calls, none of which is made

    def name(self, argument: tuple[str, str]) -> None:
        self.stack.append(_name(*argument))

    def name_on_stack(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(_name(module, name))

    def call(self, _: None) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not Name or type(arguments) is not tuple:
            raise DatasetError("The pickle file calls something that is not a function; nothing in it was run")
        self.stack.append(Call(function, arguments))

    def build(self, _: None) -> None:
        state = self.stack.pop()
        if type(self.stack[-1]) is not Call:
            raise DatasetError("The pickle file gives a state to something that cannot have one; nothing in it was run")
        self.stack[-1].state = state

    def protocol(self, number: int) -> None:
        if number > NEWEST_PROTOCOL:
            raise DatasetError(f"The pickle file has protocol {number}; protocols up to {NEWEST_PROTOCOL} can be read")


# By the names of pickle's own documentation (pickletools); FRAME and STOP need no action.
_ACTIONS: list[Callable[[_Machine, Any], None] | None] = [None] * 256
for _codes, _action in (
    (b"(", _Machine.mark),  # MARK
    (b"0", _Machine.pop),  # POP
    (b"1", _Machine.pop_mark),  # POP_MARK
    (b"2", _Machine.duplicate),  # DUP
    (b"qr", _Machine.put),  # BINPUT, LONG_BINPUT
    (b"\x94", _Machine.memoize),  # MEMOIZE
    (b"hj", _Machine.get),  # BINGET, LONG_BINGET
    (b"KMJG", _Machine.number),  # BININT1, BININT2, BININT, BINFLOAT
    (b"\x8a\x8b", _Machine.long),  # LONG1, LONG4
    (b"UTCB\x8e\x96", _Machine.content),  # SHORT_BINSTRING, BINSTRING, (SHORT_)BINBYTES, BINBYTES8, BYTEARRAY8
    (b"\x8cX\x8d", _Machine.text),  # SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
    (b"N", _Machine.none),  # NONE
    (b"\x88", _Machine.true),  # NEWTRUE
    (b"\x89", _Machine.false),  # NEWFALSE
    (b")", _Machine.empty_tuple),  # EMPTY_TUPLE
    (b"\x85", _Machine.tuple1),  # TUPLE1
    (b"\x86", _Machine.tuple2),  # TUPLE2
    (b"\x87", _Machine.tuple3),  # TUPLE3
    (b"t", _Machine.make_tuple),  # TUPLE
    (b"]", _Machine.empty_list),  # EMPTY_LIST
    (b"l", _Machine.make_list),  # LIST
    (b"a", _Machine.append),  # APPEND
    (b"e", _Machine.appends),  # APPENDS
    (b"}", _Machine.empty_dict),  # EMPTY_DICT
    (b"d", _Machine.make_dict),  # DICT
    (b"s", _Machine.set_item),  # SETITEM
    (b"u", _Machine.set_items),  # SETITEMS
    (b"c", _Machine.name),  # GLOBAL
    (b"\x93", _Machine.name_on_stack),  # STACK_GLOBAL
    (b"R\x81", _Machine.call),  # REDUCE, NEWOBJ
    (b"b", _Machine.build),  # BUILD
    (b"\x80", _Machine.protocol),  # PROTO
):
    for _opcode in _codes:
        _ACTIONS[_opcode] = _action


def _run(data: Buffer, progress: Callable[[int, int], object] | None) -> Any:
    """The object that the program leaves on the stack, as Calls. Twice through: first to see what is used again."""
    size = len(data)
    first = (lambda position: progress(position // 2, size)) if progress else None
    second = (lambda position: progress((size + position) // 2, size)) if progress else None
    # Python 2 stores every object in the memo, and uses few of them again; the rest need not be kept.
    used = {argument for code, argument in _operations(data, first) if code in _GETS}
    machine = _Machine(data, used)
    for code, argument in _operations(data, second):
        action = _ACTIONS[code]
        if action is not None:
            action(machine, argument)
    return machine.stack.pop()


def _container(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise DatasetError("The pickle file is damaged: it adds to something that is not a list or dict")
    return value


def _name(module: Any, name: Any) -> Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise DatasetError("The pickle file is damaged: a name in it is not text")
    if name not in _KNOWN or module.split(".")[0] not in _KNOWN_MODULES:
        raise DatasetError(
            f"The pickle file asks for {module[:60]}.{name[:60]}, which no table of wafer maps needs: "
            "the file is rejected, and nothing in it was run"
        )
    return Name(module, name)


# ---------------------------------------------------------------- tables and arrays


@dataclass(frozen=True)
class Table:
    """columns: name -> one object per row, as the machine left it; `array` and `text` convert them."""

    columns: dict[str, list[Any]]
    data: Buffer

    def array(self, value: Any) -> NDArray[Any]:
        """A NumPy array of numbers or texts."""
        if not isinstance(value, Call):
            raise DatasetError("The pickle file holds something else where an array was expected")
        dtype, shape, fortran, content = _parts(value)
        if dtype == "O":
            raise DatasetError("The pickle file holds an array of objects where one of numbers was expected")
        flat = np.frombuffer(self.raw(content), dtype)
        return flat.reshape(shape, order="F" if fortran else "C")

    def text(self, value: Any) -> str:
        """A label: a text, or an array that holds one; '' for an array that holds none."""
        for _ in range(4):  # an array of a list of a scalar of a text
            if isinstance(value, str):
                return value
            if isinstance(value, bytes | bytearray):
                return bytes(value).decode("latin-1")
            if isinstance(value, Call) and value.function.name == "scalar":
                kind = _dtype(value.arguments[0])
                flat = np.frombuffer(self.raw(value.arguments[1]), kind)
                return _as_text(flat[0]) if len(flat) else ""
            if not isinstance(value, Call):
                break
            dtype, shape, _, content = _parts(value)
            count = math.prod(shape)
            if count == 0:
                return ""
            if count > 1:
                break
            if dtype != "O":
                return _as_text(self.array(value).reshape(-1)[0])
            value = content[0]
        raise DatasetError("The pickle file holds a label that is not a single text")

    def raw(self, value: Any) -> bytes:
        """The bytes of an array, however they were written."""
        if isinstance(value, Span):
            return bytes(self.data[value.start : value.start + value.length])
        if isinstance(value, bytes | bytearray):
            return bytes(value)
        if isinstance(value, Call) and value.function.name == "bytes" and not value.arguments:
            return b""
        if isinstance(value, Call) and value.function.name == "encode" and value.arguments[1] in ("latin1", b"latin1"):
            text = value.arguments[0]  # Python 3 with protocol 2: bytes as text
            decoded = text if isinstance(text, str) else self.raw(text).decode("utf-8")
            return decoded.encode("latin-1")
        if isinstance(value, Call) and value.function.name == "py_buffer":
            return self.raw(value.arguments[0])
        raise DatasetError("The pickle file holds something else where the bytes of an array were expected")


def _as_text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    """Python 2's strings as text."""
    return value.decode("latin-1") if isinstance(value, bytes | bytearray) else value


def _dtype(value: Any) -> Any:
    """A NumPy type of numbers or texts, or 'O' for objects."""
    if not isinstance(value, Call) or value.function.name != "dtype":
        raise DatasetError("The pickle file holds an array without a type")
    code, order = _plain(value.arguments[0]), _plain(value.state[1]) if value.state else "|"
    if code in ("O8", "O4", "O"):
        return "O"
    if (
        not isinstance(code, str)
        or code[:1] not in "uifbSU"
        or not code[1:].isdigit()
        or order not in ("<", ">", "|", "=")
    ):
        raise DatasetError("The pickle file holds an array of a type that no table of wafer maps needs")
    return np.dtype(order + code)


def _parts(value: Call) -> tuple[Any, tuple[int, ...], bool, Any]:
    """dtype, shape, whether columns come first, content."""
    if value.function.name == "_reconstruct":
        _, shape, dtype, fortran, content = value.state
    elif value.function.name == "_frombuffer":
        content, dtype, shape, order = value.arguments
        fortran = _plain(order) == "F"
    else:
        raise DatasetError("The pickle file holds something else where an array was expected")
    if len(shape) > 3 or not all(isinstance(side, int) and 0 <= side <= MAX_ITEMS for side in shape):
        raise DatasetError("The pickle file holds an array of unreasonable shape")
    return _dtype(dtype), shape, bool(fortran), content


def _table(data: Buffer, root: Any, columns: Sequence[str]) -> Table:
    if not isinstance(root, Call) or root.function.name != "DataFrame" or not isinstance(root.state, Pairs):
        raise DatasetError("The pickle file holds no pandas table")
    manager = root.state.get("_mgr") or root.state.get("_data")
    table = Table({}, data)
    blocks: list[tuple[Any, Any]]
    if manager.arguments:  # pandas 1.1 and newer
        axis = manager.arguments[1][0]
        blocks = [(block.arguments[0], block.arguments[1]) for block in manager.arguments[0]]
    else:  # pandas 0.14 to 1.0
        newest = manager.state[3].get("0.14.1")
        axis = newest.get("axes")[0]
        blocks = [(block.get("values"), block.get("mgr_locs")) for block in newest.get("blocks")]
    names = _index(table, axis)
    for column in columns:
        if column not in names:
            raise DatasetError(f"The table has no column {column}; it has {', '.join(names)}")
    for values, where in blocks:
        for row, place in enumerate(_places(table, where)):
            if names[place] in columns:
                table.columns[names[place]] = _row(table, values, row)
    lengths = {len(column) for column in table.columns.values()}
    if len(table.columns) != len(columns) or len(lengths) != 1:
        raise DatasetError("The table is damaged: its columns are incomplete")
    return table


def _index(table: Table, axis: Any) -> list[str]:
    content = axis.arguments[1].get("data")
    if isinstance(content, Call) and (texts := _texts(table, content)) is not None:
        return texts
    dtype, _, _, names = _parts(content) if isinstance(content, Call) else ("", (), False, [])
    if dtype != "O" or type(names) is not list:
        raise DatasetError(
            "The table names its columns in a way that this reader does not know; take the file as published"
        )
    plain = [_plain(name) for name in names]
    if not all(isinstance(name, str) for name in plain):
        raise DatasetError("The table has columns whose names are no texts")
    return plain


def _places(table: Table, where: Any) -> list[int]:
    """The columns that a block holds: a slice, or an array of numbers."""
    if isinstance(where, Call) and where.function.name == "slice":
        start, stop, step = where.arguments
        return list(range(start or 0, stop, step or 1))[:1000]
    return [int(place) for place in table.array(where)]


def _texts(table: Table, values: Call) -> list[str] | None:
    """The texts of one of pandas' own arrays of texts, '' where one is missing; None for another kind of array."""
    if values.function.name == "__pyx_unpickle_NDArrayBacked":
        array = values.state[1]  # after its type
        dtype, shape, _, content = _parts(array)
        if dtype != "O" or len(shape) != 1 or len(content) != shape[0]:
            raise DatasetError("The table is damaged: it has an array of texts without texts")
        return [text if isinstance(text, str) else "" for text in content]
    if values.function.name == "ArrowStringArray":
        return _arrow_texts(table, values.state.get("_pa_array").arguments[0])
    return None


def _arrow_texts(table: Table, restored: Any) -> list[str]:
    """Of an array of Arrow: (type, length, missing, first, [which are there or None, offsets, characters], ...)."""
    (alias,) = restored[0].arguments
    length, _, first, buffers = restored[1:5]
    there, offsets, characters = (None if buffer is None else table.raw(buffer) for buffer in buffers)
    if alias not in _OFFSETS or not (0 <= length <= MAX_ITEMS and 0 <= first <= MAX_ITEMS):
        raise DatasetError("The table holds texts of a kind that no table of wafer maps needs")
    if not length:
        return []
    ends = np.frombuffer(offsets or b"", _OFFSETS[alias])[first : first + length + 1]
    content = characters or b""
    if len(ends) != length + 1 or ends[0] < 0 or ends[-1] > len(content) or (np.diff(ends) < 0).any():
        raise DatasetError("The table is damaged: its texts do not lie within their buffer")
    texts = [content[start:end].decode() for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
    if there is None:
        return texts
    known = np.unpackbits(np.frombuffer(there, np.uint8), bitorder="little")[first : first + length]
    return [text if one else "" for text, one in zip(texts, known.tolist(), strict=True)]


def _row(table: Table, values: Any, row: int) -> list[Any]:
    """One column out of a block, (columns, rows), of objects; or the one column of an array of texts."""
    if isinstance(values, Call) and (texts := _texts(table, values)) is not None:
        return list(texts)
    dtype, shape, fortran, content = _parts(values)
    if dtype != "O" or not isinstance(content, list) or len(content) != math.prod(shape) or len(shape) != 2:
        raise DatasetError("The table holds numbers or texts of its own kind where wafer maps or labels were expected")
    if fortran:
        return content[row :: shape[0]]
    return content[row * shape[1] : (row + 1) * shape[1]]
