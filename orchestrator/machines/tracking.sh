#!/usr/bin/env bash
# tracking.sh ENVIRONMENT FOLDER [PROCESS]: MLflow's tracking server with PostgreSQL, on this machine's loopback, behind
# a login. Everything it keeps lies in FOLDER. Started anew it goes on with what is there; where it runs already it is
# left alone. It ends with the last process called PROCESS, such as Ray's gcs_server; without one when it is killed.
#
# The login: ~/.mlflow/credentials, which MLflow's clients on this machine read by themselves. It is made here at the
# first start, of MLFLOW_TRACKING_PASSWORD where that is set, else at random, and never leaves the machine.
set -euo pipefail
umask 077
ENVIRONMENT=$1 FOLDER=$2 PROCESS=${3:-} PORT=${TRACKING_PORT:-5000}
CREDENTIALS=~/.mlflow/credentials
alive() { curl -sf -o /dev/null "http://127.0.0.1:$PORT/health"; }
alive && exit 0

if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null; then
  # the package would begin a database of its own, on a TCP port
  sudo mkdir -p /etc/postgresql-common
  echo 'create_main_cluster = false' | sudo tee /etc/postgresql-common/createcluster.conf > /dev/null
  sudo apt-get update -qq
  sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql
fi
POSTGRES=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
mkdir -p "$FOLDER" ~/.mlflow
as_owner() { "$@"; }
if [ "$(id -u)" = 0 ]; then  # PostgreSQL refuses to run as root
  as_owner() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
  chmod 711 "$FOLDER"
  install -d -o postgres -g postgres -m 700 "$FOLDER/database"
else
  mkdir -p "$FOLDER/database"
fi
cd "$FOLDER"

# reached through a socket in a folder of mode 700 alone: whoever may open it may do everything, nobody else anything
DATABASE=$FOLDER/database
if [ ! -f "$DATABASE/data/PG_VERSION" ]; then
  as_owner "$POSTGRES/initdb" -D "$DATABASE/data" -U mlflow --auth=trust -E UTF8 > "$DATABASE.log"
fi
as_owner "$POSTGRES/pg_ctl" -D "$DATABASE/data" status > /dev/null ||
  as_owner "$POSTGRES/pg_ctl" -D "$DATABASE/data" -l "$DATABASE/log" -w \
    -o "-k $DATABASE -c listen_addresses=''" start > /dev/null
there=$(as_owner "$POSTGRES/psql" -qAt -h "$DATABASE" -U mlflow -d postgres -c 'select datname from pg_database')
for name in runs logins; do
  grep -qx "$name" <<< "$there" || as_owner "$POSTGRES/createdb" -h "$DATABASE" -U mlflow "$name"
done

# PostgreSQL checks no password here, but MLflow does, of everybody who asks through HTTP
if [ ! -f "$CREDENTIALS" ]; then
  MADE=$("$ENVIRONMENT/bin/python" -c 'import secrets; print(secrets.token_urlsafe(24))')
  PASSWORD=${MLFLOW_TRACKING_PASSWORD:-$MADE}
  printf '[mlflow]\nmlflow_tracking_username = admin\nmlflow_tracking_password = %s\n' "$PASSWORD" > "$CREDENTIALS"
fi
uri() { echo "postgresql+psycopg2://mlflow@/$1?host=$DATABASE"; }
printf '[mlflow]\ndefault_permission = READ\ndatabase_uri = %s\nauthorization_function = %s\n' \
  "$(uri logins)" mlflow.server.auth:authenticate_request_basic_auth > login.ini
[ -f cookies ] || "$ENVIRONMENT/bin/python" -c 'import secrets; print(secrets.token_hex(32))' > cookies

# secrets travel in the environment: a command line is seen by everybody on the machine
export MLFLOW_AUTH_CONFIG_PATH=$FOLDER/login.ini MLFLOW_AUTH_ADMIN_USERNAME=admin
MLFLOW_AUTH_ADMIN_PASSWORD=$(sed -n 's/^mlflow_tracking_password = //p' "$CREDENTIALS")
MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat cookies)
export MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
# one worker and no jobs: two processes and 0.5 GB instead of fifteen and 1.5 GB, and only drivers write
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true
setsid nohup "$ENVIRONMENT/bin/python" -m mlflow server --app-name basic-auth --host 127.0.0.1 --port "$PORT" \
  --workers 1 --backend-store-uri "$(uri runs)" --artifacts-destination "$FOLDER/artifacts" \
  > server.log 2>&1 < /dev/null &

SERVER=$!
watch() {
  while pgrep -u "$(id -u)" -x "$PROCESS" > /dev/null; do sleep 2; done
  kill -- "-$SERVER"  # setsid has made it the first of a group, its workers with it
  as_owner "$POSTGRES/pg_ctl" -D "$DATABASE/data" -m fast stop > /dev/null
}
export -f watch as_owner
export PROCESS SERVER POSTGRES DATABASE
[ -z "$PROCESS" ] || setsid nohup bash -c watch > /dev/null 2>&1 < /dev/null &

for _ in $(seq 600); do
  alive && exit 0
  kill -0 "$SERVER" 2> /dev/null || { tail -20 server.log >&2; echo "tracking.sh: the server has ended" >&2; exit 1; }
  sleep 0.5
done
echo "tracking.sh: no answer on port $PORT after five minutes; see $FOLDER/server.log" >&2
exit 1
