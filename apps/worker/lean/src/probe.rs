//! The probe of the conformance tests on the lean host.
use berth_lean::{Program, run};

fn main() {
    run(&Program {
        name: "probe.js",
        bytecode: include_bytes!(concat!(env!("OUT_DIR"), "/probe.bytecode")),
        lines: include_str!(concat!(env!("OUT_DIR"), "/probe.lines")),
    })
}
