//! A directory whose files are served: held open, so that nothing outside of it can be named.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::time::{ClockId, clock_gettime};

use crate::files::{Links, Patience, Standing, open_below, open_directory};

/// What stands at a path.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) file: Arc<File>,
    pub(super) metadata: Metadata,
}

/// What becomes of names that begin with a dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hidden {
    /// They are not there.
    Missing,
    /// They are like others.
    Served,
}

/// The directory.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    links: Links,
    hidden: Hidden,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    directory: Option<Arc<OwnedFd>>,
    /// Its device and inode.
    identity: (u64, u64),
    /// The tick in which it was last compared with what stands at the path.
    compared: i64,
}

impl Root {
    pub(super) fn new(path: PathBuf, links: Links, hidden: Hidden) -> Self {
        Self {
            path,
            links,
            hidden,
            held: Mutex::default(),
        }
    }

    /// Opens what `path` names below the directory.
    ///
    /// # Errors
    /// `NotFound` for all that nobody is to be told of: what is neither a file nor a directory, what is hidden, what leads out.
    /// `WouldBlock` as [`Patience`] says.
    pub(super) fn open(&self, path: &Path, patience: Patience) -> io::Result<Found> {
        self.open_at(tick(), path, patience)
    }

    /// Opens once more what was found before, as far as that takes no waiting.
    pub(super) fn open_again(&self, path: &Path) -> io::Result<(Arc<File>, Standing)> {
        let directory = self.directory(tick())?;
        let file = open_below(directory.as_fd(), path, self.links, Patience::AtOnce)?;
        let standing = Standing::of(&file)?;
        Ok((Arc::new(file), standing))
    }

    fn open_at(&self, now: i64, path: &Path, patience: Patience) -> io::Result<Found> {
        let cut = path.as_os_str().as_encoded_bytes().contains(&0);
        if cut || (self.hidden == Hidden::Missing && is_hidden(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.open_in(&*self.directory(now)?, path, patience)
    }

    fn open_in(
        &self,
        directory: &OwnedFd,
        path: &Path,
        patience: Patience,
    ) -> io::Result<Found> {
        let file = open_below(directory.as_fd(), path, self.links, patience).map_err(plain)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() && !metadata.is_dir() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Found {
            file: Arc::new(file),
            metadata,
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory, which may have been replaced since it was last looked for.
    fn directory(&self, now: i64) -> io::Result<Arc<OwnedFd>> {
        let mut held = self.held();
        if let Some(directory) = &held.directory
            && held.compared == now
        {
            return Ok(Arc::clone(directory));
        }
        held.compared = now;
        let metadata = std::fs::metadata(&self.path).inspect_err(|_| held.directory = None)?;
        let identity = (metadata.dev(), metadata.ino());
        if let Some(directory) = &held.directory
            && held.identity == identity
        {
            return Ok(Arc::clone(directory));
        }
        let directory = Arc::new(open_directory(&self.path)?);
        held.directory = Some(Arc::clone(&directory));
        held.identity = identity;
        Ok(directory)
    }
}

/// Names that begin with a dot are not for clients (`.git`, `.env`), but for the one that is (RFC 8615).
fn is_hidden(path: &Path) -> bool {
    path.iter().any(|name| {
        let name = name.as_encoded_bytes();
        name.starts_with(b".") && !matches!(name, b"." | b".well-known")
    })
}

/// An error of a path that leads nowhere, whatever the kernel says why.
fn plain(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(
            libc::EXDEV
            | libc::ELOOP
            | libc::ENAMETOOLONG
            | libc::ENOTDIR
            | libc::ENXIO
            | libc::ENODEV
            | libc::EACCES,
        ) => io::ErrorKind::NotFound.into(),
        _ => error,
    }
}

/// Tenths of a second of the coarse clock, which costs no system call.
fn tick() -> i64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |now| {
        now.tv_sec()
            .wrapping_mul(10)
            .wrapping_add(now.tv_nsec() / 100_000_000)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_dot_at_the_front_are_hidden_but_one() {
        for (path, hidden) in [
            ("./a/b.c", false),
            ("./.env", true),
            ("./.git/config", true),
            ("./a/.b/c", true),
            ("./.well-known/security.txt", false),
            ("./..", true),
        ] {
            assert_eq!(is_hidden(Path::new(path)), hidden, "{path}");
        }
    }

    #[test]
    fn a_directory_that_was_replaced_is_seen() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("root");
        let fill = |text: &str| {
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join(text), text).unwrap();
        };
        fill("one");
        let root = Root::new(path.clone(), Links::Inside, Hidden::Missing);
        let open = |now, name: &str| root.open_at(now, Path::new(name), Patience::Waits);
        assert!(open(1, "one").is_ok());
        std::fs::remove_dir_all(&path).unwrap();
        for now in [1, 2] {
            let error = open(now, "one").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
        fill("two");
        assert!(
            open(2, "two").is_ok(),
            "what is missing is looked for at once"
        );
        std::fs::rename(&path, outer.path().join("old")).unwrap();
        fill("three");
        assert!(open(3, "three").is_ok());
        assert!(open(3, "two").is_err());
    }

    #[test]
    fn only_files_and_directories_are_found() {
        let outer = tempfile::tempdir().unwrap();
        let root = Root::new(outer.path().to_owned(), Links::Inside, Hidden::Missing);
        nix::unistd::mkfifo(&outer.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket =
            std::os::unix::net::UnixListener::bind(outer.path().join("socket")).unwrap();
        for name in ["pipe", "socket", "missing", "missing/too"] {
            let error = root.open(Path::new(name), Patience::Waits).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{name}: {error}");
        }
    }
}
