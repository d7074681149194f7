//! What `receive()` and `send()` return: awaitables that mostly need not wait.
//!
//! One type serves all, a coroutine to whoever looks (`collections.abc.Coroutine`), so that an app may make a task of it.
//! It has `am_send`, so that awaiting what is ready makes neither an `asyncio.Future` nor a `StopIteration`. What it does is a
//! [`Step`] in safe code, done when it is awaited and not before: who is cancelled first loses nothing.

#![expect(
    unsafe_code,
    reason = "a type with am_send is out of reach of pyo3's classes"
)]

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyIterator, PyTuple, PyType};

use super::object::{self, Ref};

/// What doing a step comes to.
pub(super) enum Stepped {
    /// The result, `None` if there is none.
    Done(Option<Ref>),
    /// A future to be waited for; then the step is done again.
    Wait(Ref),
}

/// What an awaitable does.
pub(super) trait Step: 'static {
    /// Does what can be done now.
    ///
    /// # Errors
    /// What the `await` raises.
    fn step(&mut self) -> PyResult<Stepped>;
}

/// Makes awaitables.
pub(super) struct Awaitables {
    kind: Bound<'static, PyType>,
    done: Ref,
}

/// What an awaitable is at.
enum State {
    /// Nothing to do, however often it is awaited.
    Done,
    Fresh(Box<dyn Step>),
    Waiting(Box<dyn Step>, Bound<'static, PyIterator>),
    /// Taken out while Python code may run.
    Running,
    Over,
}

/// How far an awaitable got.
enum Sent {
    Returned(Option<Ref>),
    Yielded(Ref),
}

#[repr(C)]
struct Object {
    head: ffi::PyObject,
    state: ManuallyDrop<RefCell<State>>,
}

thread_local! {
    /// This is the worker's thread: references and steps stay on it.
    static OURS: Cell<bool> = const { Cell::new(false) };
}

impl Awaitables {
    /// On the worker's thread.
    pub(super) fn new(py: Python<'static>) -> PyResult<Self> {
        OURS.set(true);
        let kind = kind(py)?;
        let done = allocate(&kind, State::Done)?;
        Ok(Self { kind, done })
    }

    /// One that is done, with `None`. It is one for all.
    pub(super) fn done(&self) -> Ref {
        self.done.clone()
    }

    /// One that does `step`.
    pub(super) fn make(&self, step: impl Step) -> PyResult<Ref> {
        allocate(&self.kind, State::Fresh(Box::new(step)))
    }
}

/// A method's name as C has it, and its function.
const fn method(
    name: &'static std::ffi::CStr,
    function: ffi::PyCFunction,
    flags: c_int,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunction: function,
        },
        ml_flags: flags,
        ml_doc: ptr::null(),
    }
}

fn kind(py: Python<'static>) -> PyResult<Bound<'static, PyType>> {
    // The type refers to its methods for as long as the process lives.
    let methods = Box::leak(Box::new([
        method(c"send", send, ffi::METH_O),
        method(c"throw", throw, ffi::METH_VARARGS),
        method(c"close", close, ffi::METH_NOARGS),
        ffi::PyMethodDef::zeroed(),
    ]));
    let slot = |slot, pfunc| ffi::PyType_Slot { slot, pfunc };
    #[expect(
        clippy::as_conversions,
        reason = "a table of functions of different types"
    )]
    let mut slots = [
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_am_await, itself as *mut c_void),
        slot(ffi::Py_tp_iter, itself as *mut c_void),
        slot(ffi::Py_tp_iternext, next as *mut c_void),
        slot(ffi::Py_am_send, am_send as *mut c_void),
        slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
        slot(0, ptr::null_mut()),
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"rgun_async._native.Awaitable".as_ptr(),
        basicsize: c_int::try_from(size_of::<Object>()).unwrap_or(c_int::MAX),
        itemsize: 0,
        flags: u32::try_from(ffi::Py_TPFLAGS_DEFAULT).unwrap_or_default(),
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the specification is complete, ends with an empty slot, and each function has the type of its slot.
    let made = unsafe { ffi::PyType_FromSpec(&raw mut spec) };
    // SAFETY: a new reference, or null with an exception set.
    let made = unsafe { Bound::from_owned_ptr_or_err(py, made) }?;
    Ok(made.cast_into()?)
}

