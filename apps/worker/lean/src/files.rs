//! The small files of procfs and cgroupfs. What cannot be done is an absent answer, never an error.
use std::fs::{self, OpenOptions};
use std::io::Write;

pub fn read_text(path: String) -> Option<String> {
    fs::read(path).ok().map(|bytes| match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// The file must exist.
pub fn write_text(path: String, text: String) -> bool {
    OpenOptions::new().write(true).open(path).is_ok_and(|mut file| file.write_all(text.as_bytes()).is_ok())
}

pub fn list(path: String) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// True also where it exists.
pub fn make_directory(path: String) -> bool {
    fs::create_dir(&path).is_ok() || fs::exists(path).unwrap_or(false)
}

pub fn remove_directory(path: String) -> bool {
    fs::remove_dir(path).is_ok()
}

pub fn read_link(path: String) -> Option<String> {
    fs::read_link(path).ok().map(|target| target.to_string_lossy().into_owned())
}

pub fn exists(path: String) -> bool {
    fs::exists(path).unwrap_or(false)
}
