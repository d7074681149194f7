//! Part of a regular file as the body of a response.
//!
//! A body made of one reads what is in memory on the worker's thread, and what is not on a thread for blocking work. Where the
//! connection is a plain socket none of this happens: the body's [`FileRange`] goes with the response, and the kernel sends
//! the file.

use std::fs::File;
use std::future::Future as _;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::error::AnyError;
use crate::files::append_cached;

/// What is read from a file at once.
const BLOCK: u64 = 128 * 1024;

/// From one place in a regular file to another. In a response's extensions it says: the body is these bytes, and the server may
/// take them from the file itself.
#[derive(Clone, Debug)]
pub(crate) struct FileRange {
    file: Arc<File>,
    next: u64,
    end: u64,
}

impl FileRange {
    /// The bytes of `file` from `start` to before `end`.
    pub(crate) fn new(file: Arc<File>, start: u64, end: u64) -> Self {
        Self {
            file,
            next: start,
            end: end.max(start),
        }
    }

    /// A whole file, or its first `limit` bytes.
    ///
    /// # Errors
    /// Where it cannot be opened, or is no regular file.
    #[cfg_attr(
        not(any(feature = "python", test)),
        expect(dead_code, reason = "ASGI apps alone name files")
    )]
    pub(crate) fn open(path: &Path, limit: Option<u64>) -> io::Result<Self> {
        // Asked before it is opened: to open a pipe is to wait for its other end.
        let irregular = || {
            let what = format!("{} is no regular file", path.display());
            io::Error::new(io::ErrorKind::InvalidInput, what)
        };
        if !std::fs::metadata(path)?.is_file() {
            return Err(irregular());
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(irregular());
        }
        let length = metadata.len();
        Ok(Self::new(
            Arc::new(file),
            0,
            limit.unwrap_or(length).min(length),
        ))
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> u64 {
        self.end - self.next
    }

    /// Leaves at most so many bytes.
    pub(crate) fn limit(&mut self, bytes: u64) {
        self.end = self.end.min(self.next.saturating_add(bytes));
    }

    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Where the next byte is.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// So many bytes more are on their way.
    pub(crate) fn advance(&mut self, bytes: u64) {
        self.next = self.next.saturating_add(bytes).min(self.end);
    }

    /// Reads `bytes` of it on a thread that may wait for the disk; they are in memory afterwards.
    pub(crate) fn fetch(&self, bytes: usize) -> JoinHandle<io::Result<Bytes>> {
        let (file, next) = (Arc::clone(&self.file), self.next);
        tokio::task::spawn_blocking(move || {
            let mut block = BytesMut::zeroed(bytes);
            let got = file.read_at(&mut block, next)?;
            block.truncate(got);
            Ok(block.freeze())
        })
    }
}

/// The file ends before the bytes that were announced do.
pub(crate) fn became_shorter() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the file became shorter while it was sent",
    )
}

/// Reads a [`FileRange`] block by block.
#[derive(Debug)]
pub(crate) struct FileReader {
    range: FileRange,
    fetching: Option<JoinHandle<io::Result<Bytes>>>,
}

impl From<FileRange> for FileReader {
    fn from(range: FileRange) -> Self {
        Self {
            range,
            fetching: None,
        }
    }
}

impl FileReader {
    /// What is not read yet.
    pub(crate) fn range(&self) -> &FileRange {
        &self.range
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> u64 {
        self.range.left()
    }

    /// The next block; `None` at the end.
    ///
    /// # Errors
    /// Where the file cannot be read, or has become shorter.
    pub(crate) fn poll_block(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        let wanted = usize::try_from(self.left().min(BLOCK)).unwrap_or(usize::MAX);
        if wanted == 0 {
            return Poll::Ready(None);
        }
        let read = match &mut self.fetching {
            None => {
                let mut block = Vec::new();
                match append_cached(&self.range.file, &mut block, wanted, self.range.next) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        let fetching = self.fetching.insert(self.range.fetch(wanted));
                        ready!(Pin::new(fetching).poll(cx))
                            .unwrap_or_else(|error| Err(error.into()))
                    }
                    read => read.map(|_| Bytes::from(block)),
                }
            }
            Some(fetching) => {
                ready!(Pin::new(fetching).poll(cx)).unwrap_or_else(|error| Err(error.into()))
            }
        };
        self.fetching = None;
        Poll::Ready(Some(read.and_then(|block| {
            if block.is_empty() {
                return Err(became_shorter());
            }
            self.range
                .advance(u64::try_from(block.len()).unwrap_or(u64::MAX));
            Ok(block)
        })))
    }
}

/// A body that is part of a file, or nothing.
#[derive(Debug, Default)]
pub struct FileBody(Option<FileReader>);

impl FileBody {
    /// A body of these bytes.
    #[cfg_attr(
        not(any(feature = "static", test)),
        expect(dead_code, reason = "made by static files alone")
    )]
    pub(crate) fn new(range: FileRange) -> Self {
        Self(Some(FileReader::from(range)))
    }

    /// The bytes that it is, where nobody is reading them yet.
    pub(crate) fn unread(&self) -> Option<&FileRange> {
        self.0
            .as_ref()
            .filter(|reader| reader.fetching.is_none())
            .map(FileReader::range)
    }

    /// The bytes that it is.
    pub(crate) fn range(&self) -> Option<&FileRange> {
        self.0.as_ref().map(FileReader::range)
    }
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = AnyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnyError>>> {
        let Some(reader) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let block = ready!(reader.poll_block(cx));
        Poll::Ready(block.map(|block| block.map(Frame::data).map_err(AnyError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|reader| reader.left() == 0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, FileReader::left))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn file(bytes: &[u8]) -> Arc<File> {
        let named = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(named.path(), bytes).unwrap();
        Arc::new(File::open(named.path()).unwrap())
    }

    #[tokio::test]
    async fn a_body_is_the_bytes_of_its_range() {
        let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let file = file(&bytes);
        for (start, end) in [(0, 300_000), (5, 299_999), (7, 8), (9, 9)] {
            let range = FileRange::new(Arc::clone(&file), start, end);
            let body = FileBody::new(range).collect().await.unwrap().to_bytes();
            let (start, end) = (usize::try_from(start), usize::try_from(end));
            assert_eq!(body, bytes[start.unwrap()..end.unwrap()]);
        }
    }

    #[tokio::test]
    async fn a_file_that_has_become_shorter_is_an_error() {
        let file = file(b"0123456789");
        let body = FileBody::new(FileRange::new(file, 5, 11));
        let error = body.collect().await.unwrap_err();
        assert!(error.to_string().contains("became shorter"), "{error}");
    }

    #[tokio::test]
    async fn what_a_thread_fetches_is_what_is_next() {
        let mut range = FileRange::new(file(b"0123456789"), 2, 9);
        range.advance(3);
        assert_eq!(range.fetch(100).await.unwrap().unwrap(), "56789");
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [directory.path(), pipe.as_path()] {
            let error = FileRange::open(path, None).unwrap_err();
            assert!(error.to_string().contains("no regular file"), "{error}");
        }
    }
}
