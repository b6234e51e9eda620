#!/bin/sh
# image.sh dependencies|project SOURCE: what Dockerfile and kacflow.def install, into /opt/kacflow. Two steps, because the
# first does not read the code: a change of the code then installs no dependency again.
#   EXTRAS  of pyproject.toml; "cluster" by default, which is what Kubernetes needs
set -eu
case "${1-}" in
  dependencies | project) ;;
  *)
    echo "image.sh: unknown step '${1-}': dependencies or project" >&2
    exit 2
    ;;
esac
PYTHON=/opt/kacflow/bin/python
[ -x "$PYTHON" ] || python -m venv /opt/kacflow
cd "$2"
pip_install() {
  "$PYTHON" -m pip install --no-cache-dir --no-compile --disable-pip-version-check --constraint constraints.txt "$@"
}
if [ "$1" = dependencies ]; then
  pip_install ".[${EXTRAS-cluster}]"
  exit
fi

pip_install --no-deps --force-reinstall .
# headers and tests, which nothing here compiles or runs
cd "$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
rm -rf torch/include torch/share pyarrow/include
find scipy sklearn sympy -type d -name tests -prune -exec rm -rf {} +
# bytecode of what a sweep imports: the user of a container cannot write it, and each of Ray's processes would compile
# torch again
cd /
"$PYTHON" -c 'import ray.train.torch, ray.tune, mlflow.pyfunc, orchestrator.console.run, orchestrator.execution.coordinator, orchestrator.work.worker, orchestrator.work.evaluation, orchestrator.tracking.tracker, orchestrator.reports.plotly_figures, orchestrator.plan.optuna_points'
