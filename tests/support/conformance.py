"""A document of our own for the construct of every example of the specification, and its fate.

The names are those of the specification's `examples/` directories, all versions of DSL 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """`body` is the definition without its `document`. It ends with `output` (or `error`, its
    status), or is `refused` with a problem that has these words."""

    names: tuple[str, ...]
    body: str
    input: Any = None
    stubs: JsonObject = field(default_factory=dict)
    events: tuple[JsonObject, ...] = ()
    output: Any = None
    error: int | None = None
    sent: Any = None  # what the last call was given, when that matters
    refused: tuple[str, ...] = ()


def runs(names: str, body: str, **more: Any) -> Example:
    return Example(tuple(name.strip() for name in names.split(",")), body, **more)


def refused(names: str, body: str, *words: str) -> Example:
    return Example(tuple(name.strip() for name in names.split(",")), body, refused=words)


DOWN = {"$error": {"type": "about:down", "status": 503, "title": "Down"}}
READING = {"type": "room.reading", "source": "/sensor"}


def asks(authentication: str) -> str:
    """A definition that asks a service, authenticated so."""
    return (
        "use: {secrets: [key], authentications: {shop: {bearer: {token: '${ .token }'}}}}\n"
        "do: [{ask: {call: http, with: {method: get, endpoint: {uri: 'https://pets.example/{id}', "
        f"authentication: {authentication}}}}}}}}}]"
    )


def asked(uri: str, **more: Any) -> JsonObject:
    """What the activity is given for a GET."""
    request = {"method": "GET", "uri": uri, "output": "content", "redirect": False}
    return {"request": {**request, "authentication": None, **more}}


def with_access(access: JsonObject) -> JsonObject:
    return asked("https://pets.example/{id}", variables={"id": 3}, authentication=access)


WHO = {"id": 3, "token": "t0"}
PET = {"wf-http": {"name": "Tom"}}
KEPT = {"secrets": ["key"]}
CLIENT = (
    "authority: 'https://id.example', grant: client_credentials, client: {id: me, secret: hush}"
)

EXAMPLES: list[Example] = [
    # Task lists, data, conditions
    runs("do-single", "do: [{fetch: {call: look_up}}]", stubs={"look_up": 1}, output=1),
    runs(
        "do-multiple, do-single-multiple",
        "do: [{fetch: {call: look_up}}, {keep: {call: store, with: {value: '${ .n }'}}}]",
        stubs={"look_up": {"n": 1}, "store": {"kept": "${ .value }"}},
        output={"kept": 1},
    ),
    runs("set", "do: [{shape: {set: {kind: circle, size: '${ .size }'}}}]", input={"size": 2},
         output={"kind": "circle", "size": 2}),
    runs("set-expression", "do: [{shape: {set: '${ .shape }'}}]", input={"shape": {"size": 2}},
         output={"size": 2}),
    runs(
        "conditional-task",
        """
do:
  - raise_alarm: {if: .degrees > 30, set: {alarm: true}}
  - note: {if: '${ .degrees <= 30 }', set: {alarm: false}}
""",
        input={"degrees": 12},
        output={"alarm": False},
    ),
    runs(
        "switch-then-string",
        """
do:
  - sort:
      switch:
        - paper: {when: .kind == "paper", then: post}
        - file: {when: .kind == "file", then: send}
        - otherwise: {then: complain}
  - post: {set: {by: post}, then: end}
  - send: {set: {by: mail}, then: end}
  - complain: {set: {by: nobody}}
