//! The functions that TypeScript sees as `native`; apps/worker/host-lean/native.ts is the other side of this list.
use crate::descriptors::WRITE;
use crate::machine::Machine;
use crate::{files, process_block, sockets, spawn, stdio};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use nix::errno::Errno;
use rquickjs::{ArrayBuffer, Ctx, Function, IntoJs, Object, Result, Value};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Makes the object with all natives.
pub fn install<'js>(ctx: &Ctx<'js>, machine: &Rc<Machine>) -> Result<Object<'js>> {
    stdio::keep_inherited_from_children();
    let natives = Object::new(ctx.clone())?;
    install_sockets(&natives, machine)?;
    install_processes(&natives, machine)?;
    install_machine(&natives)?;
    install_files(&natives)?;
    install_bytes(&natives)?;
    Ok(natives)
}

/// `$object.name = closure`.
macro_rules! define {
    ($object:expr, $($name:literal: $function:expr),* $(,)?) => {
        $( $object.set($name, Function::new($object.ctx().clone(), $function)?)?; )*
    };
}

fn install_sockets<'js>(natives: &Object<'js>, machine: &Rc<Machine>) -> Result<()> {
    let [unix, tcp, outcome, reader, writer, watcher, closer, waiter] = std::array::from_fn(|_| machine.clone());
    define!(natives,
        "connectUnix": move |path: String| added(&unix, sockets::connect_unix(&path)),
        "connectTcp": move |address: String, port: u16| added(&tcp, sockets::connect_tcp(&address, port)),
        "outcome": move |id: u32| outcome.descriptors.borrow().get(id).map_or(libc::EBADF, sockets::outcome),
        "read": move |ctx: Ctx<'js>, id: u32| read(ctx, &reader, id),
        "write": move |id: u32, buffer: ArrayBuffer<'js>, offset: usize, length: usize| {
            writer.count(length);
            writer.descriptors.borrow().get(id).map_or(-libc::EBADF, |fd| sockets::write(fd, part(&buffer, offset, length)))
        },
        "watch": move |id: u32, interest: u32| watcher.descriptors.borrow_mut().watch(id, interest),
        "close": move |id: u32| {
            if let Some(fd) = closer.descriptors.borrow_mut().remove(id) {
                sockets::close(fd);
            }
        },
        "waitWritable": move |timeout: i32| -> Vec<u32> {
            waiter.descriptors.borrow().wait(WRITE, None, timeout).0.iter().map(|ready| ready.id).collect()
        },
    );
    Ok(())
}

fn install_processes<'js>(natives: &Object<'js>, machine: &Rc<Machine>) -> Result<()> {
    let [spawner, signals] = std::array::from_fn(|_| machine.clone());
    define!(natives,
        // [pid, joined], [pid, joined, stdout, stderr] or [-errno, step].
        "spawn": move |request: spawn::Request| -> Vec<i32> {
            match spawn::spawn(request) {
                Err(failure) => vec![-failure.errno, failure.step],
                Ok(started) => {
                    let pipes = started.pipes.map_or(Vec::new(), |(stdout, stderr)| vec![stdout, stderr]);
                    let ids = pipes.into_iter().map(|pipe| add_pipe(&spawner, pipe));
                    [started.pid, started.joined.into()].into_iter().chain(ids).collect()
                }
            }
        },
        "kill": spawn::kill,
        "takeSignals": move || signals.signals.borrow_mut().take_ends(),
        "exit": |code: i32| -> () { std::process::exit(code) },
    );
    Ok(())
}

