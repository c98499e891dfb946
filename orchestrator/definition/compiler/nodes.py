"""The compiled definition: immutable nodes, each found by its JSON pointer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.expressions.jq import Expression
from orchestrator.expressions.json_schema import Schema
from wf.protocol.cron import Cron

Evaluate = Callable[[Expression], Any]


@dataclass(frozen=True, slots=True)
class Template:
    """A JSON value with expressions anywhere inside. Exactly one of the forms is set; with none
    it is the constant `value`, which is shared and never changed."""

    variables: frozenset[str]
    value: Any = None
    expression: Expression | None = None
    fields: tuple[tuple[str, Template], ...] | None = None
    items: tuple[Template, ...] | None = None

    def build(self, evaluate: Evaluate) -> Any:
        """The value, every expression in it replaced by its result. Recursion is bounded by the
        depth of the document."""
        if self.expression is not None:
            return evaluate(self.expression)
        if self.fields is not None:
            return {key: template.build(evaluate) for key, template in self.fields}
        if self.items is not None:
            return [template.build(evaluate) for template in self.items]
        return self.value

    @property
    def is_composed(self) -> bool:
        """True when it puts results inside of something, so that its depth is not theirs."""
        return self.fields is not None or self.items is not None


@dataclass(frozen=True, slots=True)
class Duration:
    """Fixed (`ms`), or an expression that gives an ISO 8601 text or the object form."""

    ms: int = 0
    template: Template | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """A list of tasks: the scope of `then`."""

    pointer: str
    tasks: tuple[Task, ...]
    positions: Mapping[str, int]
    kind: str = "block"


@dataclass(frozen=True, slots=True)
class Task:
    """What all tasks have in common; `body` is what is particular to its kind."""

    pointer: str
    name: str
    kind: str
    source: dict[str, Any]  # as written, for $task.definition
    condition: Expression | None
    input_schema: Schema | None
    input_from: Template | None
    output_as: Template | None
    output_schema: Schema | None
    export_as: Template | None
    export_schema: Schema | None
    timeout: Duration | None
    then: str
    governed: bool  # inside the `try` block of some task, so that its policy decides on retries
    keeps_input: bool  # what runs after entering needs the transformed input
    keeps_raw: bool  # … needs $task: the raw input and the start time
    body: Any
    compensate: Compensate | None = None

    @property
    def changes_output(self) -> bool:
        """True when something is to be done with what its kind gives."""
        return (
            self.output_as is not None
            or self.output_schema is not None
            or self.export_as is not None
            or self.export_schema is not None
        )


@dataclass(frozen=True, slots=True)
class Compensate:
    """`metadata.wf.compensate`: what undoes the task, once it is done."""

    block: Block
    variables: tuple[str, ...]  # of enclosing tasks, that the list refers to
    around: tuple[str, ...]  # and those that the task itself needs until it is done
    own: str | None  # the name of the variable that tells of the task, if the list refers to it


@dataclass(frozen=True, slots=True)
class Workflow:
    """The root."""

    input_schema: Schema | None
    input_from: Template | None
    output_as: Template | None
    output_schema: Schema | None
    timeout: Duration | None
    block: Block
    nodes: Mapping[str, Task | Block]
    schedule: Schedule | None = None
    trigger: Trigger | None = None
    concurrency: Concurrency | None = None


@dataclass(frozen=True, slots=True)
class Trigger:
    """`schedule.on`: the events that start an instance each time.

    `text` is canonical JSON of what the definition has there, to tell one trigger from another.
    """

    text: str
    strategy: Strategy
    read: str = "envelope"  # what of each event is in the input: data, envelope or raw


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How many instances may run at once; with a `key`, of those for which it gives the same."""

    limit: int
    key: Template | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """When the workflow starts by itself: exactly one of `every_ms`, `cron` and `after_ms` is set.

    `text` says the same, for people, and for telling one schedule from another.
    """

    text: str
    every_ms: int | None = None  # at the multiples of it since 1970
    cron: Cron | None = None
    zone: str = "UTC"  # of `cron`
    after_ms: int | None = None  # from the end of an instance to the start of the next


