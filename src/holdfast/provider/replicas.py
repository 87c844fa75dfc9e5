"""What runs: the replicas of each function, which of them are ready, and whoever waits for that.

How a deployment becomes a process is decided in deployments.py, the life of one process is kept in replica.py.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial

import structlog

from holdfast.directory import FORGET_S, FRESH_S
from holdfast.errors import DeploymentError, StartError
from holdfast.function import FunctionRef
from holdfast.provider.autoscaler import Autoscaler, Scaled, Windows
from holdfast.provider.backlog import Backlog
from holdfast.provider.confinement import Confinements
from holdfast.provider.deployments import Endpoint, launch
from holdfast.provider.endings import LastError, latest
from holdfast.provider.logs import FunctionLogs
from holdfast.provider.replica import Replica
from holdfast.provider.reports import Reported
from holdfast.provider.scaling import Rules, rules_of
from holdfast.provider.secrets import Secrets
from holdfast.provider.usage import CpuMeter
from holdfast.settings import ProviderSettings
from holdfast.stack import Deployment
from holdfast.unexpected import Work, alone

# So long a replica goes on that nobody is told of any more: no directory remembers it then, and its watchdog, which
# reports every second, has told of the last call that it was given.
LEAVING_S = FRESH_S + FORGET_S + 0.5

# So many ends of new replicas tell a caller who waits that the next start will not be better.
HOPELESS_RESTARTS = 2

log = structlog.get_logger()


class Function:
    """A deployed function: its replicas, its output, and whoever waits for a replica to be ready."""

    def __init__(self, deployment: Deployment, log_lines: int, created_at: datetime | None = None) -> None:
        self.deployment = deployment
        self.created_at = created_at or datetime.now(UTC)
        self.logs = FunctionLogs(log_lines)
        self.wanted = 0
        """How many replicas there should be."""
        self.replicas: list[Replica] = []
        """Of the deployment as it is now."""
        self.outgoing: list[Replica] = []
        """Of the deployment before; they serve until all new ones are ready."""
        self.autoscaler: Autoscaler | None = None
        """Set by Functions as long as it is deployed."""
        self.warnings: tuple[str, ...] = ()
        """What of the deployment is not done as it says."""
        self.refused: LastError | None = None
        """Why it could not be deployed again after a restart; nothing of it runs then."""
        self._changed = asyncio.Event()

    @property
    def endpoints(self) -> list[Endpoint]:
        """Those of the ready replicas, without those that are about to go."""
        serving = (*self.replicas, *self.outgoing)
        return [replica.endpoint for replica in serving if replica.ready and not replica.leaving]

    @property
    def updated(self) -> int:
        """How many replicas of the present deployment are ready."""
        return sum(replica.ready for replica in self.replicas)

    @property
    def restarts(self) -> int:
        """How often a replica of the present deployment has ended by itself."""
        return sum(replica.restarts for replica in self.replicas)

    @property
    def ready_pids(self) -> list[int]:
        """The process ids of the ready replicas of the present deployment."""
        return [replica.pid for replica in self.replicas if replica.ready and replica.pid is not None]

    @property
    def running(self) -> int:
        """Calls that run, as the replicas reported last."""
        return sum(replica.running for replica in (*self.replicas, *self.outgoing))

    @property
    def last_error(self) -> LastError | None:
        """What went wrong last with a replica of the present deployment."""
        return self.refused or latest(replica.last_error for replica in self.replicas)

    def loaded(self, reported: Reported) -> None:
        """A replica reports calls."""
        if self.autoscaler is not None:
            self.autoscaler.reported(reported)

    def changed(self) -> None:
        """A replica has become ready or stopped being so, has ended, or runs no call any more."""
        self._changed.set()
        self._changed = asyncio.Event()

    def warn(self, warnings: tuple[str, ...]) -> None:
        """Say what of the present deployment is not done as it says."""
        self.warnings = warnings
        for warning in warnings:
            log.warning("deployment not wholly enforced", function=str(self.deployment.ref), warning=warning)
            self.logs.append(self.deployment.ref.name, f"[warning] {warning}")

    async def wait_ready(self, timeout_s: float) -> bool:
        """Wait until a replica is ready, at most `timeout_s`; whether one is."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.endpoints:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return bool(self.endpoints)

    async def wait_updated(self, timeout_s: float) -> None:
        """Wait until the present deployment serves and nobody can know the one before any more.

        Ends early when it is plain that it will not: its replicas end as they start.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.restarts < HOPELESS_RESTARTS and (self.outgoing or self.updated < len(self.replicas)):
                    await self._changed.wait()

    async def wait_idle(self, replica: Replica, timeout_s: float) -> None:
        """Wait until a replica runs no call, at most `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while replica.running:
                    await self._changed.wait()

    async def wait_all_ready(self) -> None:
        """Wait until every replica of the present deployment is ready."""
        while not all(replica.ready for replica in self.replicas):
            await self._changed.wait()


class Functions:
    """All deployed functions. Made by `functions`, which ends them on leaving.

    A replica that is to go first leaves `endpoints`; it is ended when no gateway and no worker can know it any more,
    and then finishes what it has begun. So neither a new version nor fewer replicas cost a call.
    """

    def __init__(
        self,
        settings: ProviderSettings,
        environ: Mapping[str, str],
        secrets_: Secrets,
        *,
        held: Confinements,
        backlog: Backlog | None,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._held = held
        self._settings = settings
        self._environ = environ
        self._secrets = secrets_
        self._backlog = backlog
        self._tasks = tasks
        self._running: dict[Replica, asyncio.Task[None]] = {}
        self._by_ref: dict[FunctionRef, Function] = {}
        self._rollouts: dict[FunctionRef, asyncio.Task[None]] = {}
        self._scaling: dict[FunctionRef, asyncio.Task[None]] = {}

    def __iter__(self) -> Iterator[Function]:
        return iter(self._by_ref.values())

    def get(self, ref: FunctionRef) -> Function | None:
        """The function of that name, None when it is not deployed."""
        return self._by_ref.get(ref)

    def deploy(
        self, deployment: Deployment, *, replicas: int | None = None, created_at: datetime | None = None
    ) -> Function:
        """Start a function, or replace what runs under its name once the new version is ready. Returns at once.

        `replicas` is their number; None: as many as there are, at least the label's minimum unless it is at zero.
        Raises DeploymentError, and then nothing has changed.
        """
        ref = deployment.ref
        self._secrets.check(ref.namespace, ref.name, deployment.secrets)
        launch(deployment, ref.name, self._environ, grace_period_s=self._settings.grace_period_s)
        rules = rules_of(ref.name, deployment.labels, queues_known=self._backlog is not None)
        warnings = self._held.warnings(deployment)
        function = self._by_ref.get(ref)
        if function is None:
            function = self._by_ref[ref] = Function(deployment, self._settings.log_lines, created_at)
            function.warn(warnings)
            function.wanted = rules.least if replicas is None else replicas
            self._begin_scaling(function, rules)
            self._fill(function)
            return function
        function.deployment = deployment
        function.refused = None
        function.warn(warnings)
        if replicas is not None:
            function.wanted = replicas
        elif function.wanted:  # a function at zero stays there until it is called
            function.wanted = max(function.wanted, rules.least)
        self._begin_scaling(function, rules)
        # Of a version that never became ready nothing is kept; of one that serves, all, until the new one does.
        never_ready = [replica for replica in function.replicas if not replica.ready]
        function.outgoing += [replica for replica in function.replicas if replica.ready]
        function.replicas = []
        for replica in never_ready:
            self._end(replica)
        self._fill(function)
        self._begin_rollout(function)
        return function

    def restore(self, deployment: Deployment, *, replicas: int, created_at: datetime) -> None:
        """Deploy again what was deployed before a restart.

        What cannot be, a secret of it being gone, say, is there all the same and says why; the next call tries again.
        """
        try:
            self.deploy(deployment, replicas=replicas, created_at=created_at)
        except DeploymentError as error:
            function = self._by_ref[deployment.ref] = Function(deployment, self._settings.log_lines, created_at)
            function.wanted = replicas
            self._refuse(function, error)

    def _refuse(self, function: Function, error: DeploymentError) -> None:
        ref, told = function.deployment.ref, function.refused is not None and function.refused.message == str(error)
        function.refused = LastError(datetime.now(UTC), ref.name, str(error))
        if not told:
            log.error("kept function cannot be deployed", function=str(ref), error=str(error))
            function.logs.append(ref.name, f"[error] {error}")

    def scale(self, function: Function, replicas: int) -> None:
        """Have so many replicas because somebody asks for it. Raises DeploymentError, and then nothing has changed.

        Returns at once. Of a function that load scales, the number holds for a quiet window.
        """
        if function.refused is not None:
            self.deploy(function.deployment, replicas=replicas)
            return
        self._scale(function, replicas, "asked for")
        if function.autoscaler is not None:
            function.autoscaler.scaled()

    def _scale(self, function: Function, replicas: int, reason: str) -> None:
        ref = function.deployment.ref
        if replicas > len(function.replicas):
            self._secrets.check(ref.namespace, ref.name, function.deployment.secrets)
            launch(function.deployment, ref.name, self._environ, grace_period_s=self._settings.grace_period_s)
        log.info("scaled", function=str(ref), before=function.wanted, replicas=replicas, reason=reason)
        function.wanted = replicas
        for replica in function.replicas[replicas:]:
            self._retire(function, replica)
        del function.replicas[replicas:]
        self._fill(function)
        function.changed()

    def wake(self, function: Function) -> None:
        """A call waits for a function: one at zero gets its least replicas, once, however many calls wait."""
        if function.refused is not None:
            try:
                self.deploy(function.deployment, replicas=max(function.wanted, 1))
            except DeploymentError as error:
                self._refuse(function, error)
            return
        if function.autoscaler is None:
            return
        function.autoscaler.called()
        if function.wanted == 0:
            self._scale(function, function.autoscaler.rules.least, "a call waits")

    def remove(self, ref: FunctionRef) -> bool:
        """Forget a function and end its replicas; whether there was one."""
        function = self._by_ref.pop(ref, None)
        if function is None:
            return False
        for owned in (self._rollouts.pop(ref, None), self._scaling.pop(ref, None)):
            if owned is not None:
                owned.cancel()
        function.autoscaler = None
        function.wanted = 0
        for replica in (*function.replicas, *function.outgoing):
            self._retire(function, replica)
        return True

    def end(self) -> None:
        """Ask every replica to end."""
        for task in (*self._rollouts.values(), *self._scaling.values(), *self._running.values()):
            task.cancel()

    def _fill(self, function: Function) -> None:
        """Start the replicas that are missing."""
        deployment = function.deployment
        ref = deployment.ref
        grace_s = self._settings.grace_period_s
        while len(function.replicas) < function.wanted:
            instance = f"{ref.name}-{secrets.token_hex(3)}"
            given = self._secrets.give(ref.namespace, instance, deployment.secrets)
            launched = launch(deployment, instance, self._environ, grace_period_s=grace_s, secrets=given)
            held = self._held.of(instance, deployment)
            try:
                replica = Replica(
                    ref,
                    instance,
                    launched,
                    held,
                    function.logs,
                    on_change=function.changed,
                    on_load=function.loaded,
                    host=self._settings.replica_host,
                    announce=self._settings.announced,
                    grace_s=grace_s,
                )
            except StartError as error:
                self._secrets.take_back(ref.namespace, instance)
                raise DeploymentError(ref.name, f"no further replica can be started: {error}") from error
            function.replicas.append(replica)
            running = alone(
                Work.REPLICAS, partial(self._run, ref.namespace, replica), lambda _: None, instance=instance
            )
            self._running[replica] = self._tasks.create_task(running, name=instance)

    async def _run(self, namespace: str, replica: Replica) -> None:
        try:
            await replica.run()
        except Exception as error:
            # Descriptors have run out, say: that costs this function its replica, and not the others theirs.
            replica.failed(str(error) or repr(error))
            if not isinstance(error, (StartError, OSError)):
                raise
        finally:
            del self._running[replica]
            self._secrets.take_back(namespace, replica.instance)

    def _begin_scaling(self, function: Function, rules: Rules) -> None:
        """Have the function scaled by these rules, from its deployment to its removal."""
        if function.autoscaler is not None:
            function.autoscaler.rules = rules
            function.autoscaler.scaled()
            return
        ref = function.deployment.ref
        meter = CpuMeter()
        scaled = Scaled(
            str(ref),
            replicas=lambda: function.wanted,
            running=lambda: function.running,
            cpu_s=lambda: asyncio.to_thread(meter.spent_s, function.ready_pids),
            waiting=lambda: self._waiting(ref),
            scale=lambda replicas, reason: self._scale(function, replicas, reason),
        )
        windows = Windows(self._settings.scale_window_s, self._settings.scale_down_after_s)
        function.autoscaler = Autoscaler(scaled, rules, windows)
        self._scaling[ref] = self._tasks.create_task(function.autoscaler.run(), name=f"scale {ref}")

    async def _waiting(self, ref: FunctionRef) -> int | None:
        return await self._backlog.of(str(ref)) if self._backlog is not None else None

    def _begin_rollout(self, function: Function) -> None:
        ref = function.deployment.ref
        before = self._rollouts.pop(ref, None)
        if before is not None:
            before.cancel()
        rolling = alone(Work.REPLICAS, lambda: self._roll_out(function), lambda _: None, function=str(ref))
        self._rollouts[ref] = self._tasks.create_task(rolling, name=f"roll out {ref}")

    async def _roll_out(self, function: Function) -> None:
        """Let the version before go once the new one is ready; until then, if need be for ever, it serves."""
        await function.wait_all_ready()
        log.info("new version ready", function=str(function.deployment.ref), replicas=len(function.replicas))
        for replica in function.outgoing:
            self._retire(function, replica)

    def _retire(self, function: Function, replica: Replica) -> None:
        if not replica.leaving:
            replica.leaving = True
            function.changed()
            ending = alone(Work.REPLICAS, lambda: self._end_later(function, replica), lambda _: self._end(replica))
            self._tasks.create_task(ending, name=f"end {replica.instance}")

    async def _end_later(self, function: Function, replica: Replica) -> None:
        task = self._running.get(replica)
        if task is not None:
            await asyncio.wait([task], timeout=LEAVING_S)
        if replica in function.outgoing:
            function.outgoing.remove(replica)
            function.changed()
        # What it runs now may take as long as its function may; a grace period is for the end of the whole runtime.
        await function.wait_idle(replica, replica.exec_timeout_s)
        self._end(replica)

    def _end(self, replica: Replica) -> None:
        task = self._running.get(replica)
        if task is not None:
            task.cancel()


@asynccontextmanager
async def functions(
    settings: ProviderSettings,
    environ: Mapping[str, str],
    secrets_: Secrets,
    held: Confinements,
    backlog: Backlog | None,
) -> AsyncIterator[Functions]:
    """Nothing deployed yet. Leaving ends all replicas, side by side, and waits for their end."""
    async with asyncio.TaskGroup() as tasks:
        running = Functions(settings, environ, secrets_, held=held, backlog=backlog, tasks=tasks)
        try:
            yield running
        finally:
            running.end()
