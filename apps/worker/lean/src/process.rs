//! The process itself: its arguments, environment, title and standard descriptors.
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use std::fs::{self, File, OpenOptions};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;

/// Descriptors that the agent left open are not for our children.
pub fn forbid_inheritance() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|fd| *fd > 2).collect();
    for fd in open {
        // SAFETY: only a flag of the descriptor is changed, at once; one that is closed by now (the directory's) gives EBADF.
        let _ = fcntl_setfd(unsafe { BorrowedFd::borrow_raw(fd) }, FdFlags::CLOEXEC);
    }
}

pub fn arguments() -> Vec<String> {
    std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect()
}

/// Names and values in turn.
pub fn environment() -> Vec<String> {
    let pairs = std::env::vars_os().flat_map(|(name, value)| [name, value]);
    pairs.map(|text| text.to_string_lossy().into_owned()).collect()
}

/// Overwrites a variable in the memory that the kernel shows as /proc/self/environ. The TypeScript keeps the environment that
/// counts, so the name only has to go from there.
pub fn erase_environment(name: &str) -> bool {
    let erase = || -> Option<()> {
        let (start, _) = area(Area::Environment)?;
        let block = fs::read("/proc/self/environ").ok()?;
        let memory = own_memory()?;
        let mut at = 0;
        for entry in block.split(|byte| *byte == 0) {
            if entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'=')) {
                memory.write_all_at(&vec![0; entry.len()], start + at as u64).ok()?;
            }
            at += entry.len() + 1;
        }
        Some(())
    };
    erase().is_some()
}

/// What `ps` shows: the arguments' memory is overwritten, and the thread's name for `ps -o comm`. Cut to the room there is.
pub fn set_title(title: &str) {
    let name: Vec<u8> = title.bytes().filter(|byte| *byte != 0).take(15).collect();
    if let Ok(name) = std::ffi::CString::new(name) {
        let _ = rustix::thread::set_name(&name);
    }
    let Some((start, end)) = area(Area::Arguments) else { return };
    let Some(memory) = own_memory() else { return };
    let room = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
    let mut bytes = title.as_bytes()[..title.len().min(room.saturating_sub(1))].to_vec();
    // The last byte stays zero: else the kernel takes the environment behind it for more of the title.
    bytes.resize(room, 0);
    let _ = memory.write_all_at(&bytes, start);
}

enum Area {
    Arguments,
    Environment,
}

/// Where the kernel keeps the text of arguments and environment: proc_pid_stat(5), fields 48 to 51.
fn area(which: Area) -> Option<(u64, u64)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold blanks.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let first = match which {
        Area::Arguments => 48,
        Area::Environment => 50,
    } - 3;
    Some((fields.get(first)?.parse().ok()?, fields.get(first + 1)?.parse().ok()?))
}

/// By a file, not by pointers: these bytes belong to no Rust object, and a wrong address is an error instead of a crash.
fn own_memory() -> Option<File> {
    OpenOptions::new().write(true).open("/proc/self/mem").ok()
}

/// Kind, device and inode of stdout (1) or stderr (2).
pub fn describe(fd: i32) -> Vec<String> {
    let Ok(stat) = fstat(standard(fd)) else { return vec!["other".to_owned(), String::new(), String::new()] };
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "file",
        FileType::Fifo | FileType::Socket => "pipe",
        _ => "other",
    };
    vec![kind.to_owned(), stat.st_dev.to_string(), stat.st_ino.to_string()]
}

/// Writes everything, however long the reader takes. Gives up only where nobody can read any more.
pub fn write_whole(fd: i32, mut bytes: &[u8]) {
    let target = standard(fd);
    while !bytes.is_empty() {
        match rustix::io::write(target, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            // Somebody made the pipe non-blocking; output must stay whole all the same.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(target, PollFlags::OUT)], None);
            }
            Err(_) => return,
        }
    }
}

fn standard(fd: i32) -> BorrowedFd<'static> {
    if fd == 1 { rustix::stdio::stdout() } else { rustix::stdio::stderr() }
}