""",
        input={"kind": "file"},
        output={"by": "mail"},
    ),
    # Loops and branches
    runs(
        "for",
        "do: [{all: {for: {each: pet, in: .pets, at: n}, do: "
        "[{visit: {set: {last: '${ $pet }', n: '${ $n }'}}}]}}]",
        input={"pets": ["cat", "dog"]},
        output={"last": "dog", "n": 1},
    ),
    runs(
        "for-inline-array",
        "do: [{all: {for: {each: pet, in: [{name: cat, legs: 4}, {name: '${ .other }'}]}, do: "
        "[{visit: {set: {names: '${ .names + [$pet.name] }'}}}]}}]",
        input={"other": "dog"},
        output={"names": ["cat", "dog"]},
    ),
    runs(
        "while",
        "do: [{all: {for: {in: '[range(10)]'}, while: .n < 3, do: "
        "[{add: {set: {n: '${ .n + 1 }'}}}]}}]",
        input={"n": 0},
        output={"n": 3},
    ),
    runs(
        "fork",
        "do: [{race: {fork: {compete: true, branches: [{slow: {wait: PT1H}}, "
        "{quick: {call: ring}}]}}}]",
        stubs={"ring": "rung"},
        output="rung",
    ),
    # Waiting and starting
    runs("wait-duration-inline", "do: [{rest: {wait: {hours: 1, days: 5}}}]", input=7, output=7),
    runs("wait-duration-iso8601", "do: [{rest: {wait: PT1M5S}}]", input=7, output=7),
    runs("schedule-cron, cron-schedule", "schedule: {cron: '0 6 * * *'}\ndo: [{a: {set: {b: 1}}}]",
         output={"b": 1}),
    runs(
        "schedule-event-driven, event-driven-schedule",
        "schedule: {on: {one: {with: {type: heartbeat.low}}}}\n"
        "do: [{tell: {call: nurse, with: {room: '${ $workflow.input[0].data.room }'}}}]",
        input=[{"type": "heartbeat.low", "source": "/bed", "data": {"room": 7}}],
        stubs={"nurse": "${ .room }"},
        output=7,
    ),
    # Events
    runs(
        "emit",
        "do: [{tell: {emit: {event: {with: {source: /shop, type: order.placed, "
        "data: {n: '${ .n }'}}}}, output: {as: .data}}}]",
        input={"n": 3},
        output={"n": 3},
    ),
    refused(
        "emit-cc, emit-additional-sink",
        "do: [{tell: {emit: {event: {with: {source: /shop, type: order.placed}}, cc: [x]}}}]",
        "/do/0/tell/emit/cc", "unknown key",
    ),
    runs(
        "listen-to-one",
        "do: [{hear: {listen: {to: {one: {with: {type: room.reading}}}}}}]",
        events=({**READING, "data": {"c": 20}},),
        output=[{"c": 20}],
    ),
    runs(
        "listen-to-any",
        "do: [{hear: {listen: {to: {any: [{with: {type: hot}}, {with: {type: cold}}]}}}}]",
        events=({"type": "cold", "data": {"c": -5}},),
        output=[{"c": -5}],
    ),
    runs(
        "listen-to-any-filter",
        "do: [{hear: {listen: {to: {any: [{with: {type: room.reading, data: '${ .c > 30 }'}}]}}}}]",
        events=({**READING, "data": {"c": 20}}, {**READING, "data": {"c": 31}}),
        output=[{"c": 31}],
    ),
    runs(
        "listen-to-all",
        "do: [{hear: {listen: {to: {all: [{with: {type: paid}}, {with: {type: packed}}]}}}}]",
        events=({"type": "packed", "data": 1}, {"type": "paid", "data": 2}),
        output=[1, 2],
    ),
    runs(
        "listen-to-all read-envelope",
        "do: [{hear: {listen: {to: {all: [{with: {type: paid}}]}, read: envelope}, "
        "output: {as: '[.[].type]'}}}]",
        events=({"type": "paid", "data": 2},),
        output=["paid"],
    ),
    runs(
        "listen-to-any-until-condition",
        "do: [{hear: {listen: {to: {any: [{with: {type: room.reading}}], until: 'length == 2'}}}}]",
        events=tuple({**READING, "data": n} for n in range(3)),
        output=[0, 1],
    ),
    runs(
        "listen-to-any-until-consumed",
        "do: [{hear: {listen: {to: {any: [{with: {type: room.reading}}], "
        "until: {one: {with: {type: stop}}}}}}}]",
        events=({**READING, "data": 1}, {"type": "stop", "$after": "PT1S"}),
        output=[1],
    ),
    runs(
        "listen-to-any-forever-foreach",
        """
