//! Who is at the other end of a connection.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;

/// The process and the user at the other end, as the system saw them when they connected: no client can say otherwise.
///
/// The process is 0 where it is not to be seen from here (another pid namespace). `rustix::net::sockopt::socket_peercred` has no place
/// for that: its pid is never 0.
#[allow(unsafe_code)]
pub(super) fn peer(stream: &UnixStream) -> io::Result<(i32, u32)> {
    let mut found = libc::ucred { pid: 0, uid: libc::uid_t::MAX, gid: libc::gid_t::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open as long as `stream`; `found` has room for the `length` bytes that are said, and any bytes are a
    // valid `ucred`, which has numbers alone.
    let status = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            std::ptr::from_mut(&mut found).cast(),
            &mut length,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((found.pid, found.uid))
}