@dataclass(frozen=True, slots=True)
class Deferred:
    """Expressions over `$secrets` or `$authorization`: carried to the worker, evaluated there."""

    expressions: tuple[tuple[str, Expression], ...]  # pointer within the request → expression
    secrets: tuple[str, ...]  # the names that they need
    variables: frozenset[str]  # what they need besides
    uses_input: bool  # whether any reads `.`


@dataclass(frozen=True, slots=True)
class Call:
    activity: str
    arguments: Template | None
    inputs: tuple[
        Template, ...
    ] = ()  # of the functions on the way to the activity, outermost first
    deferred: Deferred | None = None
    liveness: Liveness | None = None


@dataclass(frozen=True, slots=True)
class Liveness:
    """`metadata.wf.scheduleToStart` and `heartbeat` of a call; one of them at least."""

    start_ms: int | None
    heartbeat_ms: int | None


@dataclass(frozen=True, slots=True)
class Do:
    block: Block


@dataclass(frozen=True, slots=True)
class Set:
    template: Template


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    when: Expression | None  # None: the default, which matches last
    then: str


@dataclass(frozen=True, slots=True)
class Switch:
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Raise:
    error: Template


@dataclass(frozen=True, slots=True)
class Wait:
    duration: Duration


@dataclass(frozen=True, slots=True)
class Fork:
    branches: tuple[Task, ...]
    compete: bool


@dataclass(frozen=True, slots=True)
class Emit:
    properties: tuple[tuple[str, Template], ...]  # CloudEvents attributes and `data`


@dataclass(frozen=True, slots=True)
class For:
    items: Template
    each: str  # the variables, without `$`
    at: str
    condition: Expression | None
    block: Block
    concurrency: int | None  # None: one after the other, each with the output of the one before


@dataclass(frozen=True, slots=True)
class Correlation:
    name: str
    source: Expression  # gives a value out of the whole event
    expect: Template | None  # None: what the first event gave


@dataclass(frozen=True, slots=True)
class Filter:
    type: str | None  # when it is a constant
    attributes: tuple[tuple[str, Template], ...]
    correlations: tuple[Correlation, ...]


@dataclass(frozen=True, slots=True)
class Strategy:
    kind: str  # one, any or all
    filters: tuple[Filter, ...]  # `any` without filters takes every event


@dataclass(frozen=True, slots=True)
class Iterator:
    """`foreach` of a listen."""

    item: str
    at: str
    block: Block | None
    output_as: Template | None
    export_as: Template | None


@dataclass(frozen=True, slots=True)
class Listen:
    to: Strategy
    until: Expression | None
    until_events: Strategy | None
    forever: bool  # `until: false`
    read: str  # data, envelope or raw
    foreach: Iterator | None

    @property
    def parts(self) -> tuple[tuple[str, Strategy], ...]:
        """The strategies, each with its name; the one that ends the listening first."""
        if self.until_events is None:
            return (("to", self.to),)
        return (("until", self.until_events), ("to", self.to))


@dataclass(frozen=True, slots=True)
class Retry:
    when: Expression | None
    except_when: Expression | None
    delay: Duration
    backoff: str  # constant, linear or exponential
    attempts: int | None  # in all, the first one included
    duration: Duration | None
    attempt_duration: Duration | None
    jitter: tuple[Duration, Duration] | None


@dataclass(frozen=True, slots=True)
class Try:
    block: Block
    errors: Template | None
    variable: str
    when: Expression | None
    except_when: Expression | None
    retry: Retry | None
    catch: Block | None
    then: str | None


@dataclass(frozen=True, slots=True)
class RunWorkflow:
    """`run.workflow`: an instance of another workflow, as a child."""

    namespace: str
    workflow: str
    version: str | None  # None: the latest when it starts
    arguments: Template | None
    awaited: bool
    returns: bool  # False: `return: none`, the task outputs null


Body = Call | Do | Emit | For | Fork | Listen | Set | Switch | Raise | Wait | Try | RunWorkflow
