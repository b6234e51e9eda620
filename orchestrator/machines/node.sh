#!/usr/bin/env bash
# node.sh PROJECT ENVIRONMENT: what every node of a cluster has before Ray starts, as cluster.yaml's setup command. What
# is there already is left alone, so that a second start takes seconds.
#   DATA  data sets to make ready on the node, such as "celeba64 cifar10", from the files in DATA_ROOT (docs/data.md)
set -euo pipefail
PROJECT=$1 ENVIRONMENT=$2

# rsync keeps the token's mode, but an umask, or a token made by hand, may have left it readable by others
chmod 600 ~/.ray/auth_token

# Ubuntu's images have neither; `ray up` gives these commands a terminal, which must not be asked anything
if ! command -v make > /dev/null || ! python3 -c 'import ensurepip' 2> /dev/null; then
  sudo apt-get update -qq
  sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq make python3-venv
fi
make --no-print-directory -C "$PROJECT" install VENV="$ENVIRONMENT" EXTRAS=cluster

# a file of its own, read by ~/.bashrc: a changed value then replaces the old one. `ray down` and `ray exec` call a bare
# `ray` or `python` in such a shell; without the mode a node that has the token does not show it, and cannot join
cat > ~/.kacflow.sh <<END
export PATH="$ENVIRONMENT/bin:\$PATH"
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true
END
grep -qsF .kacflow.sh ~/.bashrc || echo 'source ~/.kacflow.sh' >> ~/.bashrc

for name in ${DATA:-}; do  # decoded once here, not by the first trial that gets to this node
  "$ENVIRONMENT/bin/python" -c 'import sys; from kaccore.data import load; print(len(load(sys.argv[1], sys.argv[2])))' \
    "$name" "${DATA_ROOT:?is where the data sets named by DATA lie}"
done
