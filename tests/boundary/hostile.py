"""A runbook's code that says a secret in every way Dagster offers, each time another one."""

# No `from __future__ import annotations`: Dagster inspects them.
import logging
from collections.abc import Iterator
from typing import Any

import dagster
from dagster import (
    AssetCheckResult,
    AssetCheckSpec,
    AssetKey,
    AssetMaterialization,
    AssetObservation,
    Config,
    DagsterType,
    DynamicOut,
    DynamicOutput,
    ExpectationResult,
    Failure,
    MaterializeResult,
    MetadataValue,
    OpExecutionContext,
    Out,
    Output,
    RetryRequested,
    TypeCheck,
    asset,
    failure_hook,
    get_dagster_logger,
    in_process_executor,
    op,
    resource,
)


def job(body: Any = None, **settings: Any) -> Any:
    """As Dagster's, in one process."""
    make = dagster.job(executor_def=in_process_executor, **settings)
    return make(body) if body else make


PLANTED: dict[str, str] = {}
"""Channel -> the secret that was planted there."""


def plant(channel: str) -> str:
    """A secret of this channel's own: a word, so that it fits wherever words do."""
    return PLANTED.setdefault(channel, f"Canary{channel.title().replace(' ', '')}X{len(PLANTED):02d}q")


NOT_A_COUNT = 918273645
PLANTED["integer under a free name"] = str(NOT_A_COUNT)


class Typed(Config):
    """Configuration that a person types in the UI."""

    word: str = "nothing"


def _fails(name: str, raising: Any) -> Any:
    @op(name=name)
    def failing() -> None:
        raising()

    @job(name=f"{name}_job")
    def failing_job() -> None:
        failing()

    return failing_job


def _message() -> None:
    raise ValueError(plant("exception message"))


def _chain() -> None:
    try:
        raise KeyError(plant("cause"))
    except KeyError as error:
        raise RuntimeError(plant("caused")) from error


def _context() -> None:
    try:
        raise KeyError(plant("context"))
    except KeyError:
        raise RuntimeError("during") from RuntimeError(plant("other cause"))


def _note() -> None:
    error = ValueError("noted")
    error.add_note(plant("note"))
    raise error


def _group() -> None:
    raise ExceptionGroup(plant("group"), [ValueError(plant("group member"))])


def _class_name() -> None:
    raise type(plant("class name"), (Exception,), {})("x")


def _forged_code() -> None:
    raise RuntimeError(f"{plant('forged code')} (error 00000000-0000-0000-0000-000000000000)")


def _failure() -> None:
    raise Failure(plant("failure description"), metadata={"what": plant("failure metadata")})


def _exit() -> None:
    raise SystemExit(plant("system exit"))


def _retry() -> None:
    raise RetryRequested(max_retries=1, seconds_to_wait=0) from ValueError(plant("retry cause"))


FAILING = [
    _fails(f"says{name}", raising)
    for name, raising in {
        "_message": _message,
        "_chain": _chain,
        "_context": _context,
        "_note": _note,
        "_group": _group,
        "_class_name": _class_name,
        "_forged_code": _forged_code,
        "_failure": _failure,
        "_exit": _exit,
        "_retry": _retry,
    }.items()
]


@op
def talks(context: OpExecutionContext) -> None:
    context.log.info(plant("context log"))
    context.log.error(plant("context log error"))
    get_dagster_logger().warning(plant("dagster logger"))
    logging.getLogger("any").error(plant("python logger"))
    print(plant("print"))
    try:
        raise ValueError(plant("logged exception"))
    except ValueError:
        context.log.exception(plant("log exception"))


@op(out=Out(DagsterType(lambda _, value: TypeCheck(False, plant("type check"), {"was": plant("type check metadata")}), "Odd")))
def ill_typed() -> str:
    return "x"


@op
def wrong_value() -> int:
    return plant("value of the wrong type")  # type: ignore[return-value]


@op(tags={"note": plant("op tag")}, description="an op")
def tells() -> Iterator[Any]:
    yield AssetMaterialization(
        AssetKey(["acme", "x"]),
        description=plant("materialization description"),
        metadata={
            "text": plant("metadata text"),
            plant("metadata name"): 1,
            "note": NOT_A_COUNT,
            "float": 0.5,
            "md": MetadataValue.md(plant("metadata markdown")),
            "json": {"a": plant("metadata json")},
            "url": MetadataValue.url("http://x/" + plant("metadata url")),
            "path": MetadataValue.path("/" + plant("metadata path")),
            "PENDING": plant("count that is none"),
        },
        tags={"said": plant("materialization tag")},
        partition=plant("materialization partition"),
    )
    yield AssetMaterialization(AssetKey(["acme", plant("asset key") + " "]))
    yield AssetObservation(
        AssetKey(["acme", "x"]),
        description=plant("observation description"),
        metadata={"t": plant("observation metadata")},
        tags={"dagster/data_version": plant("observed data version")},
    )
    yield ExpectationResult(False, label=plant("expectation label"), description=plant("expectation"))
    yield Output(None, metadata={"t": plant("output metadata")})


@op(out=DynamicOut())
def several():  # type: ignore[no-untyped-def]
    yield DynamicOutput(1, mapping_key=plant("mapping key"))


@op
def each(item: int) -> None: ...


@failure_hook
def hook(_: Any) -> None:
    raise ValueError(plant("hook"))


@op
def fails() -> None:
    raise ValueError("for the hook")


@resource
def broken() -> None:
    raise ValueError(plant("resource"))


@op(required_resource_keys={"broken"})
def needs() -> None: ...


@job
def talking() -> None:
    talks()


@job
def ill() -> None:
    ill_typed()


@job
def wrong() -> None:
    wrong_value()


@job
def telling() -> None:
    tells()


@job
def mapping() -> None:
    several().map(each)


@job(hooks={hook})
def hooked() -> None:
    fails()


@job(resource_defs={"broken": broken})
def needing() -> None:
    needs()


@op
def configured(config: Typed) -> None: ...


@job
def configurable() -> None:
    configured()


JOBS = [*FAILING, talking, ill, wrong, telling, mapping, hooked, needing]


@asset(key=["acme", "ledgers", "things"], check_specs=[AssetCheckSpec("adds_up", asset=["acme", "ledgers", "things"])])
def things() -> MaterializeResult:  # type: ignore[type-arg] # Dagster reads it
    return MaterializeResult(
        metadata={"PENDING": 12, "t": plant("result metadata")},
        tags={"t": plant("result tag")},
        check_results=[
            AssetCheckResult(
                passed=False,
                check_name="adds_up",
                description=plant("check description"),
                metadata={"t": plant("check metadata")},
            )
        ],
    )
