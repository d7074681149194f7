//! `wsgi.input`: a request's body as a file object.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Seek};
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::OnceLock;

use bytes::Bytes;
use http_body::Body as _;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use tokio::io::AsyncWriteExt;

use crate::app::Body;
use crate::app::python::object::Ref;
use crate::error::AnyError;

/// A request's body, gathered.
#[derive(Debug)]
pub(in crate::app::python) enum Input {
    /// There is none.
    Empty,
    /// In memory.
    Memory(Bytes),
    /// In an unlinked file.
    File(File),
}

/// A body up to this length stays in memory.
const IN_MEMORY: usize = 1024 * 1024;

impl Input {
    /// Reads all of `body`: to memory, and beyond a length to a file that has no name.
    ///
    /// *Cancel safety*: what was read is lost.
    ///
    /// # Errors
    /// Where the body breaks off, is malformed or too long, or the file cannot be written. An app is not called then: it
    /// could take the part for the whole.
    pub(in crate::app::python) async fn gather(mut body: Body) -> Result<Self, AnyError> {
        let mut memory = Vec::new();
        while let Some(chunk) = next_chunk(&mut body).await {
            let chunk = chunk?;
            if memory.is_empty() && body.is_end_stream() {
                return Ok(Self::Memory(chunk));
            }
            if memory.len() + chunk.len() > IN_MEMORY {
                return spool(body, &memory, chunk).await;
            }
            memory.extend_from_slice(&chunk);
        }
        Ok(if memory.is_empty() {
            Self::Empty
        } else {
            Self::Memory(memory.into())
        })
    }

    /// The file object; `None` where the template's empty one does.
    pub(super) fn into_object(self, files: &Files) -> PyResult<Option<Ref>> {
        match self {
            Self::Empty => Ok(None),
            Self::Memory(bytes) => {
                let bytes = PyBytes::new(files.bytes_io.py(), &bytes);
                files.bytes_io.call1((bytes,)).map(Some)
            }
            Self::File(file) => {
                // Python owns the descriptor from here, and closes it.
                files.open.call1((file.into_raw_fd(), "rb")).map(Some)
            }
        }
    }
}

/// The next non-empty piece of `body`; trailers are passed over.
pub(in crate::app::python) async fn next_chunk(
    body: &mut Body,
) -> Option<Result<Bytes, AnyError>> {
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(chunk)) if chunk.is_empty() => {}
            Ok(Ok(chunk)) => return Some(Ok(chunk)),
            Ok(Err(_trailers)) => {}
            Err(error) => return Some(Err(error.into())),
        }
    }
}

/// Where long bodies go, if not to the system's directory.
static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

/// Takes `--tmp-upload-dir`; once in the life of a worker.
pub(in crate::app::python) fn keep_in(directory: &Path) {
    if directory.is_dir() {
        // A second time it would be the same.
        drop(DIRECTORY.set(directory.to_owned()));
    } else {
        tracing::warn!(
            "tmp_upload_dir {} is no directory: the system's is used",
            directory.display()
        );
    }
}

fn unnamed() -> io::Result<File> {
    match DIRECTORY.get() {
        Some(directory) => tempfile::tempfile_in(directory),
        None => tempfile::tempfile(),
    }
}

/// The rest of a long body to a file, by the runtime's threads for blocking work.
async fn spool(mut body: Body, before: &[u8], chunk: Bytes) -> Result<Input, AnyError> {
    let file = tokio::task::spawn_blocking(unnamed).await??;
    let mut file = tokio::fs::File::from_std(file);
    file.write_all(before).await?;
    file.write_all(&chunk).await?;
    while let Some(chunk) = next_chunk(&mut body).await {
        file.write_all(&chunk?).await?;
    }
    file.flush().await?;
    let mut file = file.into_std().await;
    file.rewind()?;
    Ok(Input::File(file))
}

/// What makes file objects.
pub(super) struct Files {
    bytes_io: Ref,
    open: Ref,
}

impl Files {
    pub(super) fn new(py: Python<'static>) -> PyResult<Self> {
        let io = py.import("io")?;
        Ok(Self {
            bytes_io: io.getattr("BytesIO")?,
            open: io.getattr("open")?,
        })
    }
}

/// The body of a request that has none. One object serves all requests, so `close()` does nothing.
#[pyclass(frozen, module = "rgun_async._native")]
pub(super) struct EmptyInput;

#[expect(clippy::unused_self, reason = "Python methods")]
#[pymethods]
impl EmptyInput {
    #[pyo3(signature = (_size = None))]
    fn read<'py>(
        &self,
        py: Python<'py>,
        _size: Option<&Bound<'py, PyAny>>,
    ) -> Bound<'py, PyBytes> {
        PyBytes::new(py, b"")
    }

    #[pyo3(signature = (_size = None))]
    fn readline<'py>(
        &self,
        py: Python<'py>,
        _size: Option<&Bound<'py, PyAny>>,
    ) -> Bound<'py, PyBytes> {
        PyBytes::new(py, b"")
    }

    #[pyo3(signature = (_hint = None))]
    fn readlines<'py>(
        &self,
        py: Python<'py>,
        _hint: Option<&Bound<'py, PyAny>>,
    ) -> Bound<'py, PyList> {
        PyList::empty(py)
    }

    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__(&self) -> Option<Py<PyBytes>> {
        None
    }

    fn close(&self) {}
}
