//! berth-worker on QuickJS-ng.
fn main() -> ! {
    lean_host::run(&lean_host::Program {
        bytecode: include_bytes!(concat!(env!("OUT_DIR"), "/worker.bc")),
        lines: include_str!(concat!(env!("OUT_DIR"), "/worker.lines")),
    })
}