do:
  - hear:
      listen: {to: {any: [], until: false}}
      foreach:
        item: event
        do: [{one: {if: $event == 3, raise: {error: {type: full, status: 429}}}}]
""",
        events=tuple({**READING, "data": n, "$after": f"PT{n}S"} for n in (1, 2, 3)),
        error=429,
    ),
    runs(
        "accumulate-room-readings",
        """
do:
  - hear:
      listen:
        to:
          all:
            - with: {type: room.warmth}
              correlate: {room: {from: .data.room}}
            - with: {type: room.damp}
              correlate: {room: {from: .data.room}}
      output: {as: '[.[].v]'}
""",
        events=(
            {"type": "room.warmth", "data": {"room": 1, "v": 20}},
            {"type": "room.damp", "data": {"room": 2, "v": 99}},
            {"type": "room.damp", "data": {"room": 1, "v": 40}},
        ),
        output=[20, 40],
    ),
    # Errors
    runs(
        "raise-inline, raise-inline copy, raise",
        "do: [{no: {raise: {error: {type: about:no, status: 400, title: No, detail: no more}}}}]",
        error=400,
    ),
    runs(
        "raise-reusable",
        "use: {errors: {no: {type: about:no, status: 418}}}\ndo: [{no: {raise: {error: no}}}]",
        error=418,
    ),
    runs(
        "try-catch",
        "do: [{t: {try: [{ask: {call: ask}}], catch: {errors: {with: {status: 503}}, as: e, "
        "do: [{say: {set: {was: '${ $e.status }'}}}]}}}]",
        stubs={"ask": DOWN},
        output={"was": 503},
    ),
    runs(
        "try-catch-then, try-catch-then-directive",
        "do: [{t: {try: [{ask: {call: ask}}], catch: {then: last}}}, {next: {set: {n: 1}}}, "
        "{last: {set: {n: 2}}}]",
        stubs={"ask": DOWN},
        output={"n": 2},
    ),
    runs(
        "try-catch-retry-inline",
        "do: [{t: {try: [{ask: {call: ask}}], catch: {retry: {delay: {seconds: 3}, "
        "backoff: {exponential: {}}, limit: {attempt: {count: 5}}}}}}]",
        stubs={"ask": {"$each": [DOWN, DOWN, "there"]}},
        output="there",
    ),
    runs(
        "try-catch-retry-reusable",
        "use: {retries: {often: {delay: PT1S, limit: {attempt: {count: 3}}}}}\n"
        "do: [{t: {try: [{ask: {call: ask}}], catch: {retry: often}}}]",
        stubs={"ask": {"$each": [DOWN, "there"]}},
        output="there",
    ),
    refused(
        "task-level-catch-basic, task-level-catch-http, task-level-vs-try-catch",
        "do: [{ask: {call: ask, catch: {do: [{say: {set: {n: 1}}}]}}}]",
        "/do/0/ask/catch", 'unknown key "catch"',
    ),
    # Other workflows
    runs(
        "run-subflow",
        "do: [{other: {run: {workflow: {namespace: default, name: greet, version: 1.0.0, "
        "input: {who: '${ .who }'}}}}}]",
        input={"who": "Ann"},
        stubs={"greet": {"said": "${ .who }"}},
        output={"said": "Ann"},
    ),
]  # fmt: skip

for _kind, _names in {
    "asyncapi": "asyncapi, call-asyncapi, call-asyncapi-publish, "
    "call-asyncapi-subscribe-consume-amount, call-asyncapi-subscribe-consume-forever-foreach, "
    "call-asyncapi-subscribe-consume-until, call-asyncapi-subscribe-consume-while",
    "grpc": "call-grpc",
    "mcp": "call-mcp, call-mcp-1, call-mcp-2",
}.items():
    EXAMPLES.append(
        refused(
            _names,
            f"do: [{{ask: {{call: {_kind}, with: {{}}}}}}]",
            "/do/0/ask/call",
            "is not supported:",
        )
    )
EXAMPLES += [
    refused(
        "call-custom-function-cataloged, call-custom-function",
        "do: [{ask: {call: 'log:1.0.0@shared'}}]",
        "/do/0/ask/call", "catalogs are not supported",
    ),
    refused(
        "mock-service-extension",
        "use: {extensions: [{mock: {extend: call, before: [{a: {set: {b: 1}}}]}}]}\n"
        "do: [{ask: {call: ask}}]",
        "/use/extensions", "extensions are not supported",
    ),
    refused(
        "run-container, run-container-with-name, run-container-with-pull-policy, "
        "run-container-stdin-and-arguments, run-container-cleanup-always, "
        "run-container-cleanup-eventually, run-return-all, run-return-code, run-return-none, "
        "run-return-stderr",
        "do: [{box: {run: {container: {image: busybox}}}}]",
        "/do/0/box/run/container",
    ),
]  # fmt: skip

# HTTP
EXAMPLES += [
    runs(
        "call-http-shorthand-endpoint, call-http-endpoint-interpolation-shorthand",
        "do: [{ask: {call: http, with: {method: get, endpoint: 'https://pets.example/{id}'}}}]",
        input=WHO,
        stubs=PET,
        output={"name": "Tom"},
        sent=asked("https://pets.example/{id}", variables={"id": 3}),
    ),
    runs(
        "call-http-endpoint-interpolation",
        "do: [{ask: {call: http, with: {method: get, "
        "endpoint: '${ \"https://pets.example/\\(.id)\" }'}}}]",
        input=WHO,
        stubs=PET,
        output={"name": "Tom"},
        sent=asked("https://pets.example/3"),
    ),
    runs(
        "call-http-query-parameters, http-query-params",
        "do: [{ask: {call: http, with: {method: get, endpoint: 'https://pets.example', "
        "query: {like: '${ .id }'}}}}]",
        input=WHO,
        stubs=PET,
        output={"name": "Tom"},
        sent=asked("https://pets.example", variables={}, query={"like": 3}),
    ),
    runs(
        "call-http-query-headers-expressions",
        "do: [{shape: {set: {asked: {like: '${ .id }'}, said: {Accept: text/plain}}}}, "
        "{ask: {call: http, with: {method: get, endpoint: 'https://pets.example', "
        "query: '${ .asked }', headers: '${ .said }'}}}]",
        input=WHO,
        stubs=PET,
        output={"name": "Tom"},
        sent=asked("https://pets.example", variables={}, query={"like": 3},
                   headers={"Accept": "text/plain"}),
    ),
    runs(
        "call-http-redirect",
        "do: [{ask: {call: http, with: {method: get, endpoint: 'https://pets.example', "
        "redirect: true}}}]",
        stubs=PET,
        output={"name": "Tom"},
        sent=asked("https://pets.example", variables={}, redirect=True),
    ),
    runs(
        "star-wars-homeworld",
        """
