//! The memory in which the kernel put this process's arguments and environment: what `ps` and /proc show is read from there.
use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

static START: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static ARGUMENTS: AtomicUsize = AtomicUsize::new(0);
static WHOLE: AtomicUsize = AtomicUsize::new(0);

/// glibc calls what is listed here before main, with what main gets in C.
#[used]
#[unsafe(link_section = ".init_array")]
static REMEMBER: extern "C" fn(c_int, *const *mut c_char, *const *mut c_char) = remember;

extern "C" fn remember(_count: c_int, arguments: *const *mut c_char, environment: *const *mut c_char) {
    // SAFETY: both are arrays of strings that end with a null pointer, as the kernel lays them out for every program.
    let (first, end) = unsafe { extent(arguments, None) };
    // SAFETY: as above.
    let (_, whole_end) = unsafe { extent(environment, end) };
    let Some(first) = first else { return };
    let length = |end: Option<*mut u8>| end.map_or(0, |end| end as usize - first as usize);
    START.store(first, Ordering::Relaxed);
    ARGUMENTS.store(length(end), Ordering::Relaxed);
    WHOLE.store(length(whole_end.or(end)), Ordering::Relaxed);
}

/// First byte, and the byte behind the last, of strings that lie one behind the other; `end` is where the first must begin.
///
/// # Safety
/// `strings` must be an array of NUL-terminated strings, itself ended by a null pointer.
unsafe fn extent(strings: *const *mut c_char, end: Option<*mut u8>) -> (Option<*mut u8>, Option<*mut u8>) {
    let (mut first, mut end) = (None, end);
    for index in 0.. {
        // SAFETY: the null pointer that ends the array has not been met yet.
        let string = unsafe { *strings.add(index) };
        if string.is_null() || end.is_some_and(|end| end != string.cast()) {
            break;
        }
        first.get_or_insert(string.cast::<u8>());
        // SAFETY: a string of the array, so it has an end, and one byte behind its NUL is still part of the stack.
        end = Some(unsafe { string.add(CStr::from_ptr(string).to_bytes_with_nul().len()) }.cast());
    }
    (first, end)
}

/// Sets what `ps` shows. A title that is longer than the arguments goes on into the environment's place, which the kernel then
/// shows as well; the environment has moved to the heap before.
pub fn set_title(title: &str) {
    // A NUL would end it; 15 bytes of it become the name of the thread.
    let clean = title.replace('\0', " ");
    if let Ok(name) = CString::new(clean.clone()) {
        let _ = nix::sys::prctl::set_name(&name);
    }
    let (start, arguments, whole) = block();
    let room = if clean.len() < arguments { arguments } else { whole };
    if room == 0 {
        return;
    }
    if room == whole {
        move_environment();
    }
    let shown = &clean.as_bytes()[..clean.len().min(room - 1)];
    // SAFETY: start..start+room is this process's own block, written by nobody else (one thread); std copied the arguments when
    // it was asked for them, and nothing points into the environment's part since it moved.
    unsafe {
        std::ptr::write_bytes(start, 0, room);
        std::ptr::copy_nonoverlapping(shown.as_ptr(), start, shown.len());
    }
}

/// Takes a variable out of the environment and overwrites it where /proc/self/environ is read from.
pub fn erase_environment(name: &str) {
    if name.is_empty() || name.contains(['=', '\0']) {
        return;
    }
    let Some(value) = std::env::var_os(name) else { return };
    let entry = [name.as_bytes(), b"=", value.as_bytes()].concat();
    // SAFETY: there is one thread, so nobody reads the environment meanwhile.
    unsafe { std::env::remove_var(name) };
    let (start, arguments, whole) = block();
    // SAFETY: the block is ours and lives as long as the process; nobody else has a reference to this part of it.
    let block = unsafe { std::slice::from_raw_parts_mut(start.add(arguments), whole - arguments) };
    for string in block.split_mut(|byte| *byte == 0).filter(|string| **string == *entry) {
        string.fill(0);
    }
}

fn block() -> (*mut u8, usize, usize) {
    let start = START.load(Ordering::Relaxed);
    if start.is_null() {
        return (std::ptr::NonNull::dangling().as_ptr(), 0, 0);
    }
    (start, ARGUMENTS.load(Ordering::Relaxed), WHOLE.load(Ordering::Relaxed))
}

/// Copies every variable to the heap.
fn move_environment() {
    let all: Vec<_> = std::env::vars_os().collect();
    for (name, value) in all {
        let name: &OsStr = &name;
        // SAFETY: there is one thread, so nobody reads the environment meanwhile.
        unsafe { std::env::set_var(name, value) };
    }
}
