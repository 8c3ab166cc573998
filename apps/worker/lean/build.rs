//! Compiles the bundles that scripts/build-worker made to bytecode, with the very engine that will run them.
use rquickjs::{Context, Module, Runtime, module::WriteOptions};
use std::{env, fs, path::Path};

fn main() {
    let bundles = env::var("BERTH_LEAN_BUNDLES").unwrap_or_else(|_| "target/bundles".into());
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    println!("cargo::rerun-if-env-changed=BERTH_LEAN_BUNDLES");
    for name in ["worker", "probe"] {
        let source = format!("{bundles}/{name}.js");
        let lines = format!("{bundles}/{name}.lines");
        println!("cargo::rerun-if-changed={source}");
        println!("cargo::rerun-if-changed={lines}");
        let text = fs::read(&source).unwrap_or_else(|error| panic!("{source}: {error}; run: npm run build:worker"));
        fs::write(Path::new(&out).join(format!("{name}.bytecode")), compile(name, text)).expect("OUT_DIR is writable");
        fs::copy(&lines, Path::new(&out).join(format!("{name}.lines"))).unwrap_or_else(|error| panic!("{lines}: {error}"));
    }
}

/// Without the source text (nobody calls toString on a function), with the line table (a stack must name lines).
fn compile(name: &str, source: Vec<u8>) -> Vec<u8> {
    let runtime = Runtime::new().expect("an engine");
    let context = Context::full(&runtime).expect("a context");
    context.with(|ctx| {
        let options = WriteOptions { strip_source: true, strip_debug: false, ..Default::default() };
        let module = Module::declare(ctx.clone(), format!("{name}.js"), source);
        match module.and_then(|module| module.write(options)) {
            Ok(bytecode) => bytecode,
            Err(error) => panic!("{name}.js does not compile: {error} {:?}", ctx.catch()),
        }
    })
}
