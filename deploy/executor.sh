#!/bin/sh
# The command of an executor for frameworks that start a shell wrapper: gives the worker the host's environment and becomes it.
#
#   /etc/default/berth                  NAME=value lines as systemd reads them; what the framework has set wins
#   /opt/mesos/executor-environment.sh  a shell script, run as it is: the place where sidecar-executor's wrapper looks.
#                                       SIDECAR_EXECUTOR_CUSTOM_ENV_PATH names another one
#
# The worker is started where it is installed, never copied: all tasks share its pages in memory, and an upgrade reaches new
# tasks only, because a running one keeps the file that it was started from. BERTH_WORKER names another worker,
# BERTH_ENVIRONMENT_FILE another file than /etc/default/berth.
set -u

# read_settings FILE: sets and exports what is not set yet. Not sourced: systemd's format allows unquoted blanks.
read_settings() {
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in '' | '#'* | ';'*) continue ;; esac
    name=${line%%=*}
    case $name in "$line" | '' | [0-9]* | *[!A-Za-z0-9_]*) continue ;; esac
    value=${line#*=}
    case $value in
      \"*\") value=${value#\"} value=${value%\"} ;;
      \'*\') value=${value#\'} value=${value%\'} ;;
    esac
    eval "[ -n \"\${$name+set}\" ]" || export "$name=$value"
  done <"$1"
}

settings=${BERTH_ENVIRONMENT_FILE:-/etc/default/berth}
[ -r "$settings" ] && read_settings "$settings"
script=${SIDECAR_EXECUTOR_CUSTOM_ENV_PATH:-/opt/mesos/executor-environment.sh}
if [ -r "$script" ]; then
  # A path without a slash would be looked for in PATH.
  case $script in */*) ;; *) script=./$script ;; esac
  set +u
  . "$script"
  set -u
fi

self=$0
while [ -h "$self" ]; do
  target=$(readlink "$self")
  case $target in /*) self=$target ;; *) self=${self%/*}/$target ;; esac
done
worker=${BERTH_WORKER:-${self%/*}/../bin/berth-worker}
if [ ! -x "$worker" ]; then
  echo "executor.sh: there is no worker at $worker; set BERTH_WORKER to where berth-worker is installed" >&2
  exit 127
fi
exec "$worker" "$@"
