//! `wsgi.file_wrapper`, and the bodies that it makes of real files: read in blocks, with no Python between them.
//!
//! PEP 3333, "Optional Platform-Specific File Handling".

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use pyo3::exceptions::PyIndexError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::app::python::object::{Ref, duplicate};

/// What is read from a file at once.
const BLOCK: u64 = 128 * 1024;

/// The size of the blocks that an app's iteration gets, unless it says otherwise; Gunicorn's.
const BLKSIZE: u16 = 8192;

/// An iterable over the blocks of a file-like object.
#[pyclass(frozen, module = "rgun_async._native")]
pub(super) struct FileWrapper {
    #[pyo3(get)]
    filelike: Py<PyAny>,
    blksize: Py<PyAny>,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, blksize = None))]
    fn new(py: Python<'_>, filelike: Py<PyAny>, blksize: Option<Py<PyAny>>) -> PyResult<Self> {
        let blksize = match blksize {
            Some(size) => size,
            None => BLKSIZE.into_pyobject(py)?.into_any().unbind(),
        };
        Ok(Self { filelike, blksize })
    }

    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let data = self
            .filelike
            .bind(py)
            .call_method1(intern!(py, "read"), (&self.blksize,))?;
        Ok(if data.is_truthy()? { Some(data) } else { None })
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        _index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.__next__(py)?
            .ok_or_else(|| PyIndexError::new_err("the file is at its end"))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let file = self.filelike.bind(py);
        match file.getattr_opt(intern!(py, "close"))? {
            Some(close) => close.call0().map(drop),
            None => Ok(()),
        }
    }
}

/// The rest of a regular file, from where Python's reader of it stands.
#[derive(Debug)]
pub(in crate::app::python) struct Blocks {
    file: File,
    next: u64,
    end: u64,
}

impl Blocks {
    /// The blocks of the file that `object` wraps, if it is one of the operating system's and nothing between it and
    /// Python changes its bytes. At most `limit` bytes, where the app has said how many it sends.
    pub(super) fn of(
        object: &Bound<'_, PyAny>,
        kinds: &Kinds,
        limit: Option<u64>,
    ) -> PyResult<Option<Self>> {
        let Ok(wrapper) = object.cast_exact::<FileWrapper>() else {
            return Ok(None);
        };
        let py = object.py();
        let filelike = wrapper.get().filelike.bind(py);
        // The reader of a compressed file has a descriptor as well: only these two give its bytes as they are.
        let raw = if filelike.get_type().is(&kinds.buffered) {
            &filelike.getattr(intern!(py, "raw"))?
        } else {
            filelike
        };
        if !raw.get_type().is(&kinds.raw) || raw.getattr(intern!(py, "closed"))?.is_truthy()? {
            return Ok(None);
        }
        let descriptor = filelike
            .call_method0(intern!(py, "fileno"))?
            .extract::<i32>()?;
        let Some(file) = duplicate(descriptor) else {
            return Ok(None);
        };
        let Ok(metadata) = file.metadata() else {
            return Ok(None);
        };
        if !metadata.is_file() {
            return Ok(None);
        }
        // What Python has read ahead is not read yet, for it: so by its own count.
        let next = filelike
            .call_method0(intern!(py, "tell"))?
            .extract::<u64>()?;
        let left = metadata.len().saturating_sub(next);
        Ok(Some(Self {
            file,
            next,
            end: next + limit.unwrap_or(left).min(left),
        }))
    }

    /// A whole file, or its first `limit` bytes.
    ///
    /// # Errors
    /// Where it cannot be opened, or is no regular file.
    pub(in crate::app::python) fn open(path: &Path, limit: Option<u64>) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} is no regular file", path.display()),
            ));
        }
        let length = metadata.len();
        Ok(Self {
            file,
            next: 0,
            end: limit.unwrap_or(length).min(length),
        })
    }

    /// How many bytes are left.
    pub(in crate::app::python) fn left(&self) -> u64 {
        self.end - self.next
    }

    /// The next block; `None` at the end.
    ///
    /// # Errors
    /// Where the file cannot be read, or has become shorter.
    pub(in crate::app::python) fn read(&mut self) -> io::Result<Option<Bytes>> {
        let wanted = usize::try_from(self.left().min(BLOCK)).unwrap_or(usize::MAX);
        if wanted == 0 {
            return Ok(None);
        }
        let mut block = BytesMut::zeroed(wanted);
        let got = self.file.read_at(&mut block, self.next)?;
        if got == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was sent",
            ));
        }
        block.truncate(got);
        self.next += u64::try_from(got).unwrap_or(0);
        Ok(Some(block.freeze()))
    }
}

/// Python's own readers of files.
pub(super) struct Kinds {
    raw: Ref,
    buffered: Ref,
}

impl Kinds {
    pub(super) fn new(py: Python<'static>) -> PyResult<Self> {
        let io = py.import("io")?;
        Ok(Self {
            raw: io.getattr("FileIO")?,
            buffered: io.getattr("BufferedReader")?,
        })
    }
}
