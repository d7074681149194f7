//! Files that are served: read as far as they are in memory, and sent by the kernel.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::BorrowedFd;

use rustix::fs::sendfile;
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
