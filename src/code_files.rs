//! The files that a worker's app was loaded from, for the master to watch (`--reload`): in a file without a name, written by
//! the worker and read by the master when the worker has said so.

use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::sys::memfd::{MFdFlags, memfd_create};

/// More than this is not read.
const MOST: usize = 8 * 1024 * 1024;

/// The file, open in the worker and in the master.
#[derive(Debug)]
pub(crate) struct CodeFiles(File);

impl CodeFiles {
    /// An empty one.
    ///
    /// # Errors
    /// Those of `memfd_create(2)`.
    pub(crate) fn create() -> io::Result<Self> {
        let file = memfd_create(c"rgun-async-code-files", MFdFlags::MFD_CLOEXEC)?;
        Ok(Self(file.into()))
    }

    /// A second handle on the same file.
    ///
    /// # Errors
    /// EMFILE.
    pub(crate) fn share(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// The worker's side: these files, in the place of those from before.
    ///
    /// # Errors
    /// ENOSPC.
    pub(crate) fn write(&self, files: &[PathBuf]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for file in files {
            bytes.extend_from_slice(file.as_os_str().as_bytes());
            bytes.push(0);
        }
        self.0.set_len(0)?;
        self.0.write_all_at(&bytes, 0)
    }

    /// The master's side. A list that is being written may be short: another report follows.
    pub(crate) fn read(&self) -> Vec<PathBuf> {
        let length = self.0.metadata().map_or(0, |meta| meta.len());
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(MOST).min(MOST)];
        let read = self.0.read_at(&mut bytes, 0).unwrap_or(0);
        bytes.truncate(read);
        bytes
            .split_inclusive(|byte| *byte == 0)
            .filter_map(|path| path.strip_suffix(&[0]))
            .filter(|path| path.starts_with(b"/"))
            .map(|path| PathBuf::from(std::ffi::OsString::from_vec(path.to_vec())))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_by_the_other_handle() {
        let worker = CodeFiles::create().unwrap();
        let master = worker.share().unwrap();
        assert!(master.read().is_empty());
        let long = [PathBuf::from("/a/b.py"), PathBuf::from("/c d/\u{e9}.py")];
        worker.write(&long).unwrap();
        assert_eq!(master.read(), long);
        let short = [PathBuf::from("/x.py")];
        worker.write(&short).unwrap();
        assert_eq!(master.read(), short);
        worker.write(&["relative".into(), "/y.py".into()]).unwrap();
        assert_eq!(master.read(), ["/y.py"].map(PathBuf::from));
    }
}