input: {schema: {format: json, document: {type: object, required: [id]}}}
do:
  - ask:
      call: http
      with: {method: get, endpoint: 'https://pets.example/{id}', output: response}
      export: {as: {home: '${ .content.home }'}}
  - visit: {call: http, with: {method: get, endpoint: '${ $context.home }'}}
""",
        input=WHO,
        stubs={"wf-http": {"$each": [{"content": {"home": "https://home.example"}}, "sweet"]}},
        output="sweet",
        sent=asked("https://home.example"),
    ),
    runs(
        "call-openapi, call-openapi-redirect",
        """
do:
  - ask:
      call: openapi
      with:
        document: {endpoint: 'https://pets.example/openapi.json'}
        operationId: findPet
        parameters: {id: '${ .id }'}
        output: response
        redirect: true
""",
        input=WHO,
        stubs={"wf-openapi": {"statusCode": 302}},
        output={"statusCode": 302},
        sent={
            "request": {
                "document": {
                    "uri": "https://pets.example/openapi.json",
                    "variables": {},
                    "authentication": None,
                },
                "operationId": "findPet",
                "parameters": {"id": 3},
                "output": "response",
                "redirect": True,
                "authentication": None,
            }
        },
    ),
    refused(
        "call-custom-function-inline",
        """
