//! Signals as something to poll.
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};

/// SIGTERM, SIGINT and SIGCHLD, blocked and read from a descriptor.
pub struct Signals(SignalFd);

impl Signals {
    pub fn block() -> nix::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
            set.add(signal);
        }
        set.thread_block()?;
        SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map(Self)
    }

    /// The next one, by its number, or nothing.
    pub fn next(&self) -> Option<i32> {
        let info = self.0.read_signal().ok().flatten()?;
        i32::try_from(info.ssi_signo).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A child starts with nothing blocked: std leaves the mask as it is, and the child would be deaf to SIGTERM.
pub fn unblock_all() -> std::io::Result<()> {
    SigSet::empty().thread_set_mask().map_err(std::io::Error::from)
}
