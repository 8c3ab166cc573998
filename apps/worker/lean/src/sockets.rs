//! Sockets, and reading and writing of whatever is in the table.
use crate::descriptors;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::net::{IpAddr, SocketAddr};

/// sockaddr_un has 108 bytes, one of them for the closing zero.
const MAX_UNIX_PATH: usize = 107;
/// More than a pipe or a socket usually has at once would only be zeroed for nothing.
pub const READ_SIZE: usize = 16 * 1024;

/// Begins to connect; the descriptor becomes writable when that is decided.
pub fn connect_unix(path: &str) -> Result<u32, Errno> {
    if path.len() > MAX_UNIX_PATH {
        return Err(Errno::NAMETOOLONG);
    }
    if path.is_empty() || path.starts_with(['\0', '@']) {
        return Err(Errno::INVAL);
    }
    begin(AddressFamily::UNIX, &SocketAddrUnix::new(path)?.into())
}

/// As `connect_unix`, to a numeric address.
pub fn connect_tcp(address: &str, port: u16) -> Result<u32, Errno> {
    let ip: IpAddr = address.parse().map_err(|_| Errno::INVAL)?;
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    begin(family, &SocketAddr::new(ip, port).into())
}

fn begin(family: AddressFamily, address: &SocketAddrAny) -> Result<u32, Errno> {
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    if family != AddressFamily::UNIX {
        sockopt::set_socket_keepalive(&socket, true)?;
        // Requests are written whole; waiting for more to send would only delay them.
        sockopt::set_tcp_nodelay(&socket, true)?;
    }
    match connect(&socket, address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(descriptors::add(socket, PollFlags::OUT)),
        Err(error) => Err(error),
    }
}

/// How connecting went, once the descriptor is writable.
pub fn connect_result(id: u32) -> Result<(), Errno> {
    descriptors::with(id, |fd| sockopt::socket_error(fd)?)
}

/// Bytes, nothing at the end, or an error; EAGAIN where there is nothing yet.
pub fn read(id: u32, buffer: &mut [u8]) -> Result<usize, Errno> {
    descriptors::with(id, |fd| loop {
        match rustix::io::read(fd, &mut *buffer) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    })
}

/// How many bytes were taken. (SIGPIPE is ignored in every Rust program, and back to its default in children.)
pub fn write(id: u32, bytes: &[u8]) -> Result<usize, Errno> {
    descriptors::with(id, |fd| loop {
        match rustix::io::write(fd, bytes) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    })
}