use:
  functions:
    pet:
      input: {schema: {document: {type: object}}}
      call: http
      with: {method: get, endpoint: 'https://pets.example/{id}'}
do: [{ask: {call: pet, with: {id: 3}}}]
""",
        "/use/functions/pet/input",
        "on the tasks that call it",
    ),
    # Authentications and secrets
    *(
        runs(names, asks(given), input=WHO, stubs=PET, output={"name": "Tom"},
             sent=with_access(access))
        for names, given, access in (
            ("authentication-bearer, authentication-bearer-uri-format, bearer-auth-uri-format, "
             "bearer-auth", "{bearer: {token: '${ .token }'}}", {"bearer": {"token": "t0"}}),
            ("authentication-reusable", "{use: shop}", {"bearer": {"token": "t0"}}),
            ("use-authentication", "shop", {"bearer": {"token": "t0"}}),
        )
    ),
    runs(
        "authentication-oauth2, oauth2",
        asks(
            "{oauth2: {endpoints: {token: /token, revocation: /revoke, introspection: /look}, "
            "issuers: ['https://id.example'], scopes: [api], audiences: [pets], " + CLIENT + "}}"
        ),
        input=WHO,
        stubs=PET,
        output={"name": "Tom"},
    ),
    runs(
        "authentication-oidc",
        asks("{oidc: {" + CLIENT + "}}"),
        input=WHO,
        stubs=PET,
        output={"name": "Tom"},
    ),
    runs("authentication-oauth2-secret", asks("{oauth2: {use: key}}"), input=WHO, stubs=PET,
         output={"name": "Tom"},
         sent={**with_access({"oauth2": {"use": "key"}}), "deferred": KEPT}),
    runs("authentication-oidc-secret", asks("{oidc: {use: key}}"), input=WHO, stubs=PET,
         output={"name": "Tom"},
         sent={**with_access({"oidc": {"use": "key"}}), "deferred": KEPT}),
    refused("secret-basic-auth", asks("{basic: {username: {use: key}, password: p}}"),
            "/basic/username", "must be a non-empty string"),
    refused("secret-bearer-auth", asks("{bearer: {token: {use: key}}}"),
            "/bearer/token", "must be a non-empty string"),
    refused("secret-oauth2-auth",
            asks("{oauth2: {authority: 'https://id.example', grant: client_credentials, "
                 "client: {id: me, secret: {use: key}}}}"),
            "/client/secret", "must be a non-empty string"),
    # Programs of the workers' hosts
    runs("run-shell-stdin-and-arguments, run-shell-external-script",
         "do: [{ask: {run: {shell: {command: ./count.sh, arguments: ['${ .id }', 'x y'], "
         "stdin: '${ .id }', environment: {MODE: fast}}, return: all}}}]",
         input=WHO, stubs={"wf-shell": {"code": 0, "stdout": "1", "stderr": ""}},
         output={"code": 0, "stdout": "1", "stderr": ""},
         sent={"request": {"command": "./count.sh", "arguments": [WHO["id"], "x y"],
                           "environment": {"MODE": "fast"}, "stdin": WHO["id"], "return": "all"}}),
    runs("run-script-with-arguments, run-script-with-stdin-and-arguments",
         "do: [{ask: {run: {script: {language: js, code: 'log(1)', arguments: ['${ .id }'], "
         "stdin: in}}}}]",
         input=WHO, stubs={"wf-script": "1"}, output="1",
         sent={"request": {"language": "js", "code": "log(1)", "arguments": [WHO["id"]],
                           "stdin": "in", "return": "stdout"}}),
]  # fmt: skip
