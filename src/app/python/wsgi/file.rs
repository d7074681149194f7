//! `wsgi.file_wrapper`, and the bodies that it makes of real files: sent by the server, with no Python between them.
//!
//! PEP 3333, "Optional Platform-Specific File Handling".

use std::sync::Arc;

use pyo3::exceptions::PyIndexError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::app::FileRange;
use crate::app::python::object::{Ref, duplicate};

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

/// The rest of the file that `object` wraps, from where Python's reader of it stands; if it is one of the operating system's
/// and nothing between it and Python changes its bytes. At most `limit` bytes, where the app has said how many it sends.
pub(super) fn wrapped(
    object: &Bound<'_, PyAny>,
    kinds: &Kinds,
    limit: Option<u64>,
) -> PyResult<Option<FileRange>> {
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
    let end = next + limit.unwrap_or(left).min(left);
    Ok(Some(FileRange::new(Arc::new(file), next, end)))
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
