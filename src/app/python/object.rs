//! The few calls that pyo3's safe API does not offer, or not without a cost to every request.
//!
//! What the limited API of 3.10 lacks is declared in [`lacking`]; every `CPython` from 3.10 on exports it.

#![expect(
    unsafe_code,
    reason = "the C API where pyo3's safe one costs each request or has no such call"
)]

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::thread::ThreadId;

use bytes::Bytes;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyString};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::shared::{self, Away};

/// An owned reference. It never leaves its thread, which holds the GIL whenever code of ours runs there.
pub(super) type Ref = Bound<'static, PyAny>;

/// A `bytes` longer than this is sent from where it lies; a shorter one is copied, which costs no more than keeping
/// the object alive.
const COPY_UP_TO: usize = 16 * 1024;

mod lacking {
    use std::ffi::c_int;

    use pyo3::ffi::{Py_ssize_t, PyObject};

    unsafe extern "C" {
        pub(super) fn PyObject_VectorcallDict(
            callable: *mut PyObject,
            args: *const *mut PyObject,
            count: usize,
            keywords: *mut PyObject,
        ) -> *mut PyObject;
        pub(super) fn PyObject_LengthHint(
            object: *mut PyObject,
            default: Py_ssize_t,
        ) -> Py_ssize_t;
        pub(super) fn PyContext_CopyCurrent() -> *mut PyObject;
        pub(super) fn PyContext_Enter(context: *mut PyObject) -> c_int;
        pub(super) fn PyContext_Exit(context: *mut PyObject) -> c_int;
    }

    /// `PY_VECTORCALL_ARGUMENTS_OFFSET`: the callee may use the slot before the first argument.
    pub(super) const ARGUMENTS_OFFSET: usize = 1 << (usize::BITS - 1);
}

