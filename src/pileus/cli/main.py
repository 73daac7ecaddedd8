"""The command's entry, and the one place where an error becomes a line on standard error and an exit status.

0   done
1   it could not be done: the line says why, and what to do
2   the command line is not valid
78  the configuration is not valid
130 interrupted with Ctrl-C
"""

import os
import sys

import typer

from pileus.cli import (
    adapters,
    audit,
    backup,
    batch,
    chat,
    compress,
    config,
    data,
    demo,
    deployments,
    evaluate,
    explain,
    gateway,
    job_worker,
    jobs,
    keys,
    models,
    serve,
    simulate,
    speed,
    status,
    traffic,
    train,
    usage,
    version,
    webhooks,
    worker,
)
from pileus.core.errors import ConfigError, PileusError

EXIT_FAILED = 1
EXIT_CONFIG = 78
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="pileus",
    help="An LLM cloud that you own.\n\n`pileus up` serves a model on this machine; the other commands speak to it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("up")(serve.up)
app.command("serve")(serve.serve)
app.command("worker", hidden=True)(worker.worker)
app.command("gateway", hidden=True)(gateway.gateway)
app.command("job-worker", hidden=True)(job_worker.job_worker)
app.command("chat")(chat.chat)
app.add_typer(batch.app, name="batch")
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(adapters.app, name="adapters")
app.command("compress")(compress.compress)
app.add_typer(demo.app, name="demo")
app.command("speed")(speed.speed)
app.command("train")(train.train)
app.command("tune")(train.tune)
app.command("simulate")(simulate.simulate)
app.command("calibrate")(simulate.calibrate)
app.command("ps")(status.ps)
app.command("status")(status.status)
app.command("deploy")(deployments.deploy)
app.command("undeploy")(deployments.undeploy)
app.command("scale")(deployments.scale)
app.command("restart")(deployments.restart)
app.command("logs")(deployments.logs)
app.command("eval")(evaluate.evaluate)
app.command("gate")(evaluate.gate)
app.add_typer(explain.app, name="explain")
app.command("promote")(traffic.promote)
app.command("rollback")(traffic.rollback)
app.command("traffic")(traffic.traffic)
app.add_typer(jobs.app, name="jobs")
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")
app.command("audit")(audit.audit)
app.command("usage")(usage.usage)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.add_typer(config.app, name="config")
app.command("version")(version.version)


def main() -> None:
    try:
        app()
    except PileusError as error:
        _fail(error.message, EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has left, as `| head` does; the interpreter must not flush into the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}", EXIT_FAILED)


def _fail(message: str, status: int) -> None:
    for line in message.splitlines():
        print(f"pileus: {line}", file=sys.stderr)  # noqa: T201
    sys.exit(status)
