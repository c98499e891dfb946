"""What activities may raise and return, by name: a module as users write them, nasty on purpose."""

MODULE = """
import asyncio, collections, dataclasses, datetime, decimal, enum, itertools, math, pathlib, uuid
from typing import Any
from pydantic import BaseModel, field_serializer
from wf import ActivityError, Context, NonRetryable, activity

HALF = chr(0xD83D)

class Mute(Exception):
    def __str__(self): raise RuntimeError("no text")
    def __repr__(self): raise RuntimeError("no text")

class Numb(Exception):
    def __str__(self): return 7

class Exits(Exception):
    def __str__(self): raise SystemExit(4)

class Bare(ActivityError):
    def __init__(self): pass

class Trap(ActivityError):
    def __init__(self): pass
    @property
    def detail(self): raise RuntimeError("trap")
    @property
    def status(self): raise RuntimeError("trap")

class Unpicklable(Exception):
    def __init__(self, *, code): self.code = code; self.lock = asyncio.Lock()

def deep(n=5000):
    return deep(n)

def nested(levels):
    group = ExceptionGroup("g", [ValueError(HALF)])
    for _ in range(levels):
        group = ExceptionGroup("g", [group])
    return group

def chain(length):
    error = None
    for n in range(length):
        error, before = ValueError(f"{n}{HALF}"), error
        error.__cause__ = before
    return error

def noted():
    error = ValueError("x")
    error.add_note(HALF)
    return error

RAISES = {
    "surrogate": lambda: ValueError("bad " + HALF),
    "surrogate args": lambda: KeyError(HALF, b"x"),
    "all of it": lambda: ActivityError(HALF, type=HALF, title=HALF, status=418),
    "not retried": lambda: NonRetryable("bad " + HALF),
    "mute": Mute, "numb": Numb, "exits": Exits, "bare": Bare, "trap": Trap,
    "strange fields": lambda: ActivityError(7, type=3.5, title={1}, status="many"),
    "strange status": lambda: ActivityError("x", status=2**80),
    "status nan": lambda: ActivityError("x", status=math.nan),
    "huge": lambda: ValueError("x" * 5_000_000),
    "huge title": lambda: ActivityError("x", title="t" * 5_000_000),
    "group": lambda: ExceptionGroup(HALF, [ValueError(1), TypeError(2)]),
    "nested group": lambda: nested(500),
    "base group": lambda: BaseExceptionGroup("g", [KeyboardInterrupt(), SystemExit(3)]),
    "exit": lambda: SystemExit(3), "interrupt": KeyboardInterrupt,
    "generator exit": GeneratorExit, "cancelled": asyncio.CancelledError,
    "timeout": TimeoutError, "memory": MemoryError, "stop": lambda: StopIteration(1),
    "stop async": StopAsyncIteration, "unpicklable": lambda: Unpicklable(code=1),
    "chain": lambda: chain(300), "note": noted, "syntax": lambda: SyntaxError(HALF, ("f", 1, 2, HALF)),
    "unicode": lambda: UnicodeEncodeError("ascii", HALF, 0, 1, HALF),
    "empty": ValueError,
}

class Color(enum.Enum):
    RED = "red"
    NAN = math.nan

@dataclasses.dataclass
class Box:
    inside: Any

class Model(BaseModel):
    inside: Any = None

class Cross(BaseModel):
    x: int = 1
    @field_serializer("x")
    def say(self, x): raise RuntimeError("cross " + HALF)

class Rude:
    def __iter__(self): raise RuntimeError("rude")

class RudeList(list):
    def __iter__(self): raise RuntimeError("rude")

class RudeDict(collections.OrderedDict):
    def items(self): raise RuntimeError("rude")

class Text(str): pass
class Number(int): pass
class Float(float): pass
Pair = collections.namedtuple("Pair", "a b")

def knot():
    found = []
    found.append({"again": found})
    return found

def levels(n):
    value = 1
    for _ in range(n):
        value = [value]
    return value

def fails_later():
    yield 1
    raise ValueError("later " + HALF)

async def forgotten():
    return 1

RETURNS = {
    "nan": lambda: math.nan, "inf": lambda: {"a": [1, math.inf]}, "minus inf": lambda: -math.inf,
    "nan in a box": lambda: {"b": Box(math.nan)}, "nan in a model": lambda: [Model(inside=math.nan)],
    "nan of a kind": lambda: Color.NAN, "nan subclass": lambda: [Float("nan")],
    "mixed keys": lambda: {"a": {1: "a", "1": "b"}}, "mixed in a model": lambda: Model(inside={1: 1, "1": 2}),
    "mixed enum": lambda: {Color.RED: 1, "red": 2}, "none key": lambda: [{None: 1}], "true key": lambda: {True: 1},
    "float key": lambda: {1.5: 1}, "tuple key": lambda: {(1, 2): 1}, "bytes key": lambda: {b"a": 1},
    "surrogate key": lambda: {"a" + HALF: 1}, "surrogate": lambda: {"a/b": ["x" + HALF]},
    "surrogate in a box": lambda: Box(HALF), "big": lambda: [2**64], "small": lambda: -(2**63) - 1,
    "huge int": lambda: 10**400, "big in a model": lambda: Model(inside=2**70),
    "bytes": lambda: {"b": bytes([0, 255])}, "object": lambda: {"a": object()}, "class": lambda: Color,
    "function": lambda: knot, "error": lambda: ValueError("x"), "coroutine": forgotten, "knot": knot,
    "deep": lambda: levels(201), "deeper": lambda: levels(5000), "endless": lambda: itertools.count(),
    "cross": lambda: Cross(), "range": lambda: range(3),
}

RUDE = {"rude list": lambda: Box([{1}, RudeList([1])]), "rude dict": lambda: RudeDict({1: 1}), "later": fails_later}

FINE = {
    "none": lambda: None, "zero": lambda: -0.0, "largest": lambda: [2**64 - 1, -(2**63)],
    "nul": lambda: "a" + chr(0) + "b", "levels": lambda: levels(200), "int keys": lambda: {1: "a", 2: "b"},
    "enum": lambda: {Color.RED: Color.RED}, "box": lambda: [Box({"a": (1, {2})})],
    "model": lambda: Model(inside={3: decimal.Decimal("1.10")}), "pair": lambda: Pair(1, "b"),
    "date": lambda: datetime.date(2026, 1, 2), "uuid": lambda: {uuid.UUID(int=5): uuid.UUID(int=5)},
    "subclasses": lambda: {Text("k"): [Text("x"), Number(7), Float(1.5)]},
    "deque": lambda: collections.deque([1]), "generator": lambda: (n for n in (1, 2)),
    "path": lambda: pathlib.PurePosixPath("/x"), "utf8": lambda: b"abc", "empty key": lambda: {"": 1},
}

CASES = {**RETURNS, **RUDE, **FINE}

@activity
def raises(kind: str):
    raise RAISES[kind]()

@activity
async def raises_async(kind: str):
    raise RAISES[kind]()

@activity
def returns(kind: str):
    return CASES[kind]()

@activity
async def returns_async(kind: str):
    return CASES[kind]()

@activity
def recursion(kind: str):
    return deep()

@activity
async def recursion_async(kind: str):
    return deep()

@activity
def declared(kind: str) -> dict[int | str | None, float]:
    return {"mixed": {1: 1.0, "1": 2.0}, "none": {None: 1.0}, "nan": {"a": math.nan}, "fine": {1: 2.0}}[kind]

@activity
async def beats(kind: str, context: Context) -> str:
    context.heartbeat({"half": HALF, "nan": math.nan, "mute": Mute, "mine": [object()]}[kind])
    raise ValueError("after")
"""  # noqa: E501
