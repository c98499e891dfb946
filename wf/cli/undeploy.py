"""`wf undeploy`."""

from __future__ import annotations

from wf.cli import arguments, exit_status, output, session
from wf.client import definitions
from wf.errors import NotFound
from wf.jetstream.client import JetStream
from wf.protocol import subjects


def undeploy(target: session.Target, name: str, version: str, *, json: bool) -> int:
    """Remove one version, with the engine's credentials: no client may."""
    namespace, workflow = subjects.split_qualified(name)
    arguments.check_name("namespace", namespace)
    arguments.check_name("workflow", workflow)

    async def work(js: JetStream) -> int:
        found = await definitions.find(js, namespace, workflow, version)
        if found is None:
            raise NotFound(f"{name} {version} is not registered (`wf definitions` lists what is)")
        await definitions.remove(js, found)
        if json:
            output.print_json({"name": name, "version": version, "removed": True})
        else:
            output.print_line(f"{found.title} is removed")
        return exit_status.OK

    return session.run_as_operator(target, work)
