//! The engine: its limits, what of the language it has, and how an error ends the process.
use crate::{EXIT_UNCAUGHT, event_loop, natives, signals::Signals, stack};
use rquickjs::context::intrinsic;
use rquickjs::{CatchResultExt, CaughtError, Context, Ctx, Module, Runtime};

/// A compiled bundle.
pub struct Program {
    /// Made by this crate's build.rs, by the same build of the engine.
    pub bytecode: &'static [u8],
    /// For each line of the bundle, where it comes from; see `stack`.
    pub lines: &'static str,
}

/// Room for a record of 16 MiB as bytes, as text and as objects, several times over. A worker that needs more has lost its way.
const MEMORY_LIMIT: usize = 256 * 1024 * 1024;
/// Of the 8 MiB that a thread has; deeply nested JSON ends in a RangeError, not in a crash.
const STACK_LIMIT: usize = 512 * 1024;
/// A worker's live heap is about 200 kB: collecting cycles later than this would only grow it.
const GC_THRESHOLD: usize = 256 * 1024;

/// Runs the program on a new engine. Never returns: the program ends by `exit`, by an uncaught error, or by a signal.
pub fn run(program: &Program, signals: &Signals) -> ! {
    let runtime = Runtime::new().expect("memory for an engine");
    runtime.set_memory_limit(MEMORY_LIMIT);
    runtime.set_max_stack_size(STACK_LIMIT);
    runtime.set_gc_threshold(GC_THRESHOLD);
    // Only what the core uses. Without Date, Proxy and Intl a use of them fails in the first test that meets it.
    let context = Context::builder()
        .with::<intrinsic::Eval>()
        .with::<intrinsic::RegExpCompiler>()
        .with::<intrinsic::RegExp>()
        .with::<intrinsic::Json>()
        .with::<intrinsic::MapSet>()
        .with::<intrinsic::TypedArrays>()
        .with::<intrinsic::Promise>()
        .build(&runtime)
        .expect("memory for a context");
    context.with(|ctx| {
        let error = match start_and_loop(&ctx, program, signals).catch(&ctx) {
            Ok(never) => match never {},
            Err(error) => error,
        };
        eprintln!("berth-worker: uncaught error: {}", describe(&error, program.lines));
        std::process::exit(EXIT_UNCAUGHT)
    })
}

fn start_and_loop<'js>(ctx: &Ctx<'js>, program: &Program, signals: &Signals) -> rquickjs::Result<std::convert::Infallible> {
    ctx.globals().set("natives", natives::object(ctx)?)?;
    // SAFETY: the bytecode was written by build.rs with this very engine and is embedded; nobody else can give any.
    let module = unsafe { Module::load(ctx.clone(), program.bytecode) }?;
    let (_module, evaluation) = module.eval()?;
    evaluation.finish::<()>()?;
    event_loop::run(ctx, signals)
}

fn describe(error: &CaughtError<'_>, lines: &str) -> String {
    match error {
        CaughtError::Exception(exception) => {
            let message = exception.message().unwrap_or_else(|| "no message".to_owned());
            format!("{message}\n{}", stack::mapped(&exception.stack().unwrap_or_default(), lines))
        }
        other => other.to_string(),
    }
}