fn install_machine<'js>(natives: &Object<'js>) -> Result<()> {
    define!(natives,
        "wallClock": || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1e3),
        "monotonicClock": monotonic_clock,
        "errorName": |number: i32| format!("{:?}", Errno::from_raw(number)),
        "pid": std::process::id,
        "arguments": || std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        // Names and values in turn.
        "environment": || -> Vec<String> {
            let variables = std::env::vars_os();
            variables.flat_map(|(name, value)| [name, value]).map(|text| text.to_string_lossy().into_owned()).collect()
        },
        "eraseEnvironment": |name: String| process_block::erase_environment(&name),
        "setTitle": |text: String| process_block::set_title(&text),
        "descriptor": stdio::describe,
        "writeDescriptor": |fd: i32, buffer: ArrayBuffer<'js>, offset: usize, length: usize| stdio::write(fd, part(&buffer, offset, length)),
    );
    Ok(())
}

fn install_files(natives: &Object<'_>) -> Result<()> {
    define!(natives,
        "readTextFile": files::read_text,
        "writeTextFile": files::write_text,
        "listDirectory": files::list,
        "makeDirectory": files::make_directory,
        "removeDirectory": files::remove_directory,
        "readLink": files::read_link,
        "exists": files::exists,
    );
    Ok(())
}

fn install_bytes<'js>(natives: &Object<'js>) -> Result<()> {
    define!(natives,
        "encodeUtf8": |ctx: Ctx<'js>, text: String| ArrayBuffer::new_copy(ctx, text.as_bytes()),
        "decodeUtf8": |ctx: Ctx<'js>, buffer: ArrayBuffer<'js>, offset: usize, length: usize| {
            String::from_utf8_lossy(part(&buffer, offset, length)).into_js(&ctx)
        },
        "encodeBase64": |buffer: ArrayBuffer<'js>, offset: usize, length: usize| BASE64.encode(part(&buffer, offset, length)),
        "decodeBase64": |ctx: Ctx<'js>, text: String| ArrayBuffer::new(ctx, decode_base64(text)),
        "randomBytes": |ctx: Ctx<'js>, count: usize| {
            let mut bytes = vec![0u8; count];
            // Only a kernel without getrandom(2) fails, and nothing here may run on guessable numbers.
            getrandom::fill(&mut bytes).expect("random bytes");
            ArrayBuffer::new_copy(ctx, bytes)
        },
    );
    Ok(())
}

/// With padding or without; what is not of the alphabet is passed over.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

/// Empty where what is left of the text is of no possible length.
fn decode_base64(text: String) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    bytes.retain(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    BASE64.decode(bytes).unwrap_or_default()
}

/// The new descriptor's number, or a negative errno.
fn added(machine: &Machine, fd: nix::Result<OwnedFd>) -> i32 {
    match fd {
        Ok(fd) => machine.descriptors.borrow_mut().add(fd) as i32,
        Err(error) => -(error as i32),
    }
}

fn add_pipe(machine: &Machine, pipe: OwnedFd) -> i32 {
    stdio::unblock(&pipe);
    machine.descriptors.borrow_mut().add(pipe) as i32
}

/// Bytes, or a number: 0 at the end, a negative errno otherwise.
fn read<'js>(ctx: Ctx<'js>, machine: &Machine, id: u32) -> Result<Value<'js>> {
    let mut buffer = [0u8; sockets::READ_BYTES];
    let count = machine.descriptors.borrow().get(id).map_or(-libc::EBADF, |fd| sockets::read(fd, &mut buffer));
    if count <= 0 {
        return count.into_js(&ctx);
    }
    machine.count(count as usize);
    Ok(ArrayBuffer::new_copy(ctx, &buffer[..count as usize])?.into_value())
}

/// A part of a buffer; empty where there is no such part.
fn part<'a>(buffer: &'a ArrayBuffer<'_>, offset: usize, length: usize) -> &'a [u8] {
    // SAFETY: the engine runs no JavaScript, and so detaches or resizes no buffer, before the native that borrows here returns.
    let whole = unsafe { buffer.as_bytes() }.unwrap_or(&[]);
    whole.get(offset..offset.saturating_add(length)).unwrap_or(&[])
}

fn monotonic_clock() -> f64 {
    thread_local!(static START: std::time::Instant = std::time::Instant::now());
    START.with(|start| start.elapsed().as_secs_f64() * 1e3)
}
