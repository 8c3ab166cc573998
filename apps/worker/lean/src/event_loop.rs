//! The one loop: timers, signals, children, descriptors.
use crate::descriptors::{READ, WRITE};
use crate::machine::Machine;
use crate::{signals, spawn};
use rquickjs::{Ctx, Function, Object, Result};

/// After this much traffic the heap is worth a trim.
const TRIM_AFTER_BYTES: usize = 256 * 1024;
/// How long it must be quiet before that, milliseconds: a trim costs page faults to whoever goes on at once.
const QUIET_MS: i32 = 1000;

/// The functions of the program's exported `loop`; see apps/worker/host-lean/native.ts.
struct Callbacks<'js> {
    run_timers: Function<'js>,
    ready: Function<'js>,
    child_ended: Function<'js>,
    signal: Function<'js>,
}

/// Runs until the program exits the process; returns only with a promise's rejection that nobody handled.
pub fn run<'js>(ctx: &Ctx<'js>, machine: &Machine, program: &Object<'js>) -> Result<String> {
    let callbacks = Callbacks {
        run_timers: program.get("runTimers")?,
        ready: program.get("ready")?,
        child_ended: program.get("childEnded")?,
        signal: program.get("signal")?,
    };
    run_jobs(ctx);
    loop {
        let next: i32 = callbacks.run_timers.call(())?;
        // What promises left to do may have set timers.
        let next = if run_jobs(ctx) { 0 } else { next };
        if let Some(reason) = machine.unhandled_rejection() {
            return Ok(format!("rejection: {reason}"));
        }
        let (ready, signalled) = {
            let trim = machine.traffic.get() >= TRIM_AFTER_BYTES;
            let wait = if trim && !(0..=QUIET_MS).contains(&next) { QUIET_MS } else { next };
            let found = machine.descriptors.borrow().wait(READ | WRITE, Some(machine.signals.borrow().descriptor()), wait);
            if trim && wait == QUIET_MS && found.0.is_empty() && !found.1 {
                trim_heap(ctx, machine);
            }
            found
        };
        if signalled {
            take_signals(ctx, machine, &callbacks)?;
        }
        for each in ready {
            callbacks.ready.call::<_, ()>((each.id, each.readable, each.writable))?;
            run_jobs(ctx);
        }
    }
}

fn take_signals(ctx: &Ctx<'_>, machine: &Machine, callbacks: &Callbacks<'_>) -> Result<()> {
    loop {
        // Its own statement: the callback may ask for more signals.
        let next = machine.signals.borrow().next();
        match next {
            None => return Ok(()),
            Some(libc::SIGCHLD) => {
                while let Some(end) = spawn::next_end() {
                    machine.count(signals::CHILD_TRAFFIC);
                    callbacks.child_ended.call::<_, ()>((end.pid, end.code, end.signal))?;
                    run_jobs(ctx);
                }
            }
            Some(signal) => {
                callbacks.signal.call::<_, ()>((signal,))?;
                run_jobs(ctx);
            }
        }
    }
}

/// Runs what promises left to do. Returns whether there was anything.
fn run_jobs(ctx: &Ctx<'_>) -> bool {
    let mut ran = false;
    while ctx.execute_pending_job() {
        ran = true;
    }
    ran
}

/// Gives memory that a burst took back to the kernel.
fn trim_heap(ctx: &Ctx<'_>, machine: &Machine) {
    ctx.run_gc();
    // SAFETY: takes no pointers; the allocator is not in use at this moment, there is one thread.
    unsafe { libc::malloc_trim(0) };
    machine.traffic.set(0);
}
