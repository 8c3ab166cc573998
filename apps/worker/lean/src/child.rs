//! Child processes: started in a session of their own, reaped by the loop.
use crate::{descriptors, signals};
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions};
use rustix::thread::{Gid, Uid};
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// What the TypeScript's `SpawnOptions` become.
pub struct Request {
    pub argv: Vec<String>,
    /// Names and values in turn.
    pub environment: Vec<String>,
    pub directory: String,
    pub pipes: bool,
    /// uid, gid, and the supplementary groups.
    pub user: Option<(u32, u32, Vec<u32>)>,
    /// "RLMT_NOFILE", soft, hard; nothing means unlimited.
    pub limits: Vec<(String, Option<u64>, Option<u64>)>,
    pub cgroup_files: Vec<String>,
}

pub struct Started {
    pub pid: u32,
    /// The pipes' numbers in the table of descriptors; 0 where there are none.
    pub stdout: u32,
    pub stderr: u32,
}

/// Starts a process, or says in words why not, the error's name first.
pub fn spawn(request: Request) -> Result<Started, String> {
    let program = request.argv.first().cloned().unwrap_or_default();
    if !std::path::Path::new(&request.directory).is_dir() {
        return Err(format!("ENOENT: the directory {} does not exist", request.directory));
    }
    if program.is_empty() {
        return Err("EINVAL: there is no program to run".to_owned());
    }
    let mut command = Command::new(&program);
    command.args(&request.argv[1..]).current_dir(&request.directory).env_clear();
    command.envs(request.environment.chunks_exact(2).map(|pair| (&pair[0], &pair[1])));
    let output = || if request.pipes { Stdio::piped() } else { Stdio::inherit() };
    command.stdin(Stdio::null()).stdout(output()).stderr(output());
    let setup = Setup::from(&request)?;
    // SAFETY: this process has one thread, so the copy of it that runs the closure holds no lock of anyone; the closure makes
    // system calls and touches nothing that the parent shares.
    unsafe { command.pre_exec(move || setup.apply()) };
    let mut child = command.spawn().map_err(|error| describe(&error, &program))?;
    let started = Started { pid: child.id(), stdout: adopt(child.stdout.take().map(OwnedFd::from)), stderr: adopt(child.stderr.take().map(OwnedFd::from)) };
    // `child` is dropped without a wait: the loop reaps every child by itself.
    Ok(started)
}

fn adopt(pipe: Option<OwnedFd>) -> u32 {
    let Some(pipe) = pipe else { return 0 };
    match rustix::io::ioctl_fionbio(&pipe, true) {
        Ok(()) => descriptors::add(pipe, PollFlags::IN),
        Err(_) => 0,
    }
}

/// What the child does between fork and exec, prepared before the fork.
struct Setup {
    parent: Option<Pid>,
    cgroup_files: Vec<CString>,
    limits: Vec<(Resource, Rlimit)>,
    user: Option<(Uid, Gid, Vec<Gid>)>,
}

impl Setup {
    fn from(request: &Request) -> Result<Self, String> {
        let files = request.cgroup_files.iter().map(|file| CString::new(file.as_str()).map_err(|_| format!("EINVAL: cgroup file {file}")));
        let limits = request.limits.iter().map(|(name, soft, hard)| Ok((resource(name)?, Rlimit { current: *soft, maximum: *hard })));
        let user = request.user.as_ref().map(|(uid, gid, groups)| {
            (Uid::from_raw(*uid), Gid::from_raw(*gid), groups.iter().map(|group| Gid::from_raw(*group)).collect())
        });
        Ok(Self {
            parent: Some(rustix::process::getpid()),
            cgroup_files: files.collect::<Result<_, String>>()?,
            limits: limits.collect::<Result<_, String>>()?,
            user,
        })
    }

    fn apply(&self) -> io::Result<()> {
        // What needs our own rights comes before we give them up.
        for file in &self.cgroup_files {
            let pid = rustix::process::getpid().as_raw_nonzero().get().to_string();
            let file = rustix::fs::open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::write(file, pid.as_bytes())?;
        }
        for (resource, limit) in &self.limits {
            rustix::process::setrlimit(*resource, *limit)?;
        }
        if let Some((uid, gid, groups)) = &self.user {
            // The raw calls change one thread's ids, and there is one thread.
            rustix::thread::set_thread_groups(groups)?;
            rustix::thread::set_thread_res_gid(*gid, *gid, *gid)?;
            rustix::thread::set_thread_res_uid(*uid, *uid, *uid)?;
        }
        rustix::process::setsid()?;
        // After the ids: the kernel forgets it when they change.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != self.parent {
            return Err(Errno::SRCH.into());
        }
        signals::unblock_all()
    }
}

fn resource(name: &str) -> Result<Resource, String> {
    Ok(match name {
        "RLMT_AS" => Resource::As,
        "RLMT_CORE" => Resource::Core,
        "RLMT_CPU" => Resource::Cpu,
        "RLMT_DATA" => Resource::Data,
        "RLMT_FSIZE" => Resource::Fsize,
        "RLMT_LOCKS" => Resource::Locks,
        "RLMT_MEMLOCK" => Resource::Memlock,
        "RLMT_MSGQUEUE" => Resource::Msgqueue,
        "RLMT_NICE" => Resource::Nice,
        "RLMT_NOFILE" => Resource::Nofile,
        "RLMT_NPROC" => Resource::Nproc,
        "RLMT_RSS" => Resource::Rss,
        "RLMT_RTPRIO" => Resource::Rtprio,
        "RLMT_RTTIME" => Resource::Rttime,
        "RLMT_SIGPENDING" => Resource::Sigpending,
        "RLMT_STACK" => Resource::Stack,
        _ => return Err(format!("EINVAL: unknown limit {name}")),
    })
}

fn describe(error: &io::Error, program: &str) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => format!("ENOENT: {program} does not exist"),
        Some(code) => format!("{}: {program} cannot be started: {error}", name(code)),
        None => format!("EINVAL: {program} cannot be started: {error}"),
    }
}

/// "ECONNREFUSED" and the like.
pub fn name(error: Errno) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(error.raw_os_error()))
}

pub struct End {
    pub pid: i32,
    pub code: Option<i32>,
    pub signal: Option<i32>,
}

/// The next child that has ended.
pub fn reap() -> Option<End> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let pid = pid.as_raw_nonzero().get();
                return Some(End { pid, code: status.exit_status(), signal: status.terminating_signal() });
            }
            Err(Errno::INTR) => {}
            // None has ended, or there is none.
            Ok(None) | Err(_) => return None,
        }
    }
}

/// kill(2): a negative pid is a process group, signal 0 only looks. False where there is no such process.
pub fn kill(pid: i32, signal: i32) -> bool {
    let pid = nix::unistd::Pid::from_raw(pid);
    if signal == 0 {
        return nix::sys::signal::kill(pid, None).is_ok();
    }
    nix::sys::signal::Signal::try_from(signal).is_ok_and(|signal| nix::sys::signal::kill(pid, signal).is_ok())
}
