// Loaded into berthd by NODE_OPTIONS: ends its log thread, as a crash does, once a file "end-log-thread" appears beside its socket.
import { existsSync, rmSync } from "node:fs";
import { registerHooks } from "node:module";
import { dirname, join } from "node:path";
import { isMainThread } from "node:worker_threads";

const trigger = join(dirname(process.env.BERTH_SOCKET ?? ""), "end-log-thread");

function look() {
  if (!existsSync(trigger)) return;
  rmSync(trigger);
  process.exit(9);
}

if (!isMainThread) {
  registerHooks({
    load(url, context, next) {
      if (/logs\.thread\./.test(url)) setInterval(look, 10).unref();
      return next(url, context);
    },
  });
}