/// The token of the interpreter for as long as the process lives.
///
/// The caller is `main` of the extension module, or a thread's: everything that is given the token runs on that thread,
/// inside that call, and gives the GIL away only where nothing of ours runs (see `gil`, and `Python::detach`).
pub(super) fn token(_: Python<'_>) -> Python<'static> {
    // SAFETY: the argument proves that this thread is attached; that it stays so is said above, kept by `gil`.
    unsafe { Python::assume_attached() }
}

/// `bytes` as a `str` of the same code points (PEP 3333's "bytes-as-unicode").
pub(super) fn latin1(py: Python<'static>, bytes: &[u8]) -> PyResult<Bound<'static, PyString>> {
    let length = bytes.len().cast_signed();
    // SAFETY: pointer and length are those of a live slice; a null `errors` means strict.
    let text =
        unsafe { ffi::PyUnicode_DecodeLatin1(bytes.as_ptr().cast(), length, ptr::null()) };
    // SAFETY: the call returned a new reference, or null with an exception set.
    let text = unsafe { Bound::from_owned_ptr_or_err(py, text) }?;
    // SAFETY: PyUnicode_DecodeLatin1 makes nothing but `str`.
    Ok(unsafe { text.cast_into_unchecked() })
}

/// `callable()` by the vectorcall protocol.
pub(super) fn call0<'py>(callable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let mut spare: *mut ffi::PyObject = ptr::null_mut();
    let start = (&raw mut spare).wrapping_add(1).cast_const();
    // SAFETY: no reference follows `start`, and the slot before it is ours to lend.
    let result = unsafe {
        lacking::PyObject_VectorcallDict(
            callable.as_ptr(),
            start,
            lacking::ARGUMENTS_OFFSET,
            ptr::null_mut(),
        )
    };
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// `callable(first, second)` by the vectorcall protocol: no tuple is made.
pub(super) fn call2(callable: &Ref, first: &Ref, second: &Ref) -> PyResult<Ref> {
    let arguments = [ptr::null_mut(), first.as_ptr(), second.as_ptr()];
    let start = &raw const arguments[1];
    // SAFETY: two live references follow `start`, and the slot before it is ours to lend.
    let result = unsafe {
        lacking::PyObject_VectorcallDict(
            callable.as_ptr(),
            start,
            2 | lacking::ARGUMENTS_OFFSET,
            ptr::null_mut(),
        )
    };
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// `callable(first, second, third)`, in the same way.
pub(super) fn call3(callable: &Ref, first: &Ref, second: &Ref, third: &Ref) -> PyResult<Ref> {
    let arguments = [
        ptr::null_mut(),
        first.as_ptr(),
        second.as_ptr(),
        third.as_ptr(),
    ];
    let start = &raw const arguments[1];
    // SAFETY: three live references follow `start`, and the slot before it is ours to lend.
    let result = unsafe {
        lacking::PyObject_VectorcallDict(
            callable.as_ptr(),
            start,
            3 | lacking::ARGUMENTS_OFFSET,
            ptr::null_mut(),
        )
    };
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// Whether `iterator` itself says that nothing is left (`__length_hint__`); one that cannot tell says no.
pub(super) fn is_exhausted(iterator: &Bound<'static, PyIterator>) -> bool {
    // SAFETY: a live reference.
    let hint = unsafe { lacking::PyObject_LengthHint(iterator.as_ptr(), 1) };
    if hint < 0 {
        drop(PyErr::take(iterator.py()));
    }
    hint == 0
}

/// A new reference to `None`, for who passes it on to C.
pub(super) fn none() -> *mut ffi::PyObject {
    // SAFETY: the GIL is held whenever code of ours runs.
    let py = unsafe { Python::assume_attached() };
    py.None().into_ptr()
}

/// How many references there are to an object.
pub(super) fn references<T>(object: &Bound<'_, T>) -> isize {
    // SAFETY: a live reference.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

/// The contents of a `bytes`; a long one is not copied.
pub(super) fn contents(object: &Bound<'static, PyBytes>) -> Bytes {
    let bytes = object.as_bytes();
    if bytes.len() <= COPY_UP_TO {
        return Bytes::copy_from_slice(bytes);
    }
    Bytes::from_owner(Lent {
        object: ManuallyDrop::new(object.clone()),
        thread: std::thread::current().id(),
    })
}

/// A `bytes` whose contents are on their way to a socket.
struct Lent {
    object: ManuallyDrop<Bound<'static, PyBytes>>,
    thread: ThreadId,
}

// SAFETY: `Bytes` asks for it. The contents of a `bytes` never change, and the reference is given back on its own
// thread, which has the GIL whenever it drops one, or left for one that has it (see `drop`).
unsafe impl Send for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.object.as_bytes()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        let object = unsafe { ManuallyDrop::take(&mut self.object) };
        if std::thread::current().id() == self.thread {
            return drop(object);
        }
        let length = object.as_bytes().len();
        shared::leave(Away::new(object.into_any()), length);
    }
}

/// A descriptor of our own for a file that Python has open, and may close at any time.
pub(super) fn duplicate(descriptor: RawFd) -> Option<File> {
    if descriptor < 0 {
        return None;
    }
    // SAFETY: not -1; the file object that told it lives during the call, and `dup` of a descriptor that is not open
    // fails and harms nothing.
    let theirs = unsafe { BorrowedFd::borrow_raw(descriptor) };
    theirs.try_clone_to_owned().ok().map(File::from)
}

/// Registers a descriptor with the runtime, for readiness to be read.
///
/// # Errors
/// Those of `epoll_ctl(2)`.
pub(super) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, and the same number, for as long as it lives, and the AsyncFd owns it.
    unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }
        .map_err(Into::into)
}

/// A copy of the context variables, in which one request runs.
pub(super) struct Context(Ref);

impl Context {
    /// On its way to another thread.
    pub(super) fn into_away(self) -> Away {
        Away::new(self.0)
    }

    /// Back from there.
    pub(super) fn of(away: Away, py: Python<'static>) -> Self {
        Self(away.home(py))
    }

    /// One that Python code has made.
    pub(super) fn made(context: Ref) -> Self {
        Self(context)
    }

    /// A copy of the thread's (or greenlet's) own.
    pub(super) fn copy_current(py: Python<'static>) -> PyResult<Self> {
        // SAFETY: takes nothing.
        let context = unsafe { lacking::PyContext_CopyCurrent() };
        // SAFETY: a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(py, context) }.map(Self)
    }

    /// Runs `work` in it.
    ///
    /// # Errors
    /// Where the context is entered already.
    pub(super) fn run<T>(&self, work: impl FnOnce() -> T) -> PyResult<T> {
        let _entered = self.enter()?;
        Ok(work())
    }

    /// Enters it, until what is returned is dropped.
    ///
    /// # Errors
    /// Where the context is entered already.
    pub(super) fn enter(&self) -> PyResult<Entered<'_>> {
        // SAFETY: a live context object.
        let entered = unsafe { lacking::PyContext_Enter(self.0.as_ptr()) };
        if entered != 0 {
            return Err(PyErr::fetch(self.0.py()));
        }
        Ok(Entered(&self.0))
    }
}

/// A context that is entered.
pub(super) struct Entered<'a>(&'a Ref);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // SAFETY: entered by `enter`, and the last one entered: whatever was entered within has been left.
        let left: c_int = unsafe { lacking::PyContext_Exit(self.0.as_ptr()) };
        if left != 0 {
            drop(PyErr::take(self.0.py()));
        }
    }
}
