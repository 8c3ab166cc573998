//! The descriptors that the TypeScript works with, by numbers of our own: a number is never used twice, so that what poll said of a
//! closed descriptor is never taken for news of another one.
use rustix::event::PollFlags;
use rustix::io::Errno;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

struct Watched {
    fd: OwnedFd,
    interest: PollFlags,
}

#[derive(Default)]
struct Table {
    last: u32,
    entries: BTreeMap<u32, Watched>,
}

thread_local!(static TABLE: RefCell<Table> = RefCell::default());

/// Takes a descriptor in and returns its number, above 0.
pub fn add(fd: OwnedFd, interest: PollFlags) -> u32 {
    TABLE.with_borrow_mut(|table| {
        table.last += 1;
        table.entries.insert(table.last, Watched { fd, interest });
        table.last
    })
}

/// What to wait for. Errors and hang-ups are always told.
pub fn watch(id: u32, readable: bool, writable: bool) {
    TABLE.with_borrow_mut(|table| {
        if let Some(watched) = table.entries.get_mut(&id) {
            watched.interest = interest(readable, writable);
        }
    });
}

pub fn interest(readable: bool, writable: bool) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, readable);
    flags.set(PollFlags::OUT, writable);
    flags
}

pub fn close(id: u32) {
    TABLE.with_borrow_mut(|table| table.entries.remove(&id));
}

/// Does something with one descriptor; EBADF where it is closed.
pub fn with<Value>(id: u32, act: impl FnOnce(&OwnedFd) -> Result<Value, Errno>) -> Result<Value, Errno> {
    TABLE.with_borrow(|table| act(&table.entries.get(&id).ok_or(Errno::BADF)?.fd))
}

/// Calls `act` with the numbers, descriptors and interests of all.
pub fn with_all<Value>(act: impl FnOnce(&mut dyn Iterator<Item = (u32, &OwnedFd, PollFlags)>) -> Value) -> Value {
    TABLE.with_borrow(|table| act(&mut table.entries.iter().map(|(id, watched)| (*id, &watched.fd, watched.interest))))
}
