//! Listening sockets: bound or adopted by the master, which keeps them; handed to workers as duplicates.

mod inherited;
mod open;
mod share;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Gid, Uid};
use socket2::{SockAddr, Socket, Type};

use crate::config::Bind;
use open::{open_abstract, open_tcp, open_unix, refused, resolve, tcp};

pub(crate) use inherited::Inherited;
pub(crate) use share::{Server, SocketId, hand_over};

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// Somebody else has it; worth another try a little later.
    #[error("Connection in use: {0}")]
    InUse(Shown),
    /// It cannot be had at all.
    #[error("Can't connect to {0}")]
    Impossible(Shown, #[source] io::Error),
    /// The path of a unix socket is taken by something else.
    #[error("{0} exists and is not a socket: remove it, or choose another path")]
    NotASocket(PathBuf),
    /// An inherited descriptor is no listening socket.
    #[error("fd://{0} is not a listening stream socket")]
    NotListening(RawFd, #[source] io::Error),
}

/// An address as Gunicorn writes it: `('127.0.0.1', 8000)`, a path.
#[derive(Debug)]
pub(crate) struct Shown(String);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How sockets are made.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The kernel's queue of connections not yet accepted (listen(2)).
    pub(crate) backlog: u32,
    /// With `--reuse-port`: as many sockets as there are worker slots; else one for all.
    pub(crate) slots: Option<usize>,
    /// The umask under which a unix socket is made.
    pub(crate) umask: u32,
    /// Whom a unix socket is given to.
    pub(crate) owner: (Option<Uid>, Option<Gid>),
}

/// One listening socket, as a worker has it.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Socket,
    kind: Kind,
    shared: bool,
}

/// What family a listening socket is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// A unix socket.
    Unix,
}

impl Kind {
    fn of(address: &SockAddr) -> Self {
        if address.is_unix() {
            Self::Unix
        } else {
            Self::Tcp
        }
    }
}

/// A listening socket of the master's.
#[derive(Debug)]
struct Held {
    id: SocketId,
    socket: Socket,
}

impl Held {
    fn new(socket: Socket) -> Rc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = SocketId(NEXT.fetch_add(1, Relaxed));
        Rc::new(Self { id, socket })
    }
}

impl Listener {
    /// A socket that came to a worker while it serves: of an address that has several.
    ///
    /// # Errors
    /// Not a socket.
    pub(crate) fn adopted(fd: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(fd);
        let kind = Kind::of(&socket.local_addr()?);
        Ok(Self {
            socket,
            kind,
            shared: false,
        })
    }

    /// Its family.
    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether other workers accept from the same socket.
    pub(crate) const fn is_shared(&self) -> bool {
        self.shared
    }

    /// The socket, given up by the listener.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.socket.into()
    }
}

/// An address of the configuration and the sockets that listen on it, in the master.
#[derive(Debug)]
pub(crate) struct Bound {
    bind: Bind,
    kind: Kind,
    url: String,
    /// Shared with the same address of the configuration before and after this one.
    sockets: Vec<Rc<Held>>,
    per_slot: bool,
    /// The path to remove at the end, and the inode we made there.
    made: Option<(PathBuf, u64)>,
}

impl Bound {
    /// Binds `bind` and listens.
    ///
    /// # Errors
    /// A [`BindError`]; whatever was opened is closed again.
    pub(crate) fn open(bind: &Bind, options: &Options) -> Result<Self, BindError> {
        match bind {
            Bind::Tcp { host, port } => open_tcp(bind, host, *port, options),
            Bind::Unix(path) => open_unix(bind, path, options),
            Bind::Abstract(name) => open_abstract(bind, name, options),
            Bind::Fd(number) => {
                let socket = crate::os::fds::adopt(*number)
                    .map_err(|error| BindError::NotListening(*number, error))?;
                Self::adopt(bind, vec![socket.into()], options)
                    .map_err(|error| BindError::NotListening(*number, error))
            }
        }
    }

