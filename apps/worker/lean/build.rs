//! Compiles the bundles to bytecode, which the programs embed. BERTH_BUNDLES names the folder that scripts/build-worker.ts fills.
use rquickjs::module::WriteOptions;
use rquickjs::{CatchResultExt, Context, Module, Runtime};
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-env-changed=BERTH_BUNDLES");
    let folder = PathBuf::from(env::var("BERTH_BUNDLES").expect("run scripts/build-worker.ts, which makes the bundle first"));
    let target = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    compile(&folder, &target, "worker");
    if env::var_os("CARGO_FEATURE_PROBE").is_some() {
        compile(&folder, &target, "probe");
    }
}

/// `<name>.js` → `<name>.bc`, and beside it `<name>.lines`, which tells the TypeScript line of each line of the bundle.
fn compile(folder: &Path, target: &Path, name: &str) {
    let source = folder.join(format!("{name}.js"));
    let lines = folder.join(format!("{name}.lines"));
    println!("cargo:rerun-if-changed={}", source.display());
    println!("cargo:rerun-if-changed={}", lines.display());
    let text = fs::read(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    let runtime = Runtime::new().expect("an engine");
    let context = Context::full(&runtime).expect("a context");
    let bytecode = context.with(|ctx| {
        let module = Module::declare(ctx.clone(), name, text).catch(&ctx).unwrap_or_else(|error| panic!("{name}.js: {error}"));
        // Line numbers stay, for stacks; the source does not.
        let options = WriteOptions { strip_source: true, strip_debug: false, ..Default::default() };
        module.write(options).expect("the module's bytecode")
    });
    fs::write(target.join(format!("{name}.bc")), bytecode).expect("OUT_DIR is writable");
    fs::copy(&lines, target.join(format!("{name}.lines"))).expect("the bundle's line table");
}
