"""`wf undeploy`."""

from __future__ import annotations

from wf import definitions, subjects
from wf.cli import exits, inputs, output, session
from wf.errors import NotFound
from wf.jetstream.client import JetStream


def undeploy(target: session.Target, name: str, version: str, *, json: bool) -> int:
    """Remove one version, with the engine's credentials: no client may."""
    namespace, workflow = subjects.split_qualified(name)
    inputs.check_name("namespace", namespace)
    inputs.check_name("workflow", workflow)

    async def work(js: JetStream) -> int:
        found = await definitions.find(js, namespace, workflow, version)
        if found is None:
            raise NotFound(f"{name} {version} is not registered (`wf definitions` lists what is)")
        await definitions.remove(js, found)
        if json:
            output.print_json({"name": name, "version": version, "removed": True})
        else:
            output.print_line(f"{found.title} is removed")
        return exits.OK

    return session.run_as_operator(target, work)
