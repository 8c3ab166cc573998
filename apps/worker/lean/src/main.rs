//! berth-worker on the lean host.
use berth_lean::{Program, run};

fn main() {
    run(&Program {
        name: "worker.js",
        bytecode: include_bytes!(concat!(env!("OUT_DIR"), "/worker.bytecode")),
        lines: include_str!(concat!(env!("OUT_DIR"), "/worker.lines")),
    })
}
