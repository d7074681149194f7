//! The threads: Python's own, so that the app finds what it expects of one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::request::Parts;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::Shared;
use super::output::{Closing, Output};
use super::pool::Seat;
use super::reply::Reply;
use crate::app::Origin;
use crate::app::python::named::Named;
use crate::app::python::wsgi::{
    Answer, AppFailed, Given, Input, Multithread, Outlet, Wsgi, failed,
};
use crate::app::python::{object, shared, traceback};
use crate::config::LogTarget;
use crate::error::AnyError;

/// How long no thread is started after one could not be.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(1);
/// Who waits for the GIL so long had to take it from a thread that computes: more threads do not help then.
const HARD_TO_GET: Duration = Duration::from_millis(4);
/// How long no thread is started where that is so.
const COMPUTING_PAUSE: Duration = Duration::from_millis(100);

/// What threads do.
pub(super) enum Task {
    /// Serve a request.
    Serve(Box<Job>),
    /// Close what was sent.
    Close(Closing),
}

/// A request that waits for a thread.
pub(super) struct Job {
    pub(super) parts: Parts,
    pub(super) origin: Origin,
    pub(super) input: Input,
    pub(super) reply: Reply,
}

/// What threads are made of.
#[pyclass(frozen, module = "rgun_async._native")]
pub(super) struct Threads {
    shared: Arc<Shared>,
    app: Py<PyAny>,
    errorlog: LogTarget,
}

impl Threads {
    /// Starts the first threads; `app` is what they call.
    pub(super) fn start(
        py: Python<'_>,
        shared: Arc<Shared>,
        app: Py<PyAny>,
        errorlog: LogTarget,
    ) -> PyResult<()> {
        let pool = Arc::clone(&shared);
        let threads = Bound::new(
            py,
            Self {
                shared,
                app,
                errorlog,
            },
        )?;
        let hooks = PyDict::new(py);
        hooks.set_item("after_in_child", threads.getattr("forked")?)?;
        py.import("os")?
            .call_method("register_at_fork", (), Some(&hooks))?;
        for _ in 0..pool.pool.least() {
            pool.pool.expect_one();
            threads.get().start_one(&threads)?;
        }
        if pool.pool.grows() {
            thread(&threads.getattr("grow")?, "gthread-starter")?;
        }
        Ok(())
    }

    /// Starts one that is expected.
    fn start_one(&self, this: &Bound<'_, Self>) -> PyResult<()> {
        let number = self.shared.started.fetch_add(1, Ordering::Relaxed) + 1;
        let started = this
            .getattr("serve")
            .and_then(|serve| thread(&serve, &format!("gthread-{number}")));
        if started.is_err() {
            self.shared.pool.expect_no_more();
        }
        started
    }
}

/// Starts a thread that nobody waits for.
fn thread(target: &Bound<'_, PyAny>, name: &str) -> PyResult<()> {
    let py = target.py();
    let arguments = PyDict::new(py);
    arguments.set_item("target", target)?;
    arguments.set_item("name", name)?;
    arguments.set_item("daemon", true)?;
    let thread = py
        .import("threading")?
        .call_method("Thread", (), Some(&arguments))?;
    thread.call_method0("start").map(drop)
}

#[pymethods]
impl Threads {
    /// A thread's whole life.
    fn serve(&self, py: Python<'_>) {
        let py = object::token(py);
        let pool = &self.shared.pool;
        let place = Place {
            shared: &self.shared,
            seat: pool.sit(),
        };
        let app = self.app.bind(py).clone();
        let wsgi = match Wsgi::new(app, &self.errorlog, Multithread::Parallel) {
            Ok(wsgi) => wsgi,
            Err(error) => {
                let text = traceback::text(py, &error);
                return tracing::error!("A thread cannot serve\n{text}");
            }
        };
        let wait = |time: Option<Duration>| {
            py.detach(|| match time {
                Some(time) => std::thread::park_timeout(time),
                None => std::thread::park(),
            });
        };
        while let Some(task) = pool.next(&place.seat, wait, || shared::clear(py)) {
            shared::clear(py);
            let done = catch_unwind(AssertUnwindSafe(|| match task {
                Task::Serve(job) => self.serve_one(&wsgi, &place.seat, *job),
                Task::Close(closing) => closing.close(py),
            }));
            if done.is_err() {
                tracing::error!("Panic in a thread of the application's");
            }
            self.shared.end_if_forked(py);
        }
    }

    /// The life of the thread that starts others.
    fn grow(slf: &Bound<'_, Self>, py: Python<'_>) {
        let this = slf.get();
        let pool = &this.shared.pool;
        let mut failing = false;
        loop {
            let asked = py.detach(|| pool.grow().then(Instant::now));
            // Now it has the GIL, after this time.
            let Some(asked) = asked else { return };
            let waited = asked.elapsed();
            let pause = match this.start_one(slf) {
                Ok(()) => {
                    failing = false;
                    (waited >= HARD_TO_GET).then_some(COMPUTING_PAUSE)
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!("cannot start a thread: {error}");
                    }
                    Some(NO_ROOM_PAUSE)
                }
            };
            if let Some(pause) = pause {
                py.detach(|| std::thread::park_timeout(pause));
            }
        }
    }

    /// In a process that the app has forked: it is no worker, and whatever was locked at that moment stays so.
    fn forked(&self) {
        self.shared.forked.store(true, Ordering::Relaxed);
    }
}

/// A thread's place, which it leaves however it ends.
struct Place<'a> {
    shared: &'a Shared,
    seat: Arc<Seat>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.pool.leave(&self.seat);
    }
}

impl Threads {
    fn serve_one(&self, wsgi: &Wsgi, seat: &Arc<Seat>, mut job: Job) {
        if job.reply.is_abandoned() {
            return;
        }
        let py = wsgi.py();
        let output = Output::new(py, Arc::clone(&self.shared), Arc::clone(seat), job.reply);
        if let Err(error) = run(wsgi, &mut job.parts, &job.origin, job.input, &output) {
            output.fail(error, &Named::of(&job.parts));
        }
    }
}

fn run(
    wsgi: &Wsgi,
    parts: &mut Parts,
    origin: &Origin,
    input: Input,
    output: &Rc<Output>,
) -> Result<(), AnyError> {
    let context = wsgi.context()?;
    let sink: Rc<Output> = Rc::clone(output);
    let ran = context.run(|| -> Result<_, AnyError> {
        match wsgi.call(parts, origin, Given::Gathered(input), Outlet::Sink(sink))? {
            Answer::Whole(response) => {
                let (head, body) = response.into_parts();
                let whole = body.into_whole().ok_or(AppFailed::Abandoned)?;
                output.whole(http::Response::from_parts(head, ()), whole);
            }
            Answer::File(head, file) => return Ok(Some((head, file))),
            Answer::Stream(head, source) => output.stream(Some(head), source),
            Answer::Rest(source) => output.stream(None, source),
        }
        Ok(None)
    });
    let file = ran.unwrap_or_else(|error| Err(failed(wsgi.py(), &error)))?;
    if let Some((head, file)) = file {
        output.file(head, file, context);
    }
    Ok(())
}
