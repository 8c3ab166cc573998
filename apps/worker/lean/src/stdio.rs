//! This process's own stdout and stderr, and the descriptors that it was started with.
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::cell::OnceCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Where a pipe may not be opened once more: what fits into one that poll calls writable, whoever else writes to it at the moment.
const SHARED_CHUNK: usize = libc::PIPE_BUF;

thread_local! {
    /// stdout and stderr, opened once more for this process alone: O_NONBLOCK belongs to what it shares with the agent and its children.
    static OWN: [OnceCell<Option<OwnedFd>>; 2] = const { [OnceCell::new(), OnceCell::new()] };
}

/// Writes what can be written without waiting and returns how much that was; what nobody will ever read counts as written.
pub fn write(fd: i32, bytes: &[u8]) -> usize {
    with(fd, |shared| {
        OWN.with(|own| match own[usize::from(fd != 1)].get_or_init(|| reopen(shared)) {
            Some(own) => write_until_full(bytes, |left| nix::unistd::write(own, left)),
            None if kind(shared) == SFlag::S_IFREG => write_until_full(bytes, |left| nix::unistd::write(shared, left)),
            None => write_until_full(bytes, |left| write_shared(shared, left)),
        })
    })
}

fn write_until_full(bytes: &[u8], write: impl Fn(&[u8]) -> nix::Result<usize>) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        match write(&bytes[at..]) {
            Ok(count) => at += count,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return at,
            Err(_) => return bytes.len(),
        }
    }
    at
}

fn write_shared(fd: BorrowedFd<'_>, bytes: &[u8]) -> nix::Result<usize> {
    match send(fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
        Err(Errno::ENOTSOCK) => {}
        result => return result,
    }
    if poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::ZERO)? == 0 {
        return Err(Errno::EAGAIN);
    }
    nix::unistd::write(fd, &bytes[..bytes.len().min(SHARED_CHUNK)])
}

/// Fails for a pipe that another user made; for a socket there is no such thing.
fn reopen(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    if kind(fd) != SFlag::S_IFIFO {
        return None;
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    open(path.as_str(), OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty()).ok()
}

fn kind(fd: BorrowedFd<'_>) -> SFlag {
    fstat(fd).map_or(SFlag::empty(), |stat| SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()))
}

/// Kind ("file", "pipe", "other"), device and inode.
pub fn describe(fd: i32) -> Vec<String> {
    with(fd, |fd| {
        let Ok(stat) = fstat(fd) else { return vec!["other".into(), String::new(), String::new()] };
        let format = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        let kind = match format {
            SFlag::S_IFREG => "file",
            SFlag::S_IFIFO | SFlag::S_IFSOCK => "pipe",
            _ => "other",
        };
        vec![kind.into(), stat.st_dev.to_string(), stat.st_ino.to_string()]
    })
}

fn with<T>(fd: i32, action: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    if fd == 1 { action(std::io::stdout().as_fd()) } else { action(std::io::stderr().as_fd()) }
}

/// Makes a pipe's end one that never blocks.
pub fn unblock(fd: &OwnedFd) {
    let flags = fcntl(fd, FcntlArg::F_GETFL).map(nix::fcntl::OFlag::from_bits_truncate).unwrap_or(nix::fcntl::OFlag::empty());
    let _ = fcntl(fd, FcntlArg::F_SETFL(flags | nix::fcntl::OFlag::O_NONBLOCK));
}

/// Whatever the parent left open above stderr does not go on to children. Everything of ours is opened that way.
pub fn keep_inherited_from_children() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    for number in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if number <= std::io::stderr().as_raw_fd() {
            continue;
        }
        // SAFETY: borrowed for this one call; a number that is closed by now (the directory's own) fails with EBADF.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
}
