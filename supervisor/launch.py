"""How each role becomes a process: fork an entry point, or execute the broker."""

from __future__ import annotations

import os
from collections.abc import Mapping

from supervisor.broker.embedded import EmbeddedBroker
from supervisor.policy.spec import BROKER, MONITOR, WORKER, ChildSpec
from supervisor.processes.spawn import Spawned, name_process, spawn, spawn_program
from supervisor.processes.stack_dumps import take_dumps
from supervisor.roles import EntryPoint
from wf.jetstream.embedded import ENVIRONMENT as BROKER_ENVIRONMENT
from wf.process import log, status_page
from wf.process.child import Child
from wf.settings import Settings


class Launcher:
    """Starts one process for a spec, with the settings of this moment."""

    def __init__(
        self, settings: Settings, entry_points: Mapping[str, EntryPoint], supervisor_pid: int
    ) -> None:
        self.settings = settings
        self.broker: EmbeddedBroker | None = None
        self._entry_points = entry_points
        self._supervisor_pid = supervisor_pid

    def prepare(self) -> None:
        """Write what the embedded broker needs. Raises BrokerError that says what to do."""
        if self.settings.nats.embedded:
            self.broker = EmbeddedBroker(self.settings)

    def launch(self, spec: ChildSpec, generation: int) -> Spawned:
        """Fork it. Raises OSError when the host has no process or memory left for it."""
        if spec.role == BROKER:
            if self.broker is None:
                raise RuntimeError("the broker was not prepared")
            return spawn_program(self.broker.argv, BROKER_ENVIRONMENT, keep=self.broker.inherits)
        entry_point = self._entry_points[spec.role]
        slot_fd = status_page.create()
        try:
            return spawn(
                lambda report_fd: self._run(spec, generation, entry_point, report_fd, slot_fd),
                slot_fd=slot_fd,
                two_way=spec.role == MONITOR,
            )
        except BaseException:
            os.close(slot_fd)
            raise

    def _run(
        self,
        spec: ChildSpec,
        generation: int,
        entry_point: EntryPoint,
        report_fd: int,
        slot_fd: int,
    ) -> int:
        take_dumps(slot_fd)
        name_process(spec.name.removeprefix(f"{WORKER} "))
        logging = self.settings.supervisor
        log.configure(level=logging.log_level, format=logging.log_format, process=spec.name)
        return entry_point(
            Child(
                name=spec.name,
                role=spec.role,
                pool=spec.pool if spec.role == WORKER else None,
                index=spec.index,
                settings=self.settings,
                activities=spec.activities,
                modules=spec.modules,
                report_fd=report_fd,
                slot_fd=slot_fd,
                generation=generation,
                supervisor_pid=self._supervisor_pid,
            )
        )
