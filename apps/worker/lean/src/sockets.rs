//! Stream sockets, never blocking. Errors are negative errno numbers, the form in which they go to TypeScript.
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, UnixAddr, connect, getsockopt, send,
    setsockopt, socket, sockopt,
};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What one read takes at most; it lies on the stack, so it is also what every process has once it has read.
pub const READ_BYTES: usize = 16 * 1024;
/// What is thrown away at most before a socket is closed.
const MAX_DISCARDED_READS: usize = 64;

/// Starts to connect to a unix socket.
pub fn connect_unix(path: &str) -> Result<OwnedFd, Errno> {
    let fd = open(AddressFamily::Unix, None)?;
    start(fd, &UnixAddr::new(path)?)
}

/// Starts to connect to a numeric IPv4 or IPv6 address.
pub fn connect_tcp(address: &str, port: u16) -> Result<OwnedFd, Errno> {
    let address: IpAddr = address.parse().map_err(|_| Errno::EINVAL)?;
    match SocketAddr::new(address, port) {
        SocketAddr::V4(address) => start(open_tcp(AddressFamily::Inet)?, &SockaddrIn::from(address)),
        SocketAddr::V6(address) => start(open_tcp(AddressFamily::Inet6)?, &SockaddrIn6::from(address)),
    }
}

/// Whether the connection that became writable is open: 0, or the errno of its failure.
pub fn outcome(fd: BorrowedFd<'_>) -> i32 {
    getsockopt(&fd, sockopt::SocketError).unwrap_or_else(|error| error as i32)
}

/// Writes what the kernel takes: the count, or a negative errno (EAGAIN: nothing now).
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> i32 {
    loop {
        match send(fd.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
            Ok(count) => return count as i32,
            Err(Errno::EINTR) => {}
            Err(error) => return -(error as i32),
        }
    }
}

/// Reads what is there from a socket or a pipe: the count, 0 at the end, or a negative errno.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> i32 {
    loop {
        match nix::unistd::read(fd, buffer) {
            Ok(count) => return count as i32,
            Err(Errno::EINTR) => {}
            Err(error) => return -(error as i32),
        }
    }
}

/// Closes a socket. What it has received and nobody read is taken first: closing over it would make the kernel reset the
/// connection, and the peer would lose what we said last.
pub fn close(fd: OwnedFd) {
    let mut buffer = [0u8; READ_BYTES];
    for _ in 0..MAX_DISCARDED_READS {
        if read(fd.as_fd(), &mut buffer) <= 0 {
            break;
        }
    }
}

fn open_tcp(family: AddressFamily) -> Result<OwnedFd, Errno> {
    let fd = open(family, Some(SockProtocol::Tcp))?;
    setsockopt(&fd, sockopt::KeepAlive, &true)?;
    // A call is one write; without this its last piece would wait for the agent's delayed acknowledgement.
    setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
    Ok(fd)
}

fn open(family: AddressFamily, protocol: Option<SockProtocol>) -> Result<OwnedFd, Errno> {
    socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, protocol)
}

fn start(fd: OwnedFd, address: &impl SockaddrLike) -> Result<OwnedFd, Errno> {
    match connect(fd.as_raw_fd(), address) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
        Err(error) => Err(error),
    }
}
