//! The memory in which the kernel put this process's arguments and environment: what `ps` and /proc show is read from there.
//!
//! It is written through /proc/self/mem, not by pointers: these bytes belong to no Rust object, and a wrong address is an error
//! instead of a crash. Who wants the arguments or the environment reads them before (native.ts says so).
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Bytes of the thread's name, without the NUL.
const MAX_NAME: usize = 15;

/// Sets what `ps` shows. A title that is longer than the arguments goes on in the environment's place, which the kernel then
/// shows as well (since Linux 5.3; before, it shows what fits).
pub fn set_title(title: &str) {
    // A NUL would end it.
    let clean = title.replace('\0', " ");
    if let Ok(name) = CString::new(&clean.as_bytes()[..clean.len().min(MAX_NAME)]) {
        let _ = nix::sys::prctl::set_name(&name);
    }
    let Some((arguments, environment)) = areas() else { return };
    let whole = if environment.start == arguments.end { arguments.start..environment.end } else { arguments.clone() };
    let area = if clean.len() < length(&arguments) { arguments } else { whole };
    let room = length(&area);
    // The rest is zeros: where the arguments' last byte is zero, the kernel looks no further.
    let mut bytes = clean.into_bytes();
    bytes.truncate(room.saturating_sub(1));
    bytes.resize(room, 0);
    write(area.start, &bytes);
}

/// Overwrites a variable with zeros.
pub fn erase_environment(name: &str) {
    let Some((_, environment)) = areas() else { return };
    let Ok(block) = fs::read("/proc/self/environ") else { return };
    let mut at = environment.start;
    for entry in block.split(|byte| *byte == 0) {
        if entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'=')) {
            write(at, &vec![0; entry.len()]);
        }
        at += entry.len() as u64 + 1;
    }
}

/// Where arguments and environment are: proc_pid_stat(5), fields 48 to 51.
fn areas() -> Option<(Range<u64>, Range<u64>)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold blanks; the next one is the third.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(48 - 3).map_while(|field| field.parse::<u64>().ok());
    Some((fields.next()?..fields.next()?, fields.next()?..fields.next()?))
}

fn length(area: &Range<u64>) -> usize {
    usize::try_from(area.end.saturating_sub(area.start)).unwrap_or(0)
}

fn write(address: u64, bytes: &[u8]) {
    if let Ok(memory) = OpenOptions::new().write(true).open("/proc/self/mem") {
        let _ = memory.write_all_at(bytes, address);
    }
}
