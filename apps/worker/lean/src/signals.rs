//! Signals as reads of a descriptor: nothing of ours ever runs inside a signal handler.
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};

/// What a child's start and end count towards the trim of the heap: the walk through /proc that follows makes garbage.
pub const CHILD_TRAFFIC: usize = 16 * 1024;

/// The signals that are blocked and read. Children get an empty mask back (`spawn`).
pub struct Signals {
    mask: SigSet,
    fd: SignalFd,
}

impl Signals {
    /// Takes SIGCHLD; SIGTERM and SIGINT end the process as ever until somebody asks for them.
    pub fn new() -> Self {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block().expect("signals can be blocked");
        let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).expect("a signalfd");
        Self { mask, fd }
    }

    /// Takes SIGTERM and SIGINT as well.
    pub fn take_ends(&mut self) {
        self.mask.add(Signal::SIGTERM);
        self.mask.add(Signal::SIGINT);
        self.mask.thread_block().expect("signals can be blocked");
        self.fd.set_mask(&self.mask).expect("a signalfd takes more signals");
    }

    /// Readable when a signal waits.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The next signal that has arrived, if any.
    pub fn next(&self) -> Option<i32> {
        self.fd.read_signal().ok().flatten().map(|info| info.ssi_signo as i32)
    }
}
