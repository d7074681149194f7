//! The file system as `tower-http` sees it for one request: files are opened at once, by the worker, as long as the kernel has
//! their names in memory, and by a thread for blocking work otherwise.
//!
//! A file is opened once, whatever the library asks about it; and what it has chosen to send is kept for the
//! server, which sends it without the library.

use std::future::{Future, Ready, ready};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File, Metadata};

use super::known::Look;
use super::root::{Found, Root};
use crate::files::{Patience, Standing};

/// One request's view of a directory.
#[derive(Clone, Debug)]
pub(super) struct View(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: Arc<Root>,
    last: Mutex<Last>,
}

/// What the library has found last. What it looks for in vain, such as a compressed file beside this one, leaves it as it is.
#[derive(Debug, Default)]
struct Last {
    path: PathBuf,
    found: Option<Found>,
    /// Where it begins to read.
    start: u64,
    /// All that it has looked for, each once, in the order of the last times.
    looks: Vec<Look>,
    /// One of them has failed in a way that another may not.
    odd: bool,
}

impl View {
    pub(super) fn of(root: &Arc<Root>) -> Self {
        Self(Arc::new(Inner {
            root: Arc::clone(root),
            last: Mutex::default(),
        }))
    }

    /// The file that the library has opened, and from where it is to be sent.
    pub(super) fn chosen(&self) -> Option<(Found, u64)> {
        let mut last = self.last();
        let start = last.start;
        last.found.take().map(|found| (found, start))
    }

    /// All that the library has looked for, in order; nothing, where that does not decide what it says.
    pub(super) fn looks(&self) -> Option<Vec<Look>> {
        let mut last = self.last();
        (!last.odd).then(|| std::mem::take(&mut last.looks))
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look<T: 'static>(
        &self,
        path: PathBuf,
        take: fn(&Self, Found) -> io::Result<T>,
    ) -> Soon<T> {
        let known = {
            let last = self.last();
            last.found.clone().filter(|_| last.path == path)
        };
        let found = known.map_or_else(|| self.0.root.open(&path, Patience::AtOnce), Ok);
        match found {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let view = self.clone();
                Soon::Later(Box::pin(async move {
                    let inner = Arc::clone(&view.0);
                    let (found, path) = tokio::task::spawn_blocking(move || {
                        (inner.root.open(&path, Patience::Waits), path)
                    })
                    .await?;
                    view.keep(path, found, take)
                }))
            }
            found => Soon::Now(Some(self.keep(path, found, take))),
        }
    }

    fn keep<T>(
        &self,
        path: PathBuf,
        found: io::Result<Found>,
        take: fn(&Self, Found) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut last = self.last();
        let standing = match &found {
            Ok(found) => Some(Standing::from(&found.metadata)),
            Err(error) => {
                last.odd |= error.kind() != io::ErrorKind::NotFound;
                None
            }
        };
        let look = Look {
            path: path.clone(),
            found: standing,
        };
        // The library asks of one file more than once; the last that it has found is what it sends.
        last.looks.retain(|known| *known != look);
        last.looks.push(look);
        let found = found?;
        last.found = Some(found.clone());
        last.path = path;
        drop(last);
        take(self, found)
    }
}

impl Backend for View {
    type File = Opened;
    type Metadata = Facts;
    type OpenFuture = Soon<Opened>;
    type MetadataFuture = Soon<Facts>;

    fn open(&self, path: PathBuf) -> Soon<Opened> {
        self.look(path, |view, found| {
            if !found.metadata.is_file() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(Opened {
                found,
                view: view.clone(),
                next: 0,
            })
        })
    }

    fn metadata(&self, path: PathBuf) -> Soon<Facts> {
        self.look(path, |_, found| Ok(Facts(found.metadata)))
    }
}

/// What is there now, or soon.
pub(super) enum Soon<T> {
    Now(Option<io::Result<T>>),
    Later(Pin<Box<dyn Future<Output = io::Result<T>> + Send>>),
}

// Nothing in it is pinned in place.
impl<T> Unpin for Soon<T> {}

impl<T> Future for Soon<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match &mut *self {
            Self::Now(found) => found.take().map_or(Poll::Pending, Poll::Ready),
            Self::Later(found) => found.as_mut().poll(cx),
        }
    }
}

/// What is asked about a file.
pub(super) struct Facts(std::fs::Metadata);

impl Metadata for Facts {
    fn is_dir(&self) -> bool {
        self.0.is_dir()
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.0.modified()
    }

    fn len(&self) -> u64 {
        self.0.len()
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct Opened {
    found: Found,
    view: View,
    next: u64,
}

impl File for Opened {
    type Metadata = Facts;
    type MetadataFuture<'a> = Ready<io::Result<Facts>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        ready(Ok(Facts(self.found.metadata.clone())))
    }
}

impl AsyncRead for Opened {
    /// The server reads the file itself; this is what the library's own body would do.
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self
            .found
            .file
            .read_at(buffer.initialize_unfilled(), self.next)?;
        buffer.advance(read);
        self.next += u64::try_from(read).unwrap_or(0);
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for Opened {
    fn start_seek(mut self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        let io::SeekFrom::Start(next) = position else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        self.next = next;
        self.view.last().start = next;
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.next))
    }
}
