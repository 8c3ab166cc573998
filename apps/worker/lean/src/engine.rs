//! The engine: its limits, the program's start, and what happens to an error that nobody caught.
use crate::{Program, event_loop, machine::Machine, natives, stack_lines};
use rquickjs::context::intrinsic;
use rquickjs::{CatchResultExt, CaughtError, Context, Ctx, Module, Object, Result, Runtime, Value, qjs};
use std::rc::Rc;

/// BSD's "internal software error".
const EXIT_UNCAUGHT: i32 = 70;
/// A record of 16 MiB is held several times while it is decoded, parsed and sent on; a worker that needs more than this leaks.
const MEMORY_LIMIT: usize = 256 * 1024 * 1024;
/// Of the 8 MiB that a process usually has. Deeper recursion is a JavaScript error, which costs one connection and not the process.
const STACK_LIMIT: usize = 512 * 1024;
/// Cycles are looked for each time the heap has grown by this; everything else is freed at once, by reference counts.
const GC_THRESHOLD: usize = 256 * 1024;

/// What the core uses and no more: each intrinsic costs memory in every process.
type Intrinsics = (
    intrinsic::Eval,
    intrinsic::RegExpCompiler,
    intrinsic::RegExp,
    intrinsic::Json,
    intrinsic::MapSet,
    intrinsic::TypedArrays,
    intrinsic::Promise,
);

/// Runs the program until it exits the process, or an uncaught error does.
pub fn run(program: &Program) -> ! {
    let machine = Rc::new(Machine::new());
    let runtime = Runtime::new().expect("memory for an engine");
    runtime.set_memory_limit(MEMORY_LIMIT);
    runtime.set_max_stack_size(STACK_LIMIT);
    runtime.set_gc_threshold(GC_THRESHOLD);
    let tracked = machine.clone();
    runtime.set_host_promise_rejection_tracker(Some(Box::new(move |_, _, reason, handled| {
        tracked.rejected(handled, || describe_value(&reason));
    })));
    let context = Context::custom::<Intrinsics>(&runtime).expect("memory for a context");
    context.with(|ctx| {
        let failure = match start(&ctx, &machine, program).catch(&ctx) {
            Ok(rejection) => rejection,
            Err(error) => {
                lift_memory_limit(&ctx);
                describe(&error)
            }
        };
        eprintln!("berth-worker: uncaught {}", stack_lines::map(&failure, program.name, program.lines));
        std::process::exit(EXIT_UNCAUGHT)
    })
}

/// The limit may be what was hit: describing the error must not hit it again.
fn lift_memory_limit(ctx: &Ctx) {
    // SAFETY: the context is alive, so its runtime is; only a number in it is set.
    unsafe { qjs::JS_SetMemoryLimit(qjs::JS_GetRuntime(ctx.as_raw().as_ptr()), 0) };
}

/// Returns only with a rejection that nobody handled; an error that nobody caught is the engine's.
fn start<'js>(ctx: &Ctx<'js>, machine: &Rc<Machine>, program: &Program) -> Result<String> {
    ctx.globals().set("native", natives::install(ctx, machine)?)?;
    // SAFETY: the bytes are this build's own, written by build.rs with the same version of the engine.
    let module = unsafe { Module::load(ctx.clone(), program.bytecode) }?;
    let (module, evaluated) = module.eval()?;
    evaluated.finish::<()>()?;
    event_loop::run(ctx, machine, &module.get::<_, Object>("loop")?)
}

fn describe(error: &CaughtError) -> String {
    match error {
        CaughtError::Exception(exception) => {
            let name: String = exception.as_object().get("name").unwrap_or_else(|_| "Error".into());
            format!("{name}: {}\n{}", exception.message().unwrap_or_default(), exception.stack().unwrap_or_default())
        }
        CaughtError::Value(value) => describe_value(value),
        CaughtError::Error(error) => error.to_string(),
    }
}

fn describe_value(value: &Value) -> String {
    match value.clone().into_exception() {
        Some(exception) => describe(&CaughtError::Exception(exception)),
        None => format!("{value:?}"),
    }
}
