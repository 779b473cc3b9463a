"""Run the app under gunicorn: threads for requests, processes for cores, one process for jobs, one folder for metrics.

``utils/commands/serve.py`` checks beforehand what must be right. ``gunicorn.conf.py`` takes the same options from here,
so a gunicorn that is started by hand serves as ``unify serve`` does.
"""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import signal
import socket
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

import compose
from logs import JsonLines
from settings import Settings
from tenancy.errors import TenancyError
from utils.job_process import JobProcess
from utils.output import Failed, complain
from utils.worker import GatheringWorker

if TYPE_CHECKING:
    from collections.abc import Callable

KEEPALIVE_S = 75
"""Longer than the 60 s after which common proxies let an idle connection go: the proxy closes first, so no request
is sent into a closing connection."""

THREADS = 8
WORKER_SILENT_S = 60
GRACEFUL_S = 30

REQUEST_LINE_BYTES = 8190
"""Gunicorn's own most, twice what the app allows, so that the app answers 414 in its own words."""

HEADERS_MOST = 100
HEADER_BYTES = 40960
"""One header may be longer than the app allows for all together, so that the app answers 431 in its own words."""

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client reads this variable itself, when it is imported."""

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
METRICS_PREFIX = "unify-metrics-"
_PR_SET_PDEATHSIG = 1


class Deployment:
    """How gunicorn serves the app, for ``unify serve`` and for ``gunicorn.conf.py`` alike."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.master = os.getpid()
        self.jobs = JobProcess(GRACEFUL_S) if settings.job_worker else None
        self.metrics = _metrics_folder() if settings.web_concurrency > 1 or METRICS_VARIABLE in os.environ else None

    def options(self) -> dict[str, Any]:
        """Return gunicorn's settings, by their names in a gunicorn configuration file."""
        return {
            "proc_name": "unify",
            "worker_class": GatheringWorker,
            "workers": self.settings.web_concurrency,
            "threads": THREADS,
            "preload_app": True,
            "max_requests": 0,
            "timeout": WORKER_SILENT_S,
            "graceful_timeout": GRACEFUL_S,
            "keepalive": KEEPALIVE_S,
            # A heartbeat is a file's time; on a disk under load it would come late and a healthy worker be killed.
            "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,  # noqa: S108 - a memory disk
            "control_socket_disable": True,
            "sendfile": False,  # what the kernel sends by itself keeps no pace
            "limit_request_line": REQUEST_LINE_BYTES,
            "limit_request_fields": HEADERS_MOST,
            "limit_request_field_size": HEADER_BYTES,
            # The app counts proxies by TRUSTED_PROXY_COUNT. Gunicorn trusts by address and would take a client's own
            # X-Forwarded-Proto, SCRIPT_NAME or PATH_INFO for the proxy's, so it is told to trust nobody.
            "forwarded_allow_ips": "",
            "forwarder_headers": "",
            "accesslog": None,
            "errorlog": "-",
            "loglevel": self.settings.log_level.lower(),
            "logger_class": JsonLog if self.settings.log_format == "json" else Logger,
            "on_starting": self._starting,
            "when_ready": self._about_to_fork,
            "on_reload": self._reloaded,
            "post_fork": self._after_fork,
            "post_worker_init": self._worker_ready,
            "worker_exit": self._worker_leaves,
            "child_exit": self._child_exited,
            "on_exit": self._at_end,
        }

    def _starting(self, arbiter: Any) -> None:
        """Block signals to stop until a new worker can handle them.

        A worker begins with the master's handlers, which would swallow such a signal; the server would then wait the
        whole graceful timeout for a worker that never heard of it.
        """
        self.master = os.getpid()

        def before() -> None:
            if os.getpid() == self.master:
                signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)

        def after_in_parent() -> None:
            if os.getpid() == self.master:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)

        os.register_at_fork(before=before, after_in_parent=after_in_parent)

    def _about_to_fork(self, arbiter: Any) -> None:
        """Freeze the garbage collector before the fork.

        A collection writes to each object it visits, which would unshare the memory that workers share with the master.
        """
        gc.collect()
        gc.freeze()
        if self.jobs is not None and arbiter is not None:
            self.jobs.attach(arbiter)

    def _reloaded(self, arbiter: Any) -> None:
        if self.jobs is not None:
            self.jobs.replace()

    def _worker_ready(self, worker: Any) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        worker.wsgi.extensions["unify"].manager.share_threads(worker.cfg.threads)

    def _after_fork(self, arbiter: Any, worker: Any) -> None:
        """Ask the kernel to kill workers whose master was killed: they would keep the address in use."""
        if sys.platform == "linux":
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self.master:
                os.kill(os.getpid(), signal.SIGKILL)

    def _worker_leaves(self, arbiter: Any, worker: Any) -> None:
        """Write what the worker gathered, and close its databases, so that SQLite deletes their side files."""
        wsgi = getattr(worker, "wsgi", None)
        if wsgi is not None:
            wsgi.extensions["unify"].close()

    def _child_exited(self, arbiter: Any, worker: Any) -> None:
        if self.metrics is not None:
            from prometheus_client import multiprocess

            multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # it has no types

    def _at_end(self, arbiter: Any) -> None:
        if self.metrics is not None:
            shutil.rmtree(self.metrics, ignore_errors=True)


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """Serve ``app:create_app()`` on a socket that is bound already."""

    def __init__(self, settings: Settings, listener: socket.socket, *, threads: int, preload: bool) -> None:
        address = f"fd://{listener.detach()}"
        self.options = Deployment(settings).options() | {"bind": address, "threads": threads, "preload_app": preload}
        self.master = os.getpid()
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.options.items():
            self.cfg.set(name, value)

    def load(self) -> Callable[..., Any]:
        from app import create_app

        wsgi: Callable[..., Any] = create_app()
        return wsgi

    def run(self) -> None:
        """Serve until a signal ends it; why workers did not start is in the log above the last line."""
        # Imported here even where each worker makes its own app: they find most modules loaded and answer sooner.
        import app  # noqa: F401 - for what it loads

        try:
            super().run()
        except SystemExit as stopped:
            if os.getpid() != self.master or not stopped.code:
                raise
            raise Failed("The server stopped because its workers could not start; the log above says why.") from None


@cache
def for_gunicorn() -> dict[str, Any]:
    """Return the settings for a gunicorn that somebody starts themselves; read once, however often it reloads.

    Where one of our settings is wrong, gunicorn ends with the one line that says so.
    """
    try:
        settings = Settings.load()
        parts = compose.build(settings)
        try:
            told = compose.first_steps(parts)
        finally:
            parts.close()
    except TenancyError as error:
        raise SystemExit(f"Error: {error.message}") from None
    for line in told:
        complain(line)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return Deployment(settings).options() | {"bind": f"{host}:{settings.port}"}


class JsonLog(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """Write gunicorn's own lines as the app writes its: one JSON object per line."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(JsonLines())


def _metrics_folder() -> Path:
    """Create an empty folder for the workers' counters, inside the operator's if one is named."""
    parent = Path(os.environ.get(METRICS_VARIABLE) or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{METRICS_PREFIX}{os.getpid()}-", dir=parent))
    os.environ[METRICS_VARIABLE] = str(folder)
    return folder


def _sweep(parent: Path) -> None:
    """Delete the folders that killed servers of ours left behind."""
    for folder in parent.glob(f"{METRICS_PREFIX}*-*"):
        runner = folder.name.removeprefix(METRICS_PREFIX).partition("-")[0]
        if runner.isdigit() and folder.stat().st_uid == os.getuid() and not _runs(int(runner)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
