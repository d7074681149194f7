//! The worker's sign of life: an unlinked file whose modification time is its last beat, on the monotonic clock, so
//! that a wall clock that jumps kills nobody. Gunicorn: `gunicorn/workers/workertmp.py`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{fstat, futimens};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Gid, Uid, fchown, mkstemp, unlink};

/// One worker's heartbeat file, open in the worker, which touches it, and in the master, which looks.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    file: OwnedFd,
}

impl Heartbeat {
    /// Makes the file in `dir` for a worker of `owner`, removes its name, and beats once: a worker's time to boot counts
    /// from here. Only the owner of a file may set its times to what the worker sets them to. Where the directory's file
    /// system is full, the file is made in memory.
    ///
    /// # Errors
    /// Those of mkstemp(3), unlink(2), fchown(2), futimens(3): a directory that is not there, or read-only.
    pub(crate) fn create(dir: &Path, owner: (Option<Uid>, Option<Gid>)) -> io::Result<Self> {
        let file = match mkstemp(&dir.join("rgun-async-XXXXXX")) {
            Ok((file, path)) => {
                unlink(&path)?;
                crate::os::fds::keep_on_exec(&file, false)?;
                file
            }
            Err(Errno::ENOSPC | Errno::EDQUOT) => {
                memfd_create(c"rgun-async-heartbeat", MFdFlags::MFD_CLOEXEC)?
            }
            Err(error) => return Err(error.into()),
        };
        let beat = Self { file };
        beat.beat()?;
        if owner != (None, None) {
            match fchown(&beat.file, owner.0, owner.1) {
                // Who may not give it away may not become that user either: the worker tells it and ends.
                Ok(()) | Err(Errno::EPERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(beat)
    }

    /// A second handle on the same file.
    ///
    /// # Errors
    /// EMFILE.
    pub(crate) fn share(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
        })
    }

    /// The file's descriptor, for those who cannot be given the file.
    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// The worker's side: alive now. One system call, no disk access on a tmpfs.
    ///
    /// # Errors
    /// Those of futimens(3).
    pub(crate) fn beat(&self) -> io::Result<()> {
        let now = now()?;
        Ok(futimens(&self.file, &now, &now)?)
    }

    /// The master's side: how long ago the last beat was.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub(crate) fn silent_for(&self) -> io::Result<Duration> {
        let stat = fstat(self.file.as_fd())?;
        let beat = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
        let silent = (now()? - beat).num_nanoseconds();
        Ok(Duration::from_nanos(u64::try_from(silent).unwrap_or(0)))
    }
}

/// Where heartbeat files go when `--worker-tmp-dir` does not say: a tmpfs that can be written, since a touch of a file
/// on a slow disk can block the worker for seconds; else the system's directory for temporary files.
pub(crate) fn default_dir() -> PathBuf {
    let tmpfs = ["/dev/shm", "/run", "/tmp"]
        .into_iter()
        .map(Path::new)
        .find(|dir| {
            statfs(*dir).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC) && writable(dir)
        });
    tmpfs.map_or_else(std::env::temp_dir, Path::to_path_buf)
}

fn writable(dir: &Path) -> bool {
    nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK).is_ok() && File::open(dir).is_ok()
}

fn now() -> io::Result<TimeSpec> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_ends_the_silence_and_the_file_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let beat = Heartbeat::create(dir.path(), (None, None)).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(beat.silent_for().unwrap() < Duration::from_secs(5));
        let old = TimeSpec::seconds(1);
        futimens(&beat.file, &old, &old).unwrap();
        let shared = beat.share().unwrap();
        let since_boot = now().unwrap().num_seconds() - 1;
        let silent = i64::try_from(shared.silent_for().unwrap().as_secs()).unwrap();
        assert!((silent - since_boot).abs() <= 1, "{silent} {since_boot}");
        shared.beat().unwrap();
        assert!(beat.silent_for().unwrap() < Duration::from_secs(5));
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        assert!(Heartbeat::create(Path::new("/nonexistent-directory"), (None, None)).is_err());
    }
}
