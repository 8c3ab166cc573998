//! Small files: procfs and cgroupfs.
use std::fs;
use std::io::Write;

/// Malformed UTF-8 becomes U+FFFD, as in Node.
pub fn read_text(path: &str) -> Option<String> {
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// In one write, as cgroupfs wants it, into a file that exists.
pub fn write_text(path: &str, text: &str) -> bool {
    fs::OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(text.as_bytes())).is_ok()
}

pub fn list(path: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

pub fn make_directory(path: &str) -> bool {
    fs::create_dir(path).is_ok() || fs::metadata(path).is_ok()
}

pub fn remove_directory(path: &str) -> bool {
    fs::remove_dir(path).is_ok()
}

pub fn read_link(path: &str) -> Option<String> {
    fs::read_link(path).ok().map(|target| target.to_string_lossy().into_owned())
}
