//! The program of the conformance tests (apps/worker/conformance).
fn main() -> ! {
    lean_host::run(&lean_host::Program {
        bytecode: include_bytes!(concat!(env!("OUT_DIR"), "/probe.bc")),
        lines: include_str!(concat!(env!("OUT_DIR"), "/probe.lines")),
    })
}
