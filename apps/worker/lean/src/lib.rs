//! The lean host: what berth-worker's TypeScript needs of the machine, on one thread.
//!
//! `natives` are the functions that the TypeScript calls (its side: apps/worker/host-lean/natives.ts); `event_loop` waits and
//! calls back. Neither knows what a worker is.
mod child;
mod descriptors;
mod engine;
mod event_loop;
mod files;
mod natives;
mod process;
mod signals;
mod sockets;
mod stack;

pub use engine::Program;

/// Exit code of an error that nobody caught: sysexits' EX_SOFTWARE.
pub const EXIT_UNCAUGHT: i32 = 70;

/// Runs a program to its end.
pub fn run(program: &Program) -> ! {
    std::panic::set_hook(Box::new(|info| {
        eprintln!("berth-worker: the host failed: {info}");
        std::process::exit(EXIT_UNCAUGHT);
    }));
    process::forbid_inheritance();
    // Before the first child: none may be missed.
    let signals = signals::Signals::block().expect("signals can be blocked");
    engine::run(program, &signals)
}
