//! Runs a program written against apps/worker/core/host.ts on QuickJS-ng.
//!
//! One thread, no async runtime: TypeScript (apps/worker/host-lean) keeps queues, timers and children; this crate offers it the
//! system calls (`natives`) and calls it back from one poll(2) loop (`event_loop`).
#![warn(missing_docs)]

mod birth;
mod descriptors;
mod engine;
mod event_loop;
mod files;
mod machine;
mod natives;
mod process_block;
mod signals;
mod sockets;
mod spawn;
mod stack_lines;
mod stdio;

/// A program to run: an ES module that exports `loop`, compiled by build.rs.
pub struct Program {
    /// The module's name, as stacks show it.
    pub name: &'static str,
    /// From the same engine version as this crate's.
    pub bytecode: &'static [u8],
    /// The table that leads from the bundle's lines to the TypeScript's; see `stack_lines`.
    pub lines: &'static str,
}

/// Runs the program until it exits. An uncaught error is printed, and the process exits with 70 (EX_SOFTWARE).
pub fn run(program: &Program) -> ! {
    engine::run(program)
}
