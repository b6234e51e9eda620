"""Why a stage failed, in one line that begins with the cause and ends with the remedy."""

from orchestrator.fields import plugins
from orchestrator.plan.stage import Stage

NO_MEMORY = ("out of memory", "can't allocate memory", "low on memory", "MemoryError")
KILLED = ("Worker exit type: SYSTEM_ERROR", "killed by the OOM killer")
LESS_MEMORY = {
    "teacher": "lower teacher.batch_size or model.channels, or give the workers more memory",
    "student": "lower distill.batch_size or model.channels, or give the workers more memory",
}
MORE_MEMORY = "give the nodes more memory, or run fewer other processes there"


def cause(stage: Stage, error: BaseException) -> str:
    """The failure of `stage` in one line, from an error that Ray may have wrapped."""
    inner = innermost(error)
    text = f"{type(inner).__name__}: {inner}"
    remedy = LESS_MEMORY.get(stage.kind, MORE_MEMORY)
    for line in text.splitlines():
        if any(sign in line for sign in NO_MEMORY):
            return f"{stage.label}: out of memory: {remedy} ({line.strip()})"
    if any(sign in text for sign in KILLED):
        what = "its process was killed, most often because memory ran out"
        return f"{stage.label}: {what}: {remedy}"
    return f"{stage.label}: {first_line(inner)}"


def first_line(error: BaseException) -> str:
    """The innermost cause of an error that Ray has wrapped, in one line, with the line of the plugin
    that raised it."""
    inner = innermost(error)
    lines = [line for line in str(inner).strip().splitlines() if line.strip()]
    where = f" ({plugins.origin(inner)})" if plugins.origin(inner) else ""
    return f"{type(inner).__name__}: {lines[-1].strip() if lines else 'no message'}{where}"


def innermost(error: BaseException) -> BaseException:
    """The error that Ray has wrapped: of a task, or of the first failed worker of a group."""
    inner = getattr(error, "cause", None)
    if isinstance(inner, BaseException):
        return innermost(inner)
    failures = getattr(error, "worker_failures", None)
    return innermost(next(iter(failures.values()))) if failures else error
