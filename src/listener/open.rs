//! Opening: the sockets behind each kind of address.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::sys::stat::{Mode, umask};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::Bind;

use super::{BindError, Bound, Held, Kind, Options, Shown, Site, backlog, inode, written};

/// A TCP address; with `--reuse-port` a socket for each slot.
pub(super) fn open_tcp(
    site: &Site,
    host: &str,
    port: u16,
    options: &Options,
) -> Result<Bound, BindError> {
    let shown = || Shown(format!("('{host}', {port})"));
    let address = resolve(host, port).map_err(|error| {
        // `http:8000` is port 8000 of a host of that name.
        let error = if Bind::names_scheme(host) {
            io::Error::other(format!("{error}; a scheme is written {host}://HOST:PORT"))
        } else {
            error
        };
        BindError::Impossible(shown(), error)
    })?;
    let reuse_port = options.slots.is_some();
    let first = tcp(address, reuse_port, options).map_err(|error| refused(&address, error))?;
    // With port 0 the others follow the first to the port that it got.
    let local = first
        .local_addr()
        .map_err(|error| BindError::Impossible(shown(), error))?;
    let sockets = vec![Held::new(first)];
    let mut bound = Bound::new(site, Kind::Tcp, written(&local), sockets, reuse_port);
    bound.fit(options.slots.unwrap_or(1), options)?;
    Ok(bound)
}

/// The first address of a name, IPv4 before IPv6.
pub(super) fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let mut found: Vec<_> = (host, port).to_socket_addrs()?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found
        .first()
        .copied()
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// One TCP socket that listens.
pub(super) fn tcp(
    address: SocketAddr,
    reuse_port: bool,
    options: &Options,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    // Accepted sockets inherit it: no system call for each connection (tcp(7)).
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog(options))?;
    Ok(socket)
}

/// What bind(2) or listen(2) failing means for `address`.
pub(super) fn refused(address: &SocketAddr, error: io::Error) -> BindError {
    let shown = Shown(format!("('{}', {})", address.ip(), address.port()));
    if error.kind() == io::ErrorKind::AddrInUse {
        BindError::InUse(shown)
    } else {
        BindError::Impossible(shown, error)
    }
}

/// Whether nobody listens at the path of a unix socket. Somebody who answers, or whose queue is full, is live, and the path not
/// ours to take away.
///
/// # Errors
/// There is no such path, or it must not be asked.
pub(super) fn is_dead(address: &SockAddr) -> io::Result<bool> {
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    let Err(error) = probe.connect(address) else {
        return Ok(false);
    };
    let is = |kind| error.kind() == kind;
    if is(io::ErrorKind::NotFound) || is(io::ErrorKind::PermissionDenied) {
        return Err(error);
    }
    Ok(is(io::ErrorKind::ConnectionRefused))
}

/// A unix socket's path: a stale one is replaced, a live one refused.
pub(super) fn open_unix(
    site: &Site,
    path: &Path,
    options: &Options,
) -> Result<Bound, BindError> {
    let impossible = |error| BindError::Impossible(Shown(path.display().to_string()), error);
    let address = SockAddr::unix(path).map_err(impossible)?;
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(BindError::NotASocket(path.to_path_buf()));
        }
        match is_dead(&address) {
            // Left by a server that was killed.
            Ok(true) => std::fs::remove_file(path).map_err(impossible)?,
            Ok(false) => return Err(BindError::InUse(Shown(path.display().to_string()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(impossible(error)),
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(impossible)?;
    socket.set_nonblocking(true).map_err(impossible)?;
    let before = umask(Mode::from_bits_truncate(options.umask));
    let result = socket.bind(&address);
    umask(before);
    result.map_err(impossible)?;
    let made = inode(path).map(|inode| (path.to_path_buf(), inode));
    let (name, sockets) = (format!("unix:{}", path.display()), vec![Held::new(socket)]);
    let bound = Bound {
        made,
        ..Bound::new(site, Kind::Unix, name, sockets, false)
    };
    let given = (|| {
        let (uid, gid) = options.owner;
        if uid.is_some() || gid.is_some() {
            nix::unistd::chown(path, uid, gid)?;
        }
        bound
            .sockets
            .iter()
            .try_for_each(|held| held.socket.listen(backlog(options)))
    })();
    if let Err(error) = given {
        bound.remove_path();
        return Err(impossible(error));
    }
    Ok(bound)
}

/// Whether `path` is a unix socket that nobody listens at any more.
pub(super) fn is_deserted(path: &Path) -> bool {
    let is_socket =
        |path| std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    // Of a file, connect(2) says the same as of a socket without a listener.
    is_socket(path)
        && SockAddr::unix(path).is_ok_and(|address| is_dead(&address).unwrap_or(false))
}

/// An abstract name (unix(7)).
pub(super) fn open_abstract(
    site: &Site,
    name: &[u8],
    options: &Options,
) -> Result<Bound, BindError> {
    let text = format!("@{}", String::from_utf8_lossy(name));
    let open = || {
        let mut path = vec![0];
        path.extend_from_slice(name);
        let address = SockAddr::unix(std::ffi::OsStr::from_bytes(&path))?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address)?;
        socket.listen(backlog(options))?;
        Ok(socket)
    };
    let socket = open().map_err(|error: io::Error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            BindError::InUse(Shown(text.clone()))
        } else {
            BindError::Impossible(Shown(text.clone()), error)
        }
    })?;
    let (name, sockets) = (format!("unix:{text}"), vec![Held::new(socket)]);
    Ok(Bound::new(site, Kind::Unix, name, sockets, false))
}
