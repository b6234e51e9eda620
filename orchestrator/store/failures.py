"""Why a stage failed, in one line that begins with the cause and ends with what to do about it."""

from orchestrator.plan.stage import Stage

NO_MEMORY = ("out of memory", "can't allocate memory", "low on memory", "MemoryError")
KILLED = ("Worker exit type: SYSTEM_ERROR", "killed by the OOM killer")
SMALLER = {
    "teacher": "lower teacher.batch_size or model.channels, or give the workers more memory",
    "student": "lower distill.batch_size or model.channels, or give the workers more memory",
}
ROOM = "give the nodes more memory, or run fewer things beside it"


def cause(stage: Stage, error: BaseException) -> str:
    """The innermost cause of an error, which Ray may have wrapped, for `stage`."""
    inner = innermost(error)
    text = f"{type(inner).__name__}: {inner}"
    remedy = SMALLER.get(stage.kind, ROOM)
    if any(sign in text for sign in NO_MEMORY):
        signs = [line for line in text.splitlines() if any(sign in line for sign in NO_MEMORY)]
        return f"{stage.label}: out of memory: {remedy} ({signs[0].strip()})"
    if any(sign in text for sign in KILLED):
        return f"{stage.label}: its process was killed, by somebody or, most often, for want of memory: {remedy}"
    return f"{stage.label}: {first_line(inner)}"


def first_line(error: BaseException) -> str:
    """The innermost cause of an error that Ray has wrapped, in one line."""
    inner = innermost(error)
    lines = [line for line in str(inner).strip().splitlines() if line.strip()]
    return f"{type(inner).__name__}: {lines[-1].strip() if lines else 'no message'}"


def innermost(error: BaseException) -> BaseException:
    """What Ray has wrapped: the error of a task, or of the first worker of a group that failed."""
    inner = getattr(error, "cause", None)
    if isinstance(inner, BaseException):
        return innermost(inner)
    failures = getattr(error, "worker_failures", None)
    return innermost(next(iter(failures.values()))) if failures else error