    /// Takes sockets that listen already: from a parent master, a socket manager, or a number on the command line. The path
    /// of a unix socket stays whoever made it has it to remove.
    ///
    /// # Errors
    /// Not a listening stream socket.
    pub(crate) fn adopt(
        bind: &Bind,
        sockets: Vec<Socket>,
        options: &Options,
    ) -> io::Result<Self> {
        for socket in &sockets {
            if !socket.is_listener()? || socket.r#type()? != Type::STREAM {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            socket.set_nonblocking(true)?;
            socket.set_cloexec(true)?;
            socket.listen(backlog(options))?;
        }
        let first = sockets.first().ok_or(io::ErrorKind::InvalidInput)?;
        let address = first.local_addr()?;
        let kind = Kind::of(&address);
        let mut alone = false;
        for socket in &sockets {
            alone |= kind == Kind::Unix || !socket.reuse_port()?;
        }
        // Only beside sockets of this kind there can be more.
        let per_slot = options.slots.is_some() && !alone;
        let bound = Self {
            bind: bind.clone(),
            kind,
            url: url(&address),
            sockets: sockets.into_iter().map(Held::new).collect(),
            per_slot,
            made: None,
        };
        if kind == Kind::Tcp {
            for held in &bound.sockets {
                held.socket.set_tcp_nodelay(true)?;
            }
        }
        Ok(bound)
    }

    /// Takes the path of a unix socket over: who made it is gone, and this one has it to remove.
    pub(crate) fn claim_path(&mut self) {
        if let Bind::Unix(path) = &self.bind
            && self.made.is_none()
        {
            self.made = inode(path).map(|inode| (path.clone(), inode));
        }
    }

    /// Closes the sockets; what is left is the path. No worker is given one of them any more.
    pub(crate) fn close(&mut self) {
        self.sockets.clear();
    }

    /// Sets the backlog again, which another owner of the same sockets may have changed.
    ///
    /// # Errors
    /// Those of listen(2).
    pub(crate) fn listen_again(&self, options: &Options) -> io::Result<()> {
        let each = |held: &Rc<Held>| held.socket.listen(backlog(options));
        self.sockets.iter().try_for_each(each)
    }

    /// The address it was made for.
    pub(crate) const fn bind(&self) -> &Bind {
        &self.bind
    }

    /// `http://127.0.0.1:8000`, `unix:/run/app.sock`; with the real port where 0 was asked for.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Duplicates for the worker in `slot` of `workers`: of the one socket, or of those that are its own. With
    /// `--reuse-port` there may be none yet: see [`grow`](Self::grow).
    ///
    /// # Errors
    /// EMFILE.
    pub(crate) fn for_slot(
        &self,
        slot: usize,
        workers: usize,
    ) -> io::Result<Vec<(SocketId, Listener)>> {
        let count = self.sockets.len();
        let mut places: Vec<usize> = share::own(slot, workers, count).collect();
        if places.is_empty() && !self.per_slot {
            places.push(slot % count.max(1));
        }
        let listener = |held: &Rc<Held>| {
            let listener = Listener {
                socket: held.socket.try_clone()?,
                kind: self.kind,
                shared: !self.per_slot,
            };
            Ok((held.id, listener))
        };
        let held = places.iter().filter_map(|place| self.sockets.get(*place));
        held.map(listener).collect()
    }

    /// With one socket a slot: makes those that are missing for `slots` slots, before anybody serves.
    ///
    /// # Errors
    /// A [`BindError`].
    pub(crate) fn fit(&mut self, slots: usize, options: &Options) -> Result<(), BindError> {
        while self.per_slot && self.sockets.len() < slots {
            self.grow(options)?;
        }
        Ok(())
    }

    /// With one socket a slot: one more. From now on it gets connections, so there must be a worker that is ready to
    /// accept from it.
    ///
    /// # Errors
    /// A [`BindError`].
    pub(crate) fn grow(&mut self, options: &Options) -> Result<(), BindError> {
        let address = self
            .sockets
            .first()
            .and_then(|held| held.socket.local_addr().ok())
            .and_then(|address| address.as_socket());
        if let Some(address) = address {
            let socket = tcp(address, true, options).map_err(|e| refused(&address, e))?;
            self.sockets.push(Held::new(socket));
        }
        Ok(())
    }

