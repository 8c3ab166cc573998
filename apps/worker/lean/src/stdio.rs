//! This process's own stdout and stderr, and the descriptors that it was started with.
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Writes everything, in order. Where the reader does not keep up this waits for it; where it is gone the rest is lost.
pub fn write(fd: i32, bytes: &[u8]) {
    with(fd, |fd| {
        let mut left = bytes;
        while !left.is_empty() {
            match nix::unistd::write(fd, left) {
                Ok(count) => left = &left[count..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let _ = poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::NONE);
                }
                Err(_) => return,
            }
        }
    });
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
