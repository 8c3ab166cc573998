//! A child's birth: a fork, if possible right into the cgroups that the child belongs to, and then the program in its place.
//!
//! std's own spawn cannot start a child in another cgroup; everything else that it does on the child's side, its `exec` does too.
use crate::spawn::Cgroup;
use nix::unistd::{ForkResult, fork};
use std::fs::{File, OpenOptions};
use std::io::{PipeReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// linux/sched.h
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// What the child says when it could not join a cgroup, among what may be an error's number. It goes on all the same.
const NOT_JOINED: i32 = 0;

/// struct clone_args of linux/sched.h, as of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A child that has become the program.
pub struct Born {
    pub pid: i32,
    /// It is in all of its cgroups.
    pub joined: bool,
}

/// The ways into cgroups, opened before the fork: a child must not need what it has no right to.
struct Ways {
    /// A v2 directory to be born in.
    birthplace: Option<File>,
    /// The file of it that a child writes to which was born elsewhere.
    birthplace_tasks: Option<File>,
    /// v1's: one thread moves at once, a whole process would wait for the kernel.
    tasks: Vec<File>,
    complete: bool,
}

/// Starts the program that `command` names. On failure the number of the error that the child met, as std gives it.
pub fn start(mut command: Command, cgroups: &[Cgroup]) -> Result<Born, i32> {
    let ways = open(cgroups);
    let (mut report, mut told) = std::io::pipe().map_err(|error| number(&error))?;
    let (forked, inside) = fork_into(ways.birthplace.as_ref()).map_err(|error| error as i32)?;
    let ForkResult::Parent { child } = forked else {
        if !join(&ways, inside) {
            let _ = told.write_all(&NOT_JOINED.to_ne_bytes());
        }
        // Both ends are closed by the exec. It returns only when it fails.
        let error = command.exec();
        let _ = told.write_all(&number(&error).to_ne_bytes());
        // SAFETY: ends the child at once, without the destructors and buffers that are its parent's.
        unsafe { libc::_exit(1) }
    };
    drop(told);
    // With it go the child's ends of its pipes.
    drop(command);
    let mut joined = ways.complete;
    while let Some(number) = next(&mut report) {
        if number != NOT_JOINED {
            // It has ended, or is about to: nobody else may wait for it.
            let _ = nix::sys::wait::waitpid(child, None);
            return Err(number);
        }
        joined = false;
    }
    Ok(Born { pid: child.as_raw(), joined })
}

fn open(cgroups: &[Cgroup]) -> Ways {
    let mut ways = Ways { birthplace: None, birthplace_tasks: None, tasks: Vec::new(), complete: true };
    for Cgroup { version, directory } in cgroups {
        let file = if *version == 2 { "cgroup.procs" } else { "tasks" };
        match OpenOptions::new().write(true).open(format!("{directory}/{file}")) {
            Ok(tasks) if *version == 2 => (ways.birthplace, ways.birthplace_tasks) = (File::open(directory).ok(), Some(tasks)),
            Ok(tasks) => ways.tasks.push(tasks),
            Err(_) => ways.complete = false,
        }
    }
    ways
}

/// Forks; second is whether the child is in the cgroup. A kernel before 5.7 has no such fork, and a seccomp filter may refuse it.
fn fork_into(cgroup: Option<&File>) -> nix::Result<(ForkResult, bool)> {
    if let Some(cgroup) = cgroup {
        let arguments = CloneArguments {
            flags: CLONE_INTO_CGROUP,
            exit_signal: libc::SIGCHLD as u64,
            cgroup: cgroup.as_raw_fd() as u64,
            ..CloneArguments::default()
        };
        // SAFETY: without CLONE_VM this is fork(2): the child has a copy of everything. This process has one thread, so no lock is
        // held by a thread that the child does not have; libc's note of the thread's id is the parent's, which nothing asks for
        // before the exec.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>()) };
        match pid {
            0 => return Ok((ForkResult::Child, true)),
            1.. => return Ok((ForkResult::Parent { child: nix::unistd::Pid::from_raw(pid as i32) }, true)),
            _ => {}
        }
    }
    // SAFETY: as above.
    unsafe { fork() }.map(|forked| (forked, false))
}

/// In the child: goes to the cgroups that it was not born in. 0 is who writes.
fn join(ways: &Ways, inside: bool) -> bool {
    let birthplace = ways.birthplace_tasks.iter().filter(|_| !inside);
    // All of them, also behind one that fails.
    birthplace.chain(&ways.tasks).filter(|tasks| { *tasks }.write_all(b"0").is_err()).count() == 0
}

/// The next number that the child tells; none when the program has taken its place.
fn next(report: &mut PipeReader) -> Option<i32> {
    let mut bytes = [0; size_of::<i32>()];
    report.read_exact(&mut bytes).ok().map(|()| i32::from_ne_bytes(bytes))
}

/// No number: std refused an argument with a NUL in it.
fn number(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EINVAL)
}
