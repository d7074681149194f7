//! TCP services in Python: a connection's socket is given to the driver's own loop, as asyncio's streams or a socket of
//! gevent's, and counts until the Python function has ended.

use std::cell::{OnceCell, RefCell};
use std::future::poll_fn;
use std::os::fd::IntoRawFd;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyModule;
use socket2::SockRef;

use super::object::Ref;
use super::{cstr, load, traceback};
use crate::app::tcp::{Context, Ended, Stream, StreamApp};
use crate::app::{Address, BootError};
use crate::config::{Config, Speaks};
use crate::error::AnyError;

/// The part that has to be Python.
const GLUE: &std::ffi::CStr = cstr(concat!(
    include_str!("../../../python/rgun_async/_services.py"),
    "\0"
));

/// Wakes a task of the runtime from Python code, as the driver does.
pub(super) type Wake = Rc<dyn Fn(Python<'_>, Waker)>;

/// The services of a worker, once there are some.
#[derive(Default)]
pub(super) struct Services(OnceCell<Ref>);

impl Services {
    /// Imports `MODULE:CALLABLE` for each of `names`. `driver` is the glue's class, made with `arguments`; `tell` is called
    /// when it has been given a connection.
    pub(super) fn load(
        &self,
        py: Python<'static>,
        names: &[&str],
        driver: impl FnOnce(&Bound<'static, PyModule>) -> PyResult<Ref>,
        write_timeout: Duration,
        wake: &Wake,
        tell: &Rc<dyn Fn()>,
    ) -> Result<Vec<Rc<dyn StreamApp>>, BootError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let serving = glue(py)
            .and_then(|glue| driver(&glue))
            .map_err(|error| load::boot(py, &error))?;
        let service = |name: &&str| {
            let handle = handle(py, name, &serving)?;
            let start = serving
                .call_method1("service", (handle,))
                .map_err(|error| load::boot(py, &error))?;
            let service: Rc<dyn StreamApp> = Rc::new(Service {
                start,
                write_timeout,
                wake: Rc::clone(wake),
                tell: Rc::clone(tell),
            });
            Ok(service)
        };
        let services: Result<Vec<_>, _> = names.iter().map(service).collect();
        drop(self.0.set(serving));
        services
    }

    /// The worker leaves.
    pub(super) fn drain(&self) {
        let Some(serving) = self.0.get() else {
            return;
        };
        if let Err(error) = serving.call_method0("drain") {
            let text = traceback::text(serving.py(), &error);
            tracing::error!("The services cannot be told of the drain\n{text}");
        }
    }
}

/// The services that listeners name.
pub(super) fn named(config: &Config) -> Vec<String> {
    let spoken = config.bind.iter().map(|bind| bind.spoken(config).speaks);
    let names = spoken.filter_map(|speaks| match speaks {
        Speaks::Tcp(name) => Some(name),
        Speaks::Http | Speaks::Uwsgi => None,
    });
    names.collect()
}

/// Imports each of `names` and looks at it, as a worker with the glue's `driver` would.
pub(super) fn check(
    py: Python<'static>,
    names: &[&str],
    driver: &str,
) -> Result<(), BootError> {
    let driver = glue(py)
        .and_then(|glue| glue.getattr(driver))
        .map_err(|error| load::boot(py, &error))?;
    names
        .iter()
        .try_for_each(|name| handle(py, name, &driver).map(drop))
}

fn glue(py: Python<'static>) -> PyResult<Bound<'static, PyModule>> {
    PyModule::from_code(
        py,
        GLUE,
        c"rgun_async/_services.py",
        c"rgun_async._services",
    )
}

/// What `MODULE:CALLABLE` leads to, where `driver` can serve it.
fn handle(
    py: Python<'static>,
    name: &str,
    driver: &Bound<'static, PyAny>,
) -> Result<Ref, BootError> {
    let (module, callable) = name.split_once(':').unwrap_or((name, "handle"));
    let handle = load::app(py, module, Some(callable)).map_err(|error| match error {
        BootError::Boot(text) => BootError::Boot(format!("{text}\n(for the service {name})")),
        BootError::Load(text) => BootError::Load(format!("The service {name}: {text}")),
        error @ BootError::Is(_) => error,
    })?;
    let misfit: Option<String> = driver
        .call_method1("misfit", (&handle,))
        .and_then(|misfit| misfit.extract())
        .map_err(|error| load::boot(py, &error))?;
    match misfit {
        Some(text) => Err(BootError::Load(format!("The service {name}: {text}."))),
        None => Ok(handle),
    }
}

struct Service {
    start: Ref,
    /// The kernel ends a connection whose client has not taken anything for so long: it is not seen here.
    write_timeout: Duration,
    wake: Wake,
    tell: Rc<dyn Fn()>,
}

impl Service {
    fn begin(
        &self,
        stream: &Stream,
        context: &Context,
    ) -> Result<Rc<RefCell<State>>, AnyError> {
        let py = self.start.py();
        let socket = stream.detach()?;
        let timeout = Some(self.write_timeout).filter(|timeout| !timeout.is_zero());
        // A unix socket has no such thing.
        let _ = SockRef::from(&socket).set_tcp_user_timeout(timeout);
        let peer = match (&context.ends().proxied, &context.ends().peer) {
            (Some(_), Address::Tcp(peer)) => Some((peer.ip().to_string(), peer.port())),
            (Some(_), Address::Unix(_)) | (None, _) => None,
        };
        let state = Rc::default();
        let done = Done {
            state: Rc::clone(&state),
            wake: Rc::clone(&self.wake),
        };
        let done = Bound::new(py, done)?;
        // It is Python's from here on.
        let number = socket.into_raw_fd();
        let started = self.start.call1((number, peer, done));
        started.map_err(|error| traceback::text(py, &error))?;
        (self.tell)();
        Ok(state)
    }
}

impl StreamApp for Service {
    fn serve(&self, stream: Stream, context: Context) -> Ended {
        let begun = self.begin(&stream, &context);
        Box::pin(async move {
            let state = begun?;
            let told = poll_fn(|cx| {
                let mut state = state.borrow_mut();
                if let State::Ended(told, sent) = &mut *state {
                    return Poll::Ready((told.take(), *sent));
                }
                *state = State::Awaited(cx.waker().clone());
                Poll::Pending
            })
            .await;
            let (told, sent) = told;
            stream.count(sent);
            drop(stream);
            match told {
                Some(traceback) => Err(format!("\n{}", traceback.trim_end()).into()),
                None => Ok(()),
            }
        })
    }
}

#[derive(Default)]
enum State {
    #[default]
    Running,
    Awaited(Waker),
    /// With a traceback, where it failed, and how many bytes were sent.
    Ended(Option<String>, u64),
}

/// Called at the end of a connection, with the traceback if there is one, and how many bytes were sent.
#[pyclass(frozen, unsendable, module = "rgun_async._native")]
struct Done {
    state: Rc<RefCell<State>>,
    wake: Wake,
}

#[pymethods]
impl Done {
    #[pyo3(signature = (error, sent))]
    fn __call__(&self, py: Python<'_>, error: Option<String>, sent: u64) {
        // Nothing is borrowed while Python code can run.
        let before = self.state.replace(State::Ended(error, sent));
        if let State::Awaited(waker) = before {
            (self.wake)(py, waker);
        }
    }
}
