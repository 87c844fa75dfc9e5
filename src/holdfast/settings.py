"""The settings of every part: read once from the environment into frozen records, nonsense refused at start-up.

Names are OpenFaaS's where OpenFaaS has the setting. Units stand in the field names: `_s` seconds, `_bytes` bytes. The
table in docs/reference/settings.md is checked against the fields declared here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from holdfast.duration import parse_duration
from holdfast.errors import SettingError
from holdfast.function import DEFAULT_NAMESPACE
from holdfast.nats_address import read_servers, without_credentials
from holdfast.queue_name import RULE as QUEUE_RULE
from holdfast.queue_name import problem_with
from holdfast.web_address import check_url, in_url, is_host

_METADATA = "holdfast.setting"


@dataclass(frozen=True, slots=True)
class Setting:
    """How one field is read: its name in the environment, what a good value looks like, what it is for."""

    name: str
    expected: str
    default: str
    help: str
    parse: Callable[[str], Any]

    def read(self, environ: Mapping[str, str]) -> Any:
        """The field's value. Raises SettingError; an empty variable counts as unset, as in OpenFaaS."""
        text = environ.get(self.name) or self.default
        try:
            return self.parse(text)
        except ValueError:
            raise SettingError(self.name, without_credentials(text), self.expected) from None


def _setting(name: str, parse: Callable[[str], Any], expected: str, default: str, help: str) -> Any:  # noqa: A002 - the word of the reference
    return field(metadata={_METADATA: Setting(name, expected, default, help, parse)})


def _text(name: str, default: str, help: str) -> Any:  # noqa: A002
    return _setting(name, str, "text", default, help)


def _queue(name: str, default: str, help: str) -> Any:  # noqa: A002
    def parse(text: str) -> str:
        if problem_with(text) is not None:
            raise ValueError(text)
        return text

    return _setting(name, parse, f"a queue's name: {QUEUE_RULE}, and not holdfast", default, help)


def _names(name: str, help: str) -> Any:  # noqa: A002
    def parse(text: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())

    return _setting(name, parse, "names separated by commas", "", help)


def _duration(name: str, default: str, help: str, *, zero: bool = False) -> Any:  # noqa: A002
    def parse(text: str) -> float:
        seconds = parse_duration(text)
        if seconds == 0 and not zero:
            raise ValueError(text)
        return seconds

    expected = "a duration such as 0s or 1m30s" if zero else "a duration above zero such as 60s or 1m30s"
    return _setting(name, parse, expected, default, help)