fn allocate(kind: &Bound<'static, PyType>, state: State) -> PyResult<Ref> {
    // SAFETY: a type of ours, for objects of one size.
    let made = unsafe { ffi::PyType_GenericAlloc(kind.as_type_ptr(), 0) };
    if made.is_null() {
        return Err(PyErr::fetch(kind.py()));
    }
    let object: *mut Object = made.cast();
    // SAFETY: freshly allocated, with the size that the type says, which is `Object`'s.
    let place = unsafe { &raw mut (*object).state };
    // SAFETY: as above; nothing was there before.
    unsafe { place.write(ManuallyDrop::new(RefCell::new(state))) };
    // SAFETY: a new reference that nobody else has.
    Ok(unsafe { Bound::from_owned_ptr(kind.py(), made) })
}

/// The state of one of our objects, with the token of the thread that it belongs to.
///
/// # Safety
/// `object` is a live one of our type, for as long as the result is used.
unsafe fn state<'a>(
    object: *mut ffi::PyObject,
) -> PyResult<(&'a RefCell<State>, Python<'static>)> {
    // SAFETY: the interpreter calls its slots and methods with the GIL held; the token is used during the call.
    let py = unsafe { Python::assume_attached() };
    if !OURS.get() {
        return Err(PyRuntimeError::new_err(
            "this can only be awaited in the thread of the event loop that serves the request",
        ));
    }
    let object: *const Object = object.cast();
    // SAFETY: the caller's promise; the state was written when the object was made.
    Ok((unsafe { &(*object).state }, py))
}

fn resume(cell: &RefCell<State>, value: &Ref) -> PyResult<Sent> {
    let mut state = {
        let mut here = cell.borrow_mut();
        match &*here {
            State::Done => return Ok(Sent::Returned(None)),
            State::Fresh(_) | State::Waiting(..) => {
                std::mem::replace(&mut *here, State::Running)
            }
            State::Running => {
                return Err(PyRuntimeError::new_err("it is being awaited already"));
            }
            State::Over => {
                return Err(PyRuntimeError::new_err(
                    "cannot reuse what has been awaited already",
                ));
            }
        }
    };
    let end = loop {
        let mut step = match state {
            State::Fresh(step) => step,
            State::Waiting(step, future) => match future.send(value) {
                Ok(PySendResult::Next(yielded)) => {
                    cell.replace(State::Waiting(step, future));
                    return Ok(Sent::Yielded(yielded));
                }
                Ok(PySendResult::Return(_)) => step,
                Err(error) => break Err(error),
            },
            State::Done | State::Running | State::Over => break Ok(None),
        };
        match step.step() {
            Ok(Stepped::Done(result)) => break Ok(result),
            Ok(Stepped::Wait(future)) => match future.try_iter() {
                Ok(iterator) => state = State::Waiting(step, iterator),
                Err(error) => break Err(error),
            },
            Err(error) => break Err(error),
        }
    };
    cell.replace(State::Over);
    end.map(Sent::Returned)
}

/// Ends it by an exception, unless what it waits for takes that and yields something.
fn interrupt(cell: &RefCell<State>, arguments: &Bound<'static, PyTuple>) -> PyResult<Sent> {
    let before = {
        let mut here = cell.borrow_mut();
        if matches!(*here, State::Done) {
            return Err(raised(arguments)?);
        }
        std::mem::replace(&mut *here, State::Over)
    };
    match before {
        State::Waiting(step, future) => {
            let yielded = future.call_method1("throw", arguments);
            match yielded {
                Ok(yielded) => {
                    cell.replace(State::Waiting(step, future));
                    Ok(Sent::Yielded(yielded))
                }
                Err(error) => Err(error),
            }
        }
        State::Done | State::Fresh(_) | State::Running | State::Over => Err(raised(arguments)?),
    }
}

/// The exception that `throw(type_or_instance[, value[, traceback]])` means.
fn raised(arguments: &Bound<'static, PyTuple>) -> PyResult<PyErr> {
    let first = arguments
        .get_item(0)
        .map_err(|_| PyTypeError::new_err("throw() takes an exception"))?;
    let Ok(kind) = first.cast::<PyType>() else {
        return Ok(PyErr::from_value(first));
    };
    match arguments.get_item(1) {
        Ok(value) if value.is_instance(kind)? => Ok(PyErr::from_value(value)),
        Ok(value) if !value.is_none() => Ok(PyErr::from_value(kind.call1((value,))?)),
        Ok(_) | Err(_) => Ok(PyErr::from_value(kind.call0()?)),
    }
}

/// Keeps panics on our side.
fn guarded<T>(work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(PyRuntimeError::new_err(
            "rgun-async panicked in an awaitable",
        ))
    })
}

