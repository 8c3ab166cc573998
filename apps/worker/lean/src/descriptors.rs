//! The table of sockets and pipes that the loop polls.
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Asked for reading; as in native.ts.
pub const READ: u32 = 1;
/// Asked for writing.
pub const WRITE: u32 = 2;

struct Entry {
    id: u32,
    fd: OwnedFd,
    interest: u32,
}

/// A descriptor that has something to say.
pub struct Ready {
    /// Which.
    pub id: u32,
    /// Bytes, an end or an error can be read.
    pub readable: bool,
    /// Bytes can be written, or an error is to be seen.
    pub writable: bool,
}

/// Descriptors by number. Numbers are never used twice, unlike the kernel's: an event for a closed descriptor cannot reach the
/// next one that got its place.
pub struct Descriptors {
    entries: Vec<Entry>,
    next: u32,
}

impl Descriptors {
    pub fn new() -> Self {
        Self { entries: Vec::new(), next: 1 }
    }

    /// Takes a descriptor over; nothing is polled for it until `watch`.
    pub fn add(&mut self, fd: OwnedFd) -> u32 {
        let id = self.next;
        self.next += 1;
        self.entries.push(Entry { id, fd, interest: 0 });
        id
    }

    /// Sets what is polled for: READ, WRITE, both, or 0 for nothing.
    pub fn watch(&mut self, id: u32, interest: u32) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) {
            entry.interest = interest;
        }
    }

    pub fn get(&self, id: u32) -> Option<BorrowedFd<'_>> {
        self.entries.iter().find(|entry| entry.id == id).map(|entry| entry.fd.as_fd())
    }

    pub fn remove(&mut self, id: u32) -> Option<OwnedFd> {
        let index = self.entries.iter().position(|entry| entry.id == id)?;
        Some(self.entries.swap_remove(index).fd)
    }

    /// Waits for one of the watched descriptors that match `mask`, or for `extra`. Milliseconds; negative waits without end.
    /// Returns what is ready and whether `extra` is.
    pub fn wait(&self, mask: u32, extra: Option<BorrowedFd<'_>>, timeout: i32) -> (Vec<Ready>, bool) {
        let watched: Vec<&Entry> = self.entries.iter().filter(|entry| entry.interest & mask != 0).collect();
        let mut polled: Vec<PollFd> = watched.iter().map(|entry| PollFd::new(entry.fd.as_fd(), flags(entry.interest & mask))).collect();
        if let Some(extra) = extra {
            polled.push(PollFd::new(extra, PollFlags::POLLIN));
        }
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::NONE);
        match poll(&mut polled, timeout) {
            Ok(0) | Err(Errno::EINTR) => return (Vec::new(), false),
            Ok(_) => {}
            // Nothing that this process does can cause it; going on would be a busy loop.
            Err(error) => panic!("poll: {error}"),
        }
        let events: Vec<PollFlags> = polled.iter().map(|each| each.revents().unwrap_or(PollFlags::POLLERR)).collect();
        let ready = watched.iter().zip(&events).filter(|(_, events)| !events.is_empty()).map(|(entry, events)| {
            let broken = events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL);
            Ready {
                id: entry.id,
                readable: entry.interest & READ != 0 && (broken || events.contains(PollFlags::POLLIN)),
                writable: entry.interest & WRITE != 0 && (broken || events.contains(PollFlags::POLLOUT)),
            }
        });
        (ready.collect(), extra.is_some() && events.last().is_some_and(|events| !events.is_empty()))
    }
}

fn flags(interest: u32) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::POLLIN, interest & READ != 0);
    flags.set(PollFlags::POLLOUT, interest & WRITE != 0);
    flags
}