def _integer(name: str, default: str, help: str, *, least: int = 0, most: int = 2**53) -> Any:  # noqa: A002
    def parse(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise ValueError(text)
        return number

    upper = f" to {most}" if most < 2**53 else " or more"
    return _setting(name, parse, f"a whole number, {least}{upper}", default, help)


def _flag(name: str, default: str, help: str) -> Any:  # noqa: A002
    words = {
        "true": True,
        "1": True,
        "yes": True,
        "on": True,
        "false": False,
        "0": False,
        "no": False,
        "off": False,
    }

    def parse(text: str) -> bool:
        try:
            return words[text.strip().lower()]
        except KeyError:
            raise ValueError(text) from None

    return _setting(name, parse, "true or false", default, help)


def _choice(name: str, default: str, choices: tuple[str, ...], help: str) -> Any:  # noqa: A002
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return _setting(name, parse, " or ".join(choices), default, help)


def _codes(name: str, default: str, help: str) -> Any:  # noqa: A002
    def parse(text: str) -> frozenset[int]:
        codes = frozenset(int(part) for part in text.split(","))
        if not all(100 <= code <= 599 for code in codes):
            raise ValueError(text)
        return codes

    return _setting(name, parse, "HTTP statuses separated by commas", default, help)


def _host_id() -> Any:
    return _text(
        "host_id",
        "",
        "What tells this host from others, the same for all parts that share its loopback addresses. Empty: found out, "
        "from the boot's id and the network namespace.",
    )


def _url(name: str, default: str, help: str) -> Any:  # noqa: A002
    def parse(text: str) -> str:
        url = text.strip()
        if url:
            check_url(url)
        return url.rstrip("/")

    return _setting(
        name, parse, "the URL of one server such as http://127.0.0.1:8081, without user and password", default, help
    )


def _host(name: str, default: str, help: str) -> Any:  # noqa: A002
    def parse(text: str) -> str:
        host = text.strip()
        if not is_host(host):
            raise ValueError(text)
        return host

    return _setting(name, parse, "a host's name or address, without port", default, help)


def _hosts(name: str, help: str) -> Any:  # noqa: A002
    def parse(text: str) -> tuple[str, ...]:
        hosts = tuple(part.strip() for part in text.split(",") if part.strip())
        if not all(map(is_host, hosts)):
            raise ValueError(text)
        return hosts

    return _setting(name, parse, "hosts' names, without port, separated by commas", "", help)


def _nats_servers(name: str, help: str) -> Any:  # noqa: A002
    def parse(text: str) -> str:
        return ",".join(read_servers(text)) if text else text

    return _setting(name, parse, "URLs of NATS servers, separated by commas", "", help)


@dataclass(frozen=True, slots=True)
class Settings:
    """Base of the records. `from_environment()` reads a part's own; `declared()` lists them for the reference."""

    PART: ClassVar[str]

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read every field. Raises SettingError for the first that cannot be used."""
        values = os.environ if environ is None else environ
        return cls(**{f.name: cls._of(f).read(values) for f in fields(cls)})

    @classmethod
    def declared(cls) -> list[Setting]:
        """The settings of this part in the order of its fields."""
        return [cls._of(f) for f in fields(cls)]

    @staticmethod
    def _of(field_: Field[Any]) -> Setting:
        setting = field_.metadata[_METADATA]
        assert isinstance(setting, Setting)  # noqa: S101 - a field declared without a setting is a mistake in this file
        return setting


@dataclass(frozen=True, slots=True)
class NatsSettings(Settings):
    """Where NATS is and how long to insist."""

    PART: ClassVar[str] = "nats"

    nats_url: str = _nats_servers(
        "nats_url",
        "Servers, comma separated: nats://user:password@host:4222. Empty: faas_nats_address and faas_nats_port.",
    )
    address: str = _host("faas_nats_address", "127.0.0.1", "Host of the NATS server, when nats_url is empty.")
    port: int = _integer(
        "faas_nats_port", "4222", "Port of the NATS server, when nats_url is empty.", least=1, most=65535
    )
    max_reconnect: int = _integer(
        "faas_max_reconnect",
        "120",
        "How often a lost connection is tried again before the part gives up and ends; 0: for ever.",
    )
    reconnect_delay_s: float = _duration(
        "faas_reconnect_delay", "2s", "Longest pause between two attempts to reconnect."
    )
    replicas: int = _integer(
        "nats_stream_replicas",
        "1",
        "Copies of each stream: 3 on a cluster of three or more.",
        least=1,
        most=5,
    )

    results_ttl_s: float = _duration(
        "results_ttl", "24h", "How long a call's record and result are kept after its end."
    )
    results_max_bytes: int = _integer(
        "results_max_bytes",
        str(1024**3),
        "Room for records and results; when it is full the oldest go (410).",
        least=1024**2,
    )
    inline_body_bytes: int = _integer(
        "inline_body_bytes",
        str(1024 * 1024),
        "Largest body of a request or result that travels inside a message; larger ones are stored in pieces. Never "
        "more than half of what the NATS server's max_payload leaves beside the heads.",
        least=1024,
    )

    def servers(self) -> list[str]:
        """The servers as `nats://…` URLs, in the order given."""
        if self.nats_url:
            return read_servers(self.nats_url)
        return [f"nats://{in_url(self.address)}:{self.port}"]


@dataclass(frozen=True, slots=True)
class LogSettings(Settings):
    """How a part logs."""

    PART: ClassVar[str] = "log"

    encoding: str = _choice("log_encoding", "console", ("console", "json"), "Form of a log line.")
    level: str = _choice("log_level", "info", ("debug", "info", "warning", "error"), "Least level that is logged.")


@dataclass(frozen=True, slots=True)
class GatewaySettings(Settings):
    """The gateway's settings."""

    PART: ClassVar[str] = "gateway"

    host: str = _host("gateway_host", "127.0.0.1", "Address to listen on.")
    port: int = _integer("gateway_port", "8080", "Port to listen on; 0: any free one.", most=65535)
    metrics_port: int = _integer(
        "gateway_metrics_port", "8082", "Port for /metrics and /healthz; 0: any free one.", most=65535
    )
    provider_url: str = _url("functions_provider_url", "http://127.0.0.1:8083", "The provider that runs the functions.")
    namespace: str = _text("function_namespace", DEFAULT_NAMESPACE, "Namespace of a function named without one.")
    queue: str = _queue(
        "faas_nats_channel",
        "faas-request",
        "The default queue: that of functions without the annotation `com.openfaas.queue`.",
    )
    read_timeout_s: float = _duration("read_timeout", "60s", "Longest pause while a request's body arrives.")
    head_timeout_s: float = _duration("head_timeout", "10s", "Longest time for a request's line and headers to arrive.")
    idle_timeout_s: float = _duration("idle_timeout", "75s", "How long an idle connection is kept open.")
    min_body_rate: int = _integer(
        "min_body_rate",
        "500",
        "Bytes a second at which the body of an asynchronous call must come, after read_timeout; slower ones are "
        "answered 408. 0: any rate.",
    )
    write_timeout_s: float = _duration("write_timeout", "60s", "Longest pause while a caller does not take its answer.")
    upstream_timeout_s: float = _duration(
        "upstream_timeout", "60s", "Longest time for a synchronous call to be answered."
    )
    publish_timeout_s: float = _duration(
        "publish_timeout", "5s", "Longest wait for JetStream's confirmation before 503."
    )
    group_commit: bool = _flag(
        "group_commit",
        "false",
        "Whether calls that arrive together are stored with one commit: for a server that syncs each one to its disk "
        "(`sync_interval: always`). Set by `serve --durability disk`.",
    )
    prefer_max_wait_s: float = _duration(
        "prefer_max_wait",
        "60s",
        "Longest `wait` of `Prefer: respond-async` on a synchronous call; a longer one is cut to it.",
    )
    max_body_bytes: int = _integer(
        "max_body_bytes", str(64 * 1024 * 1024), "Largest body of an asynchronous call.", least=1
    )
    max_uploads: int = _integer(
        "max_uploads",
        "200",
        "Bodies above inline_body_bytes that may come in at once, about 1 MB of memory each; further ones are "
        "answered 503.",
        least=1,
    )
    max_header_bytes: int = _integer(
        "max_header_bytes",
        str(128 * 1024),
        "Largest line and headers together, of a request and of a function's answer.",
        least=1024,
    )
    max_headers: int = _integer("max_headers", "256", "Most header lines of a request.", least=8)
    max_target_bytes: int = _integer("max_target_bytes", "16384", "Longest path and query of a request.", least=1024)
    max_pipelined: int = _integer(
        "max_pipelined",
        "128",
        "Most requests that wait behind another on one connection; a further one ends it with 400.",
    )
    max_connections: int = _integer(
        "max_connections", "10000", "Most open connections; further ones are refused.", least=1
    )
    max_held_bytes: int = _integer(
        "max_held_bytes",
        str(256 * 1024 * 1024),
        "Most bytes of request bodies that a gateway keeps in memory at a time; further ones are answered 503.",
        least=1024 * 1024,
    )
    max_waiting: int = _integer(
        "max_waiting",
        "0",
        "Most calls that a queue holds: those that wait for their turn or their time and those being run. Further ones "
        "are answered 503. 0: no limit.",
    )
    connect_timeout_s: float = _duration(
        "connect_timeout", "5s", "Longest time for a connection to a function or the provider to be made."
    )
    max_idle_conns_per_host: int = _integer(
        "max_idle_conns_per_host", "1024", "Idle connections kept per function replica."
    )
    basic_auth: bool = _flag("basic_auth", "false", "Whether /system needs the user and password in secret_mount_path.")
    secret_mount_path: str = _text(
        "secret_mount_path", "/run/secrets", "Folder of basic-auth-user and basic-auth-password."
    )
    provider_secret_mount_path: str = _text(
        "provider_secret_mount_path",
        "",
        "Folder of the basic-auth-user and basic-auth-password that the provider wants. Empty: those of basic_auth.",
    )
    allowed_hosts: tuple[str, ...] = _hosts(
        "allowed_hosts",
        "Names by which a gateway without a password (basic_auth=false) on a loopback address may be called, besides "
        "localhost and IP addresses. Requests under any other are answered 403.",
    )
    callback_allow: tuple[str, ...] = _names(
        "callback_allow",
        "Where callbacks may go besides public addresses: hosts, host:port, *.suffix, addresses, networks. The same "
        "for gateways and workers.",
    )
    callback_deny_private: bool = _flag(
        "callback_deny_private",
        "true",
        "Whether callbacks to addresses that are not public are refused unless callback_allow has them.",
    )
    host_id: str = _host_id()
    callback_max_depth: int = _integer(
        "callback_max_depth",
        "16",
        "How many callbacks may follow one another as calls of functions; the next is refused with 508.",
    )


@dataclass(frozen=True, slots=True)
class WorkerSettings(Settings):
    """The queue-worker's settings."""

    PART: ClassVar[str] = "worker"

    queue: str = _queue("queue_name", "faas-request", "The queue to take calls from.")
    max_inflight: int = _integer("max_inflight", "1", "Calls run at once.", least=1, most=10_000)
    ack_wait_s: float = _duration(
        "ack_wait",
        "10s",
        "A worker without a sign of life for this long counts as dead: its calls go to another. No limit for calls.",
    )
    upstream_timeout_s: float = _duration("upstream_timeout", "10m", "Longest duration of a call.")
    replica_wait_s: float = _duration(
        "replica_wait", "60s", "How long a call waits for a replica of its function to be ready."
    )
    max_deliveries: int = _integer(
        "max_deliveries",
        "10",
        "How often a call is taken up again after its worker died, before it ends as failed.",
        least=1,
    )
    max_result_bytes: int = _integer(
        "max_result_bytes",
        str(64 * 1024 * 1024),
        "Largest answer of a function; a larger one fails the call.",
        least=1,
    )
    orphan_body_age_s: float = _duration(
        "orphan_body_age",
        "15m",
        "A stored body that nothing needs any more is removed when its last piece is older than this. Longer than the "
        "gateways' read_timeout: a body may still be coming in.",
    )
    max_header_bytes: int = _integer(
        "max_header_bytes",
        str(128 * 1024),
        "Largest line and headers together of an answer, of functions and of callbacks' receivers.",
        least=1024,
    )
    connect_timeout_s: float = _duration(
        "connect_timeout",
        "5s",
        "Longest time for a connection to a function or a receiver to be made, its name included.",
    )
    gateway_url: str = _url(
        "gateway_url",
        "",
        "The gateway, for callbacks to its functions. Empty: faas_gateway_address and faas_gateway_port.",
    )
    gateway_address: str = _host("faas_gateway_address", "127.0.0.1", "Host of the gateway, when gateway_url is empty.")
    gateway_port: int = _integer(
        "faas_gateway_port", "8080", "Port of the gateway, when gateway_url is empty.", least=1, most=65535
    )
    provider_url: str = _url("functions_provider_url", "http://127.0.0.1:8083", "The provider that runs the functions.")
    callback_timeout_s: float = _duration(
        "callback_timeout", "10s", "Longest time for a callback's receiver to answer."
    )
    callback_attempts: int = _integer(
        "callback_attempts", "20", "How often a callback is tried before it is given up.", least=1
    )
    callback_initial_wait_s: float = _duration(
        "callback_initial_wait", "500ms", "Pause before a callback's second attempt; it doubles each time."
    )
    callback_max_wait_s: float = _duration(
        "callback_max_wait", "1h", "Longest pause between two attempts of a callback."
    )
    callback_inflight: int = _integer(
        "callback_inflight",
        "256",
        "Callbacks under way at once, first attempts and others; they hold no slot for calls. One receiver has at most "
        "as many as are free, so at most half of them.",
        least=1,
        most=10_000,
    )
    callback_allow: tuple[str, ...] = _names(
        "callback_allow",
        "Where callbacks may go besides public addresses: hosts, host:port, *.suffix, addresses, networks. The same "
        "for gateways and workers.",
    )
    callback_deny_private: bool = _flag(
        "callback_deny_private",
        "true",
        "Whether callbacks to addresses that are not public are refused unless callback_allow has them.",
    )
    callback_signing_secret_path: str = _text(
        "callback_signing_secret_path",
        "",
        "File, or folder of files, with the secrets that callbacks are signed with: one whsec_… on each line, the "
        "newest first. Read again while the worker runs. Empty: callbacks are not signed.",
    )
    max_retry_attempts: int = _integer(
        "max_retry_attempts", "10", "How often a call is run at most, the first time included.", least=1, most=1000
    )
    retry_http_codes: frozenset[int] = _codes(
        "retry_http_codes", "408,429,500,502,503,504", "HTTP statuses after which a call is run again."
    )
    initial_retry_wait_s: float = _duration(
        "initial_retry_wait", "10s", "Pause before a call's second run; 0s: no pauses.", zero=True
    )
    max_retry_wait_s: float = _duration("max_retry_wait", "120s", "Longest pause between two runs of a call.")
    backoff: str = _choice(
        "backoff",
        "exponential",
        ("exponential", "full", "equal"),
        "How pauses grow: doubled; or that with 0 to 100 % of it by chance (full), or 50 to 100 % (equal).",
    )
    grace_period_s: float = _duration(
        "grace_period",
        "30s",
        "On SIGTERM, how long running calls may take to finish before they are handed back.",
    )
    basic_auth: bool = _flag(
        "basic_auth", "false", "Whether the provider needs the user and password in secret_mount_path."
    )
    secret_mount_path: str = _text(
        "secret_mount_path", "/run/secrets", "Folder of basic-auth-user and basic-auth-password."
    )
    provider_secret_mount_path: str = _text(
        "provider_secret_mount_path",
        "",
        "Folder of the basic-auth-user and basic-auth-password that the provider wants. Empty: those of basic_auth.",
    )
    write_debug: bool = _flag("write_debug", "false", "Log the headers and bodies of calls and callbacks.")
    print_body: bool = _flag("faas_print_body", "false", "Log the bodies of functions' answers.")
    host_id: str = _host_id()
    host: str = _host("worker_host", "127.0.0.1", "Address for /metrics and /healthz.")
    metrics_port: int = _integer(
        "worker_metrics_port", "8081", "Port for /metrics and /healthz; 0: any free one.", most=65535
    )

    @property
    def gateway(self) -> str:
        """The gateway's URL without a trailing slash."""
        return self.gateway_url or f"http://{in_url(self.gateway_address)}:{self.gateway_port}"


@dataclass(frozen=True, slots=True)
class ProviderSettings(Settings):
    """The local function runtime's settings."""

    PART: ClassVar[str] = "provider"

    host: str = _host("provider_host", "127.0.0.1", "Address to listen on.")
    port: int = _integer("provider_port", "8083", "Port to listen on; 0: any free one.", most=65535)
    replica_host: str = _host("replica_host", "127.0.0.1", "Address that the functions' replicas listen on.")
    replica_announce: str = _text(
        "replica_announce",
        "",
        "Address or name by which gateways and workers call the replicas. Empty: replica_host. Needed when that is "
        "0.0.0.0 or ::.",
    )
    host_id: str = _host_id()
    stack: str = _text("stack", "", "The stack.yml to deploy. Empty: the samples that ship.")
    data: str = _text("provider_data", ".holdfast/provider", "Folder for the runtime's files.")
    namespace: str = _text("function_namespace", DEFAULT_NAMESPACE, "Namespace of a function deployed without one.")
    basic_auth: bool = _flag("basic_auth", "false", "Whether the API needs the user and password in secret_mount_path.")
    secret_mount_path: str = _text(
        "secret_mount_path", "/run/secrets", "Folder of basic-auth-user and basic-auth-password."
    )
    allowed_hosts: tuple[str, ...] = _names(
        "allowed_hosts",
        "Names by which a provider without a password (basic_auth=false) on a loopback address may be called, besides "
        "localhost and IP addresses. Requests under any other are answered 403.",
    )
    grace_period_s: float = _duration(
        "grace_period", "10s", "On SIGTERM, how long running requests of the functions may take to finish."
    )
    log_lines: int = _integer("log_lines", "10000", "Lines of output kept per function.", least=100)
    gateway_url: str = _url(
        "gateway_url", "", "The gateway to ask how many calls wait. Empty: no function is scaled by its queue."
    )
    gateway_secret_mount_path: str = _text(
        "gateway_secret_mount_path",
        "",
        "Folder of the basic-auth-user and basic-auth-password that the gateway wants. Empty: those of basic_auth.",
    )
    scale_window_s: float = _duration(
        "scale_window", "4s", "Time over which the load of a function that load scales is averaged."
    )
    scale_down_after_s: float = _duration(
        "scale_down_after",
        "60s",
        "How long fewer replicas must have been enough before a function that load scales gets fewer.",
    )
    max_bundle_bytes: int = _integer(
        "max_bundle_bytes",
        str(64 * 1024 * 1024),
        "Largest bundle, packed: a function's folder as `holdfast push` sends it.",
        least=1024,
    )
    install_timeout_s: float = _duration(
        "install_timeout", "10m", "How long installing the requirements of one bundle may take."
    )

    function_cgroup: str = _text(
        "function_cgroup",
        "auto",
        "Folder of a cgroup v2 that belongs to Holdfast, for the kernel to enforce functions' limits. auto: the one "
        "that systemd has delegated, if there is one; none: not used.",
    )

    @property
    def announced(self) -> str:
        """The host in the addresses of replicas that others are told."""
        return self.replica_announce or self.replica_host

    @property
    def data_folder(self) -> Path:
        """The runtime's folder, absolute. Raises SettingError for a relative one when the current folder is gone."""
        try:
            return Path(self.data).resolve()
        except FileNotFoundError:
            raise SettingError("provider_data", self.data, "an absolute path: the current folder is gone") from None


@dataclass(frozen=True, slots=True)
class WatchdogSettings(Settings):
    """The settings of the watchdog, the HTTP server in front of one function."""

    PART: ClassVar[str] = "watchdog"
    # How a provider hands over what it owns, by descriptor number. Not settings: nobody writes them by hand.
    LISTEN_FD: ClassVar[str] = "HOLDFAST_WATCHDOG_FD"
    LOCAL_FD: ClassVar[str] = "HOLDFAST_WATCHDOG_LOCAL_FD"
    """The listening socket, instead of `port`: it outlives the watchdog."""
    READY_FD: ClassVar[str] = "HOLDFAST_WATCHDOG_READY_FD"
    """Where `ready <process id>` is written once requests are served: standard output belongs to the function."""
    INSTANCE: ClassVar[str] = "HOLDFAST_WATCHDOG_INSTANCE"
    """Which replica this is: what requests that are meant for it name."""

    host: str = _host("watchdog_host", "127.0.0.1", "Address to listen on.")
    port: int = _integer("port", "8080", "Port to listen on; 0: any free one.", most=65535)
    mode: str = _choice(
        "mode",
        "serializing",
        ("serializing", "streaming", "http", "static"),
        "How requests are served: by a command started for each, its output answered when it has ended (serializing) "
        "or as it comes (streaming); by a command started once that speaks HTTP (http); from a folder (static).",
    )
    process: str = _text("fprocess", "", "The command that is started for each request (also: function_process).")
    upstream_url: str = _url(
        "upstream_url",
        "",
        "With mode http, where the command listens (also: http_upstream_url). Empty: on a free port of 127.0.0.1, "
        "which the command finds in PORT.",
    )
    upstream_wait_s: float = _duration(
        "upstream_wait", "60s", "With mode http, how long the command may take until it listens."
    )
    static_path: str = _text("static_path", "", "With mode static, the folder whose files are served.")
    handler: str = _text("handler", "", "Folder of a Python function's handler.py, instead of fprocess.")
    handler_packages: str = _text(
        "handler_packages", "", "Folder of libraries installed for the handler, which it finds before all others."
    )
    handler_style: str = _choice(
        "handler_style",
        "http",
        ("http", "classic"),
        "What the handler takes: handle(event, context) or handle(req).",
    )
    exec_timeout_s: float = _duration(
        "exec_timeout", "10m", "Longest duration of one request; the process group forked for it is then killed."
    )
    read_timeout_s: float = _duration("read_timeout", "60s", "Longest pause while a request's body arrives.")
    write_timeout_s: float = _duration(
        "write_timeout", "60s", "Longest pause while the caller does not take its answer."
    )
    grace_period_s: float = _duration(
        "grace_period", "10s", "On SIGTERM, how long running requests may take to finish."
    )
    max_inflight: int = _integer("max_inflight", "0", "Requests at once; further ones are answered 429. 0: no limit.")
    max_body_bytes: int = _integer("max_body_bytes", str(64 * 1024 * 1024), "Largest request body.", least=1)
    max_held_bytes: int = _integer(
        "max_held_bytes",
        str(1024**3),
        "Most bytes of request bodies in memory at a time; further ones are answered 503, which is tried again.",
        least=1024 * 1024,
    )
    max_output_bytes: int = _integer(
        "max_output_bytes",
        str(64 * 1024 * 1024),
        "Largest output of a forked command; one that writes more is killed and answered 500.",
        least=1,
    )
    content_type: str = _text("content_type", "", "Content-Type of the answers of a forked command.")
    combine_output: bool = _flag(
        "combine_output",
        "true",
        "Whether a forked command's standard error is part of the answer when it fails, else only logged.",
    )
    prefix_logs: bool = _flag(
        "prefix_logs",
        "false",
        "Whether each logged line of output starts with the time, the stream's name and the call id.",
    )
    write_debug: bool = _flag("write_debug", "false", "Log the bodies of requests and answers.")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read every field; `function_process` and `http_upstream_url` are OpenFaaS's second names of two."""
        values = dict(os.environ if environ is None else environ)
        values["fprocess"] = values.get("fprocess") or values.get("function_process", "")
        values["upstream_url"] = values.get("upstream_url") or values.get("http_upstream_url", "")
        return super(WatchdogSettings, cls).from_environment(values)
