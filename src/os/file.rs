//! Files that are served: read as far as they are in memory, and sent by the kernel.
#![expect(unsafe_code, reason = "reads into memory that nothing has written yet")]

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd};
#[cfg(feature = "static")]
use std::os::unix::fs::MetadataExt;

use rustix::fs::sendfile;
#[cfg(feature = "static")]
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// Reads at `offset` what is in memory; zero at the end of the file. File systems that cannot tell are read as always.
///
/// # Errors
/// `WouldBlock` where the bytes have to come from a disk (`RWF_NOWAIT`, `preadv2(2)`).
pub(crate) fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let read =
        |buffer: &mut [u8], flags| preadv2(file, &mut [IoSliceMut::new(buffer)], offset, flags);
    match read(buffer, ReadWriteFlags::NOWAIT) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            Ok(read(buffer, ReadWriteFlags::empty())?)
        }
        read => Ok(read?),
    }
}

/// The same, of at most `most` bytes, which come behind those that `buffer` has; its new memory is not written before.
///
/// # Errors
/// As [`read_cached`].
pub(crate) fn append_cached(
    file: &File,
    buffer: &mut Vec<u8>,
    most: usize,
    offset: u64,
) -> io::Result<usize> {
    buffer.reserve_exact(most);
    let read = |buffer: &mut Vec<u8>, flags| -> io::Result<usize> {
        let spare = buffer.spare_capacity_mut();
        let part = libc::iovec {
            iov_base: spare.as_mut_ptr().cast(),
            iov_len: spare.len().min(most),
        };
        let offset =
            libc::off64_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: `part` is memory of `buffer`'s own, borrowed for the call, and no more of it is named than there is.
        let read =
            unsafe { libc::preadv64v2(file.as_raw_fd(), &raw const part, 1, offset, flags) };
        let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
        let length = buffer.len() + read;
        // SAFETY: The kernel has written the `read` bytes behind the old length; they are within the spare capacity.
        unsafe { buffer.set_len(length) };
        Ok(read)
    };
    match read(buffer, libc::RWF_NOWAIT) {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL)
            ) =>
        {
            read(buffer, 0)
        }
        read => read,
    }
}

/// What stands under a name, as far as an answer tells of it.
#[cfg(feature = "static")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) is_file: bool,
    pub(crate) is_directory: bool,
    pub(crate) length: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

#[cfg(feature = "static")]
impl Standing {
    /// Of an open file (`fstat(2)`).
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let stat = fstat(file)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        Ok(Self {
            is_file: kind.is_file(),
            is_directory: kind.is_dir(),
            length: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (
                stat.st_mtime,
                i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
            ),
        })
    }
}

#[cfg(feature = "static")]
impl From<&std::fs::Metadata> for Standing {
    fn from(metadata: &std::fs::Metadata) -> Self {
        Self {
            is_file: metadata.is_file(),
            is_directory: metadata.is_dir(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Has the kernel send at most `count` bytes of `file` from `*offset` on, which is moved; how many, zero at the end of the file
/// (`sendfile(2)`).
///
/// # Errors
/// `WouldBlock` where the socket takes no more; `InvalidInput` where the file system does not do it.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    file: &File,
    offset: &mut u64,
    count: usize,
) -> io::Result<usize> {
    Ok(sendfile(socket, file, Some(offset), count)?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn digits() -> File {
        let named = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(named.path(), "0123456789").unwrap();
        File::open(named.path()).unwrap()
    }

    #[test]
    fn a_file_is_read_at_any_place() {
        let file = digits();
        let mut buffer = [0; 4];
        assert_eq!(read_cached(&file, &mut buffer, 7).unwrap(), 3);
        assert_eq!(&buffer[..3], b"789");
        assert_eq!(read_cached(&file, &mut buffer, 10).unwrap(), 0);
    }

    #[test]
    fn what_is_read_comes_behind_what_is_there() {
        let file = digits();
        let mut buffer = b"abc".to_vec();
        assert_eq!(append_cached(&file, &mut buffer, 4, 2).unwrap(), 4);
        assert_eq!(append_cached(&file, &mut buffer, 100, 8).unwrap(), 2);
        assert_eq!(append_cached(&file, &mut buffer, 100, 10).unwrap(), 0);
        assert_eq!(buffer, b"abc234589");
    }

    #[cfg(feature = "static")]
    #[test]
    fn an_open_file_stands_as_its_metadata_say() {
        let file = digits();
        let standing = Standing::of(&file).unwrap();
        assert_eq!(standing, Standing::from(&file.metadata().unwrap()));
        assert!(standing.is_file && !standing.is_directory && standing.length == 10);
    }

    #[test]
    fn the_kernel_sends_part_of_a_file() {
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut offset = 2;
        assert_eq!(send(theirs.as_fd(), &digits(), &mut offset, 3).unwrap(), 3);
        assert_eq!(offset, 5);
        drop(theirs);
        let mut text = String::new();
        io::Read::read_to_string(&mut ours, &mut text).unwrap();
        assert_eq!(text, "234");
    }
}
