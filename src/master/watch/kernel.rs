//! inotify(7): directories are watched and not files, as an editor that saves puts a new file in the place of the old one.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use super::sources::{Look, Sources};

/// The kernel's part.
#[derive(Debug)]
pub(super) struct Kernel {
    inotify: Inotify,
    directories: HashMap<WatchDescriptor, PathBuf>,
}

impl Kernel {
    /// Watches the directories of `look`.
    ///
    /// # Errors
    /// EMFILE, ENOSPC: the limits of `/proc/sys/fs/inotify`.
    pub(super) fn new(look: &Look) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let mut kernel = Self {
            inotify,
            directories: HashMap::new(),
        };
        kernel.watch(look)?;
        Ok(kernel)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Watches those directories of `look` that are not watched yet.
    ///
    /// # Errors
    /// ENOSPC: the limit of watches.
    pub(super) fn watch(&mut self, look: &Look) -> io::Result<()> {
        let interesting = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        for directory in look.directories() {
            if self.directories.values().any(|known| known == directory) {
                continue;
            }
            match self.inotify.add_watch(directory, interesting) {
                Ok(watch) => {
                    self.directories.insert(watch, directory.to_owned());
                }
                Err(error @ (Errno::ENOSPC | Errno::ENOMEM)) => return Err(error.into()),
                // It is gone, or not for us to read: its files are, too.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Whether anything has happened that `sources` are concerned in.
    pub(super) fn happened(&mut self, sources: &Sources, look: &Look) -> bool {
        let mut happened = false;
        while let Ok(events) = self.inotify.read_events() {
            if events.is_empty() {
                break;
            }
            for event in events {
                happened |= self.concerns(&event, sources, look);
            }
        }
        happened
    }

    fn concerns(&mut self, event: &InotifyEvent, sources: &Sources, look: &Look) -> bool {
        let lost = AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_MOVE_SELF;
        if event.mask.intersects(lost) {
            // Should there be one of its name again, the next look finds it.
            if let Some(path) = self.directories.remove(&event.wd)
                && event.mask.contains(AddWatchFlags::IN_MOVE_SELF)
            {
                tracing::debug!("--reload: {} is elsewhere now", path.display());
                let _ = self.inotify.rm_watch(event.wd);
            }
            return true;
        }
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return true;
        }
        let Some(directory) = self.directories.get(&event.wd) else {
            return false;
        };
        let name = event.name.as_deref().unwrap_or(OsStr::new(""));
        let path = directory.join(Path::new(name));
        let is_directory = event.mask.contains(AddWatchFlags::IN_ISDIR);
        look.has(&path) || sources.may_concern(&path, is_directory)
    }
}