    /// Takes over what `other`, the same address, has grown by.
    pub(crate) fn follow(&mut self, other: &Self) {
        if self.url == other.url {
            self.sockets.clone_from(&other.sockets);
        }
    }

    /// Whether each worker has sockets of its own.
    pub(crate) const fn is_per_slot(&self) -> bool {
        self.per_slot
    }

    /// Which sockets there are.
    pub(crate) fn ids(&self) -> Vec<SocketId> {
        self.sockets.iter().map(|held| held.id).collect()
    }

    /// The socket `id`, to be handed to a worker.
    pub(crate) fn socket(&self, id: SocketId) -> Option<BorrowedFd<'_>> {
        let held = self.sockets.iter().find(|held| held.id == id)?;
        Some(held.socket.as_fd())
    }

    /// Whether a connection waits to be accepted.
    pub(crate) fn has_queue(&self) -> bool {
        let mut fds: Vec<PollFd<'_>> = self
            .fds()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        // What cannot be told is taken for a yes.
        poll(&mut fds, PollTimeout::ZERO) != Ok(0)
    }

    /// The same sockets for the configuration that comes after this one.
    pub(crate) fn share(&self) -> Self {
        Self {
            bind: self.bind.clone(),
            kind: self.kind,
            url: self.url.clone(),
            sockets: self.sockets.clone(),
            per_slot: self.per_slot,
            made: self.made.clone(),
        }
    }

    /// All descriptors, to be handed to a new master.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|held| held.socket.as_fd())
    }

    /// Removes the path of a unix socket that is still ours. Sockets without a path have nothing to remove.
    pub(crate) fn remove_path(&self) {
        if let Some((path, made)) = &self.made
            && inode(path) == Some(*made)
        {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Removes the path of a unix socket that was ours, unless somebody serves it: a new master that has taken it over.
    pub(crate) fn remove_dead_path(&self) {
        if let Some((path, _)) = &self.made
            && let Ok(address) = SockAddr::unix(path)
            && open::is_dead(&address).unwrap_or(false)
        {
            self.remove_path();
        }
    }

    /// Whether these sockets serve `bind`, given that their owner was a master with other settings.
    fn serves(address: &SockAddr, bind: &Bind) -> bool {
        match bind {
            Bind::Tcp { host, port } => {
                let Some(bound) = address.as_socket() else {
                    return false;
                };
                resolve(host, *port).is_ok_and(|wanted| {
                    wanted.ip() == bound.ip() && (*port == 0 || wanted.port() == bound.port())
                })
            }
            Bind::Unix(path) => address.as_pathname() == Some(path),
            Bind::Abstract(name) => address.as_abstract_namespace() == Some(name),
            Bind::Fd(_) => false,
        }
    }
}

fn url(address: &SockAddr) -> String {
    if let Some(address) = address.as_socket() {
        format!("http://{address}")
    } else if let Some(path) = address.as_pathname() {
        format!("unix:{}", path.display())
    } else if let Some(name) = address.as_abstract_namespace() {
        format!("unix:@{}", String::from_utf8_lossy(name))
    } else {
        String::from("unix:")
    }
}

fn backlog(options: &Options) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path)
        .ok()
        .map(|found| found.ino())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use socket2::Domain;

    use super::*;

    fn options() -> Options {
        Options {
            backlog: 16,
            slots: None,
            umask: 0o077,
            owner: (None, None),
        }
    }

    fn local(port: u16) -> Bind {
        Bind::Tcp {
            host: String::from("127.0.0.1"),
            port,
        }
    }

    #[test]
    fn port_zero_is_reported_as_the_port_it_became() {
        let bound = Bound::open(&local(0), &options()).unwrap();
        assert!(
            bound.url().starts_with("http://127.0.0.1:"),
            "{}",
            bound.url()
        );
        assert!(!bound.url().ends_with(":0"), "{}", bound.url());
    }

    #[test]
    fn reuse_port_gives_each_slot_a_socket_on_the_same_port() {
        let options = Options {
            slots: Some(3),
            ..options()
        };
        let mut bound = Bound::open(&local(0), &options).unwrap();
        let ports = |bound: &Bound| -> Vec<_> {
            bound
                .sockets
                .iter()
                .map(|s| s.socket.local_addr().unwrap().as_socket().unwrap().port())
                .collect()
        };
        assert_eq!(bound.sockets.len(), 3);
        bound.fit(5, &options).unwrap();
        assert_eq!(ports(&bound).len(), 5);
        assert!(ports(&bound).iter().all(|port| *port == ports(&bound)[0]));
        let listeners = bound.for_slot(4, 5).unwrap();
        assert_eq!(listeners.len(), 1);
        assert!(!listeners[0].1.is_shared());
        assert_eq!(bound.for_slot(1, 2).unwrap().len(), 2);
        assert!(bound.for_slot(5, 6).unwrap().is_empty());
    }

    #[test]
    fn a_port_in_use_is_told_apart_and_named_as_gunicorn_does() {
        let bound = Bound::open(&local(0), &options()).unwrap();
        let port = bound.url().rsplit(':').next().unwrap().parse().unwrap();
        let error = Bound::open(&local(port), &options()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("Connection in use: ('127.0.0.1', {port})")
        );
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_a_live_one_and_a_file_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let bind = Bind::Unix(path.clone());
        let live = Bound::open(&bind, &options()).unwrap();
        assert!(matches!(
            Bound::open(&bind, &options()),
            Err(BindError::InUse(_))
        ));
        drop(live);
        let again = Bound::open(&bind, &options()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(&path).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o700);
        again.remove_path();
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(
            Bound::open(&bind, &options()),
            Err(BindError::NotASocket(_))
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_path_that_is_no_longer_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let bound = Bound::open(&Bind::Unix(path.clone()), &options()).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another's").unwrap();
        bound.remove_path();
        assert!(path.exists());
    }

    #[test]
    fn abstract_sockets_have_a_name_and_no_path() {
        let name = format!("rgun-async-test-{}", std::process::id());
        let bind = Bind::Abstract(name.clone().into_bytes());
        let bound = Bound::open(&bind, &options()).unwrap();
        assert_eq!(bound.url(), format!("unix:@{name}"));
        assert!(matches!(
            Bound::open(&bind, &options()),
            Err(BindError::InUse(_))
        ));
        let mut path = vec![0];
        path.extend_from_slice(name.as_bytes());
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        client
            .connect(&SockAddr::unix(std::ffi::OsStr::from_bytes(&path)).unwrap())
            .unwrap();
    }

    #[test]
    fn a_descriptor_that_is_no_listener_is_refused() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert!(Bound::adopt(&Bind::Fd(0), vec![socket], &options()).is_err());
        assert!(
            Bound::adopt(&Bind::Fd(0), vec![OwnedFd::from(file).into()], &options()).is_err()
        );
    }

    #[test]
    fn inherited_sockets_find_their_addresses_again() {
        let options = Options {
            slots: Some(2),
            ..options()
        };
        let bound = Bound::open(&local(0), &options).unwrap();
        let port: u16 = bound.url().rsplit(':').next().unwrap().parse().unwrap();
        let copies = bound
            .sockets
            .iter()
            .map(|s| s.socket.try_clone().unwrap())
            .collect();
        let mut inherited = Inherited::from_sockets(copies);
        assert!(
            inherited
                .take(&local(port.wrapping_add(1)), &options)
                .is_none()
        );
        let again = inherited.take(&local(port), &options).unwrap().unwrap();
        assert_eq!(again.sockets.len(), 2);
        assert!(inherited.is_empty());
    }
}
