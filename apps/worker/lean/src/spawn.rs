//! Child processes: started in a session of their own, with nothing of this process but what was asked for.
use crate::birth;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::unistd::{Gid, Pid, Uid, getppid, setgroups, setresgid, setresuid, setsid};
use rquickjs::{Ctx, FromJs, Object, Result, Value};
use std::io::{Error, PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// A spawn as TypeScript asks for it: `SpawnRequest` in native.ts.
pub struct Request {
    argv: Vec<String>,
    environment: Vec<(String, String)>,
    directory: String,
    piped: bool,
    user: Option<User>,
    rlimits: Vec<Limit>,
    cgroups: Vec<Cgroup>,
}

/// A cgroup for the child.
pub struct Cgroup {
    /// 1 or 2.
    pub version: i32,
    pub directory: String,
}

struct User {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

struct Limit {
    resource: Option<Resource>,
    soft: u64,
    hard: u64,
}

/// A child that runs.
pub struct Started {
    pub pid: i32,
    /// It is in all of the cgroups that were asked for.
    pub joined: bool,
    /// stdout and stderr, where they are piped.
    pub pipes: Option<(OwnedFd, OwnedFd)>,
}

/// Why a child does not run.
pub struct Failure {
    /// Where it failed: `SPAWN_STEPS` in apps/worker/host-lean/children.ts names them.
    pub step: i32,
    pub errno: i32,
}

/// How a child ended; exactly one of the two is there.
pub struct End {
    pub pid: i32,
    pub code: Option<i32>,
    pub signal: Option<i32>,
}

#[derive(Clone, Copy)]
enum Step {
    Session = 1,
    Limits = 2,
    User = 3,
    Parent = 4,
    Signals = 5,
}

/// std hands the number of the error that stopped the child to us as it is: above the errno it carries the step.
const STEP_SHIFT: i32 = 16;
/// Signals that a program may ignore or handle, and hand down to the programs it executes.
const LAST_STANDARD_SIGNAL: i32 = 31;

/// Starts a child.
pub fn spawn(request: Request) -> std::result::Result<Started, Failure> {
    let Some((program, arguments)) = request.argv.split_first() else { return Err(failure(libc::EINVAL)) };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(request.environment.iter().map(|(name, value)| (name, value)));
    command.current_dir(&request.directory).stdin(Stdio::null());
    let pipes = if request.piped { Some(pipes().map_err(|error| failure(error.raw_os_error().unwrap_or(libc::EMFILE)))?) } else { None };
    let pipes = pipes.map(|((stdout, out), (stderr, err))| {
        command.stdout(out).stderr(err);
        (OwnedFd::from(stdout), OwnedFd::from(stderr))
    });
    let parent = Pid::this();
    let Request { user, rlimits, .. } = request;
    // SAFETY: the closure runs in the child between fork and exec. This process has one thread, so no lock (the allocator's,
    // for one) can be held by a thread that the child does not have: anything that is allowed here is allowed there.
    unsafe { command.pre_exec(move || prepare(parent, &rlimits, user.as_ref())) };
    match birth::start(command, &request.cgroups) {
        Ok(birth::Born { pid, joined }) => Ok(Started { pid, joined, pipes }),
        Err(number) => Err(failure(number)),
    }
}

/// For stdout and for stderr, each from its reader to its writer.
fn pipes() -> std::io::Result<((PipeReader, PipeWriter), (PipeReader, PipeWriter))> {
    Ok((std::io::pipe()?, std::io::pipe()?))
}

/// What the child does before it becomes the program, in an order that matters: hard limits may be root's to raise, and a change
/// of the user takes the parent-death signal away again.
fn prepare(parent: Pid, limits: &[Limit], user: Option<&User>) -> std::io::Result<()> {
    at(Step::Session, setsid())?;
    for Limit { resource, soft, hard } in limits {
        let resource = at(Step::Limits, resource.ok_or(Errno::EINVAL))?;
        at(Step::Limits, setrlimit(resource, *soft, *hard))?;
    }
    if let Some(User { uid, gid, groups }) = user {
        at(Step::User, setgroups(groups))?;
        at(Step::User, setresgid(*gid, *gid, *gid))?;
        at(Step::User, setresuid(*uid, *uid, *uid))?;
    }
    at(Step::Parent, prctl::set_pdeathsig(Signal::SIGKILL))?;
    // The parent may have died before the line above: then nobody would ever send that signal.
    if getppid() != parent {
        return Err(tagged(Step::Parent, libc::ESRCH));
    }
    at(Step::Signals, reset_signals())
}

/// An empty mask (ours blocks what the signalfd reads) and no ignored signals (std ignores SIGPIPE, the agent may ignore others).
fn reset_signals() -> nix::Result<()> {
    for signal in 1..=LAST_STANDARD_SIGNAL {
        // SAFETY: SIG_DFL is no handler, nothing of ours can be called by it. SIGKILL and SIGSTOP refuse, which changes nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

fn at<T>(step: Step, result: nix::Result<T>) -> std::io::Result<T> {
    result.map_err(|error| tagged(step, error as i32))
}

fn tagged(step: Step, errno: i32) -> Error {
    Error::from_raw_os_error((step as i32) << STEP_SHIFT | errno)
}

fn failure(number: i32) -> Failure {
    Failure { step: number >> STEP_SHIFT, errno: number & ((1 << STEP_SHIFT) - 1) }
}

/// The next child that has ended, if any. nix's own waitpid knows no real-time signals and would lose a child that died of one.
pub fn next_end() -> Option<End> {
    let mut status = 0;
    // SAFETY: status lives longer than the call; -1 and WNOHANG ask for any child without waiting.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    let exited = libc::WIFEXITED(status);
    Some(End { pid, code: exited.then(|| libc::WEXITSTATUS(status)), signal: (!exited).then(|| libc::WTERMSIG(status)) })
}

/// kill(2), for any number that the kernel knows; false where it fails.
pub fn kill(pid: i32, signal: i32) -> bool {
    // SAFETY: takes two numbers.
    unsafe { libc::kill(pid, signal) == 0 }
}

impl<'js> FromJs<'js> for Request {
    fn from_js(_: &Ctx<'js>, value: Value<'js>) -> Result<Self> {
        let object = Object::from_value(value)?;
        let names: Vec<String> = object.get("names")?;
        let values: Vec<String> = object.get("values")?;
        let ids: Option<Vec<u32>> = object.get("ids")?;
        let limits: Vec<Object> = object.get("limits")?;
        let cgroups: Vec<Object> = object.get("cgroups")?;
        Ok(Self {
            argv: object.get("argv")?,
            environment: names.into_iter().zip(values).collect(),
            directory: object.get("directory")?,
            piped: object.get("piped")?,
            user: ids.and_then(|ids| match ids.as_slice() {
                [uid, gid, groups @ ..] => {
                    let groups = groups.iter().map(|group| Gid::from_raw(*group)).collect();
                    Some(User { uid: Uid::from_raw(*uid), gid: Gid::from_raw(*gid), groups })
                }
                _ => None,
            }),
            rlimits: limits.iter().map(limit).collect::<Result<_>>()?,
            cgroups: cgroups.iter().map(cgroup).collect::<Result<_>>()?,
        })
    }
}

fn cgroup(object: &Object) -> Result<Cgroup> {
    Ok(Cgroup { version: object.get("version")?, directory: object.get("directory")? })
}

fn limit(object: &Object) -> Result<Limit> {
    let value = |name: &str| -> Result<u64> { Ok(object.get::<_, Option<f64>>(name)?.map_or(RLIM_INFINITY, |value| value as u64)) };
    Ok(Limit { resource: resource(&object.get::<_, String>("type")?), soft: value("soft")?, hard: value("hard")? })
}

/// Mesos's names of limits (mesos.proto, RLimitInfo.RLimit.Type).
fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "RLMT_AS" => Resource::RLIMIT_AS,
        "RLMT_CORE" => Resource::RLIMIT_CORE,
        "RLMT_CPU" => Resource::RLIMIT_CPU,
        "RLMT_DATA" => Resource::RLIMIT_DATA,
        "RLMT_FSIZE" => Resource::RLIMIT_FSIZE,
        "RLMT_LOCKS" => Resource::RLIMIT_LOCKS,
        "RLMT_MEMLOCK" => Resource::RLIMIT_MEMLOCK,
        "RLMT_MSGQUEUE" => Resource::RLIMIT_MSGQUEUE,
        "RLMT_NICE" => Resource::RLIMIT_NICE,
        "RLMT_NOFILE" => Resource::RLIMIT_NOFILE,
        "RLMT_NPROC" => Resource::RLIMIT_NPROC,
        "RLMT_RSS" => Resource::RLIMIT_RSS,
        "RLMT_RTPRIO" => Resource::RLIMIT_RTPRIO,
        "RLMT_RTTIME" => Resource::RLIMIT_RTTIME,
        "RLMT_SIGPENDING" => Resource::RLIMIT_SIGPENDING,
        "RLMT_STACK" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}