/// The result of a C function: a value, or null with an exception set.
fn give(result: PyResult<Option<Ref>>) -> *mut ffi::PyObject {
    match result {
        Ok(Some(value)) => value.into_ptr(),
        Ok(None) => ptr::null_mut(),
        Err(error) => {
            // SAFETY: as in `state`.
            let py = unsafe { Python::assume_attached() };
            error.restore(py);
            ptr::null_mut()
        }
    }
}

/// The end of a generator with a value, as an exception.
fn stop(value: Ref) -> PyErr {
    PyStopIteration::new_err((value.unbind(),))
}

/// A borrowed argument as a reference of our own.
///
/// # Safety
/// `argument` is a live object, and the GIL is held.
unsafe fn argument(py: Python<'static>, argument: *mut ffi::PyObject) -> Ref {
    // SAFETY: the caller's promise.
    unsafe { Bound::from_borrowed_ptr(py, argument) }
}

unsafe extern "C" fn am_send(
    this: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    let sent = guarded(|| {
        // SAFETY: the interpreter calls it on an object of the type.
        let (cell, py) = unsafe { state(this) }?;
        // SAFETY: the interpreter gives a live object.
        resume(cell, &unsafe { argument(py, value) })
    });
    let (value, kind) = match sent {
        Ok(Sent::Returned(Some(value))) => (value.into_ptr(), ffi::PySendResult::PYGEN_RETURN),
        Ok(Sent::Returned(None)) => (object::none(), ffi::PySendResult::PYGEN_RETURN),
        Ok(Sent::Yielded(value)) => (value.into_ptr(), ffi::PySendResult::PYGEN_NEXT),
        Err(error) => (give(Err(error)), ffi::PySendResult::PYGEN_ERROR),
    };
    // SAFETY: the place for the result is the caller's.
    unsafe { result.write(value) };
    kind
}

unsafe extern "C" fn next(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    give(guarded(|| {
        // SAFETY: the interpreter calls it on an object of the type.
        let (cell, py) = unsafe { state(this) }?;
        match resume(cell, &py.None().into_bound(py))? {
            Sent::Yielded(value) => Ok(Some(value)),
            // Null and no exception: the end, with None.
            Sent::Returned(None) => Ok(None),
            Sent::Returned(Some(value)) => Err(stop(value)),
        }
    }))
}

unsafe extern "C" fn send(
    this: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    give(guarded(|| {
        // SAFETY: the interpreter calls it on an object of the type.
        let (cell, py) = unsafe { state(this) }?;
        // SAFETY: the interpreter gives a live object.
        let value = unsafe { argument(py, value) };
        yielded(py, resume(cell, &value)?)
    }))
}

unsafe extern "C" fn throw(
    this: *mut ffi::PyObject,
    arguments: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    give(guarded(|| {
        // SAFETY: the interpreter calls it on an object of the type.
        let (cell, py) = unsafe { state(this) }?;
        // SAFETY: the interpreter gives a live tuple.
        let arguments = unsafe { argument(py, arguments) };
        yielded(py, interrupt(cell, arguments.cast::<PyTuple>()?)?)
    }))
}

/// What a generator's method returns; its end is an exception.
fn yielded(py: Python<'static>, sent: Sent) -> PyResult<Option<Ref>> {
    match sent {
        Sent::Yielded(value) => Ok(Some(value)),
        Sent::Returned(value) => Err(stop(value.unwrap_or_else(|| py.None().into_bound(py)))),
    }
}

unsafe extern "C" fn close(
    this: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    give(guarded(|| {
        // SAFETY: the interpreter calls it on an object of the type.
        let (cell, py) = unsafe { state(this) }?;
        let done = matches!(*cell.borrow(), State::Done);
        if !done {
            let before = cell.replace(State::Over);
            if let State::Waiting(_, future) = before {
                future.call_method0("close")?;
            }
        }
        Ok(Some(py.None().into_bound(py)))
    }))
}

unsafe extern "C" fn itself(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a live object.
    unsafe { ffi::Py_INCREF(this) };
    this
}

unsafe extern "C" fn dealloc(this: *mut ffi::PyObject) {
    if OURS.get() {
        let object: *mut Object = this.cast();
        // SAFETY: the object is at its end, and nobody else has it; the state was written when it was made.
        let state = unsafe { &mut (*object).state };
        let dropped = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(state) };
        }));
        drop(dropped);
    }
    // SAFETY: a live object has a type; one of ours is on the heap, and each of its objects holds a reference to it.
    let kind = unsafe { ffi::Py_TYPE(this) };
    // SAFETY: allocated by PyType_GenericAlloc without garbage collection, whose counterpart this is.
    unsafe { ffi::PyObject_Free(this.cast()) };
    // SAFETY: the reference that the object held.
    unsafe { ffi::Py_DECREF(kind.cast()) };
}
