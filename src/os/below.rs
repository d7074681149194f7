//! Files opened below a directory, and nowhere else (`openat2(2)`).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2, readlink};
use rustix::io::Errno;

/// Which symbolic links an open follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// Those that stay below the directory.
    Inside,
    /// All.
    Any,
}

/// Whether an open may wait for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It gives up with `WouldBlock` where the kernel does not know the names on the way yet (`RESOLVE_CACHED`).
    AtOnce,
    /// It waits.
    Waits,
}

/// Not a wait for the other end of a pipe, nor for a terminal's carrier (`open(2)`).
const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// A directory, to open files below.
///
/// # Errors
/// Where there is none at `path`, or it may not be entered.
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

/// What `path` names below `directory`, whatever it is: a directory or a device as well as a file (`openat2(2)`).
///
/// # Errors
/// `EXDEV` and `ELOOP` for what leads out of the directory; `WouldBlock` as [`Patience`] says.
pub(crate) fn open_below(
    directory: BorrowedFd<'_>,
    path: &Path,
    links: Links,
    patience: Patience,
) -> io::Result<File> {
    let mut resolve = ResolveFlags::NO_MAGICLINKS;
    if links == Links::Inside {
        resolve |= ResolveFlags::BENEATH;
    }
    let open = |resolve| openat2(directory, path, FLAGS, Mode::empty(), resolve);
    let opened = match patience {
        Patience::AtOnce => match open(resolve | ResolveFlags::CACHED) {
            // Linux before 5.12 does not know the flag.
            Err(Errno::INVAL) => open(resolve),
            opened => opened,
        },
        // Once more where a name was moved meanwhile.
        Patience::Waits => open(resolve).or_else(|error| match error {
            Errno::AGAIN => open(resolve),
            error => Err(error),
        }),
    };
    match opened {
        Ok(file) => Ok(File::from(file)),
        // Linux before 5.6, or a sandbox that does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => open_checked(directory, path, links),
        Err(error) => Err(error.into()),
    }
}

/// The same without `openat2(2)`: what was opened is asked where it is.
fn open_checked(directory: BorrowedFd<'_>, path: &Path, links: Links) -> io::Result<File> {
    let file = openat(directory, path, FLAGS, Mode::empty())?;
    let inside = || -> io::Result<bool> {
        let place = |fd: BorrowedFd<'_>| {
            readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())
        };
        let (root, found) = (place(directory)?, place(file.as_fd())?);
        let root = Path::new(std::ffi::OsStr::from_bytes(root.as_bytes()));
        Ok(Path::new(std::ffi::OsStr::from_bytes(found.as_bytes())).starts_with(root))
    };
    if links == Links::Any || inside()? {
        Ok(File::from(file))
    } else {
        Err(Errno::XDEV.into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, OwnedFd) {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(outer.path().join("secret"), "secret").unwrap();
        std::fs::write(root.join("file"), "0123456789").unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("file", root.join("in")).unwrap();
        let directory = open_directory(&root).unwrap();
        (outer, directory)
    }

    #[test]
    fn links_that_lead_out_are_followed_only_where_all_are() {
        type Open = fn(BorrowedFd<'_>, &Path, Links) -> io::Result<File>;
        let (_outer, root) = tree();
        let ways: [Open; 2] = [
            |root, path, links| open_below(root, path, links, Patience::Waits),
            open_checked,
        ];
        for open in ways {
            let open = |path, links| open(root.as_fd(), Path::new(path), links);
            assert!(open("file", Links::Inside).is_ok());
            assert!(open("in", Links::Inside).is_ok());
            for path in ["out", "../secret"] {
                let error = open(path, Links::Inside).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EXDEV), "{path}");
                assert!(open(path, Links::Any).is_ok());
            }
            let missing = open("missing", Links::Inside).unwrap_err();
            assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        }
    }
}
