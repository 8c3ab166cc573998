//! The functions that the TypeScript calls. Its declarations are in apps/worker/host-lean/natives.ts: change both together.
//!
//! Errors come back as their names ("ECONNREFUSED"), never as exceptions: an exception here would end the worker.
use crate::{child, descriptors, event_loop, files, process, sockets};
use rquickjs::{ArrayBuffer, Ctx, Function, IntoJs, Object, Result, Value};
use rustix::io::Errno;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The global object `natives`.
pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let natives = Object::new(ctx.clone())?;
    macro_rules! native {
        ($name:literal, $function:expr) => {
            natives.set($name, Function::new(ctx.clone(), $function)?)?
        };
    }
    native!("connectUnix", |path: String| outcome(sockets::connect_unix(&path)));
    native!("connectTcp", |address: String, port: u16| outcome(sockets::connect_tcp(&address, port)));
    native!("connectResult", |id: u32| sockets::connect_result(id).err().map(child::name));
    native!("read", read);
    native!("write", |id: u32, buffer: ArrayBuffer<'js>, offset: usize, length: usize| outcome(
        sockets::write(id, bytes(&buffer, offset, length)).map(|count| count as u32)
    ));
    native!("watch", descriptors::watch);
    native!("close", descriptors::close);
    native!("waitWritable", event_loop::wait_writable);

    let begun = Instant::now();
    native!("monotonicClock", move || begun.elapsed().as_secs_f64() * 1e3);
    native!("wallClock", || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1e3));

    native!("spawn", spawn);
    native!("kill", child::kill);
    native!("pid", std::process::id);
    native!("arguments", process::arguments);
    native!("environment", process::environment);
    native!("eraseEnvironment", |name: String| process::erase_environment(&name));
    native!("setTitle", |title: String| process::set_title(&title));
    native!("describe", process::describe);
    native!("writeWhole", |fd: i32, buffer: ArrayBuffer<'js>, offset: usize, length: usize| process::write_whole(
        fd,
        bytes(&buffer, offset, length)
    ));
    native!("exit", |code: i32| -> () { std::process::exit(code) });

    native!("readTextFile", |path: String| files::read_text(&path));
    native!("writeTextFile", |path: String, text: String| files::write_text(&path, &text));
    native!("listDirectory", |path: String| files::list(&path));
    native!("makeDirectory", |path: String| files::make_directory(&path));
    native!("removeDirectory", |path: String| files::remove_directory(&path));
    native!("readLink", |path: String| files::read_link(&path));

    native!("encodeUtf8", |ctx: Ctx<'js>, text: String| ArrayBuffer::new(ctx, text.into_bytes()));
    native!("decodeUtf8", |buffer: ArrayBuffer<'js>, offset: usize, length: usize| {
        String::from_utf8_lossy(bytes(&buffer, offset, length)).into_owned()
    });
    native!("randomBytes", |ctx: Ctx<'js>, count: usize| ArrayBuffer::new(ctx, random(count)));
    Ok(natives)
}

/// A number, or an error's name.
enum Outcome {
    Number(u32),
    Error(String),
}

impl<'js> IntoJs<'js> for Outcome {
    fn into_js(self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        match self {
            Self::Number(number) => number.into_js(ctx),
            Self::Error(name) => name.into_js(ctx),
        }
    }
}

fn outcome(result: std::result::Result<u32, Errno>) -> Outcome {
    match result {
        Ok(number) => Outcome::Number(number),
        Err(error) => Outcome::Error(child::name(error)),
    }
}

/// A part of a buffer; nothing where it lies outside.
fn bytes<'a>(buffer: &'a ArrayBuffer<'_>, offset: usize, length: usize) -> &'a [u8] {
    // SAFETY: the engine runs on this thread alone, and no TypeScript runs before the native function that holds this slice returns.
    let whole = unsafe { buffer.as_bytes() }.unwrap_or(&[]);
    offset.checked_add(length).and_then(|end| whole.get(offset..end)).unwrap_or(&[])
}

/// Bytes as an ArrayBuffer, null at the end, or an error's name.
fn read(ctx: Ctx<'_>, id: u32) -> Result<Value<'_>> {
    let mut buffer = [0u8; sockets::READ_SIZE];
    match sockets::read(id, &mut buffer) {
        Ok(0) => Ok(Value::new_null(ctx)),
        Ok(count) => ArrayBuffer::new_copy(ctx, &buffer[..count]).map(ArrayBuffer::into_value),
        Err(error) => child::name(error).into_js(&ctx),
    }
}

/// `[pid, stdout, stderr]`, or words.
fn spawn<'js>(ctx: Ctx<'js>, options: Object<'js>) -> Result<Value<'js>> {
    let limits: Vec<Object<'js>> = options.get("limits")?;
    let user: Option<Object<'js>> = options.get("user")?;
    let request = child::Request {
        argv: options.get("argv")?,
        environment: options.get("environment")?,
        directory: options.get("directory")?,
        pipes: options.get("pipes")?,
        user: user.map(|user| Ok::<_, rquickjs::Error>((user.get("uid")?, user.get("gid")?, user.get("groups")?))).transpose()?,
        limits: limits.iter().map(limit).collect::<Result<_>>()?,
        cgroup_files: options.get("cgroupFiles")?,
    };
    match child::spawn(request) {
        Ok(started) => vec![started.pid, started.stdout, started.stderr].into_js(&ctx),
        Err(words) => words.into_js(&ctx),
    }
}

/// Limits come as numbers of JavaScript, whole ones up to 2^53.
fn limit(limit: &Object<'_>) -> Result<(String, Option<u64>, Option<u64>)> {
    let whole = |value: Option<f64>| value.map(|value| value as u64);
    Ok((limit.get("type")?, whole(limit.get("soft")?), whole(limit.get("hard")?)))
}

fn random(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let mut filled = 0;
    while filled < count {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(Errno::INTR) => {}
            Err(error) => panic!("no random bytes: {error}"),
        }
    }
    bytes
}
