//! The `sync` driver: Tokio waits, and the app is called within its tasks, one request at a time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderValue, Request};
use http_body::Body as _;

use super::pace::{Mode, Pace};
use super::reply::{Awaited, Outcome, Reply, reply};
use super::wsgi::{
    Answer, AppFailed, Given, Input, Later, Multithread, Outlet, PyBody, Rest, Wsgi, failed,
    refused,
};
use super::{Interpreter, gil};
use crate::app::{App, Body, BootError, Host, Line, Origin};
use crate::channel::WorkerContext;
use crate::error::AnyError;
use crate::scoreboard::Row;

/// How long apps run before what they have answered is written.
const BATCH: Duration = Duration::from_micros(500);

/// Hosts a WSGI app in the worker's one thread.
#[derive(Debug)]
pub(crate) struct SyncHost {
    python: Interpreter,
    turns: Arc<AtomicU32>,
}

impl SyncHost {
    /// A host in this process's interpreter.
    pub(crate) fn new(interpreter: Interpreter) -> Self {
        Self {
            python: interpreter,
            turns: Arc::default(),
        }
    }
}

impl Host for SyncHost {
    type App = SyncApp;
    const TOKIO_TIME: bool = false;

    fn boot(&self, context: &WorkerContext) -> Result<(), BootError> {
        self.python.prepare(&context.config)
    }

    fn hooks(&self, builder: &mut tokio::runtime::Builder, idle: Box<dyn Fn() + Send + Sync>) {
        builder.on_thread_park(move || {
            idle();
            gil::release();
        });
        let turns = Arc::clone(&self.turns);
        builder.on_thread_unpark(move || {
            turns.fetch_add(1, Ordering::Relaxed);
            gil::acquire();
        });
    }

    async fn load(&self, context: &WorkerContext) -> Result<SyncApp, BootError> {
        let wsgi = self.python.load(&context.config, Multithread::OneByOne)?;
        context.row.has_room_for(1);
        let inner = Rc::new(Inner {
            wsgi,
            pace: Pace::new(),
            row: context.row,
            turns: Arc::clone(&self.turns),
            jobs: RefCell::default(),
            later: Rc::default(),
        });
        tokio::task::spawn_local(Batch(Rc::clone(&inner)));
        Ok(SyncApp(inner))
    }

    fn code(&self) -> Vec<std::path::PathBuf> {
        self.python.code()
    }

    fn shutdown(&self) {
        self.python.shutdown();
    }
}

/// A WSGI app under the `sync` driver.
pub(crate) struct SyncApp(Rc<Inner>);

struct Inner {
    wsgi: Wsgi,
    pace: Pace,
    row: Row,
    /// How often the worker has waited.
    turns: Arc<AtomicU32>,
    /// Requests that wait for their batch.
    jobs: RefCell<VecDeque<Job>>,
    later: Rc<Later>,
}

struct Job {
    parts: Parts,
    origin: Origin,
    line: Line,
    input: Input,
    reply: Reply,
}

impl std::fmt::Debug for SyncApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncApp")
            .field("pace", &self.0.pace)
            .finish_non_exhaustive()
    }
}

impl App for SyncApp {
    type Body = PyBody;
    type Future = SyncCall;

    /// Without a connection: no early hints.
    fn call(&self, request: Request<Body>, origin: Origin) -> SyncCall {
        self.serve(request, origin, Line::default())
    }

    fn serve(&self, request: Request<Body>, origin: Origin, line: Line) -> SyncCall {
        let (parts, body) = request.into_parts();
        if body.is_end_stream() {
            return SyncCall(self.0.submit(parts, origin, line, Input::Empty));
        }
        SyncCall(Stage::Gathering(Box::new(Gathering {
            input: Box::pin(Input::gather(body)),
            request: Some((parts, origin, line)),
            inner: Rc::clone(&self.0),
        })))
    }
}

/// The answer to one request.
#[derive(Debug)]
pub(crate) struct SyncCall(Stage);

enum Stage {
    /// The body is on its way: an app that runs inline could not wait for it.
    Gathering(Box<Gathering>),
    Queued(Awaited),
    /// Until it is taken.
    Answered(Option<Outcome>),
}

struct Gathering {
    input: Pin<Box<dyn Future<Output = Result<Input, AnyError>>>>,
    request: Option<(Parts, Origin, Line)>,
    inner: Rc<Inner>,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gathering(_) => "Gathering",
            Self::Queued(_) => "Queued",
            Self::Answered(_) => "Answered",
        })
    }
}

impl Future for SyncCall {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            let next = match &mut self.0 {
                Stage::Gathering(gathering) => {
                    match std::task::ready!(gathering.input.as_mut().poll(cx)) {
                        Ok(input) => match gathering.request.take() {
                            Some((parts, origin, line)) => {
                                gathering.inner.submit(parts, origin, line, input)
                            }
                            None => Stage::Answered(None),
                        },
                        Err(error) => Stage::Answered(Some(refused(error))),
                    }
                }
                Stage::Queued(awaited) => return Pin::new(awaited).poll(cx),
                Stage::Answered(outcome) => {
                    return match outcome.take() {
                        Some(outcome) => Poll::Ready(outcome),
                        None => Poll::Pending,
                    };
                }
            };
            self.0 = next;
        }
    }
}

impl Inner {
    /// Serves a request at once or with the others, as the app's pace is.
    fn submit(&self, mut parts: Parts, origin: Origin, line: Line, input: Input) -> Stage {
        match self.pace.mode(self.turns.load(Ordering::Relaxed)) {
            Mode::AtOnce => {
                let start = self.pace.samples().then(Instant::now);
                let outcome = self.serve(&mut parts, &origin, line, input);
                if let Some(start) = start {
                    self.pace.record(start.elapsed());
                }
                Stage::Answered(Some(outcome))
            }
            Mode::Batch => {
                let (reply, awaited) = reply();
                self.jobs.borrow_mut().push_back(Job {
                    parts,
                    origin,
                    line,
                    input,
                    reply,
                });
                self.later.wake();
                Stage::Queued(awaited)
            }
        }
    }

    /// Serves a request. Where the app is slow, its client had better come back to a worker that is idle then: a connection
    /// that is kept waits for all that this worker has to do. (Gunicorn's sync workers keep none.)
    fn serve(&self, parts: &mut Parts, origin: &Origin, line: Line, input: Input) -> Outcome {
        self.row.inside(1);
        let mut outcome = self.answer(parts, origin, line, input);
        self.row.inside(0);
        if self.pace.is_long()
            && self.row.is_crowded()
            && let Ok(response) = &mut outcome
        {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        outcome
    }

    fn answer(&self, parts: &mut Parts, origin: &Origin, line: Line, input: Input) -> Outcome {
        let context = self.wsgi.context()?;
        let entered = context
            .enter()
            .map_err(|error| failed(self.wsgi.py(), &error))?;
        let outlet = Outlet::Line(line);
        let answer = self
            .wsgi
            .call(parts, origin, Given::Gathered(input), outlet)?;
        drop(entered);
        Ok(match answer {
            Answer::Whole(response) => response,
            Answer::File(head, file) => {
                let range = file.range.clone();
                let body = PyBody::file(file, context, Rc::clone(&self.later));
                head.with_file(body, range)
            }
            Answer::Stream(head, mut source) => match source.take_whole() {
                Some(whole) => {
                    self.later.leave(Rest::Source(source), context);
                    head.with(PyBody::whole(whole))
                }
                None => head.with(PyBody::pulled(source, context, Rc::clone(&self.later))),
            },
            // `write()` gathers here.
            Answer::Rest(_) => return Err(AppFailed::Abandoned.into()),
        })
    }
}

/// The task that serves what was gathered, and does what was left for later.
struct Batch(Rc<Inner>);

impl Future for Batch {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let inner = &self.0;
        inner.later.done_by(cx.waker());
        let begin = Instant::now();
        let mut before = begin;
        // What this batch leaves is for the next turn, when its answers are on their way.
        for _ in 0..inner.later.len() {
            inner.later.do_one();
            before = Instant::now();
            if before - begin >= BATCH {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        loop {
            let Some(mut job) = inner.jobs.borrow_mut().pop_front() else {
                return Poll::Pending;
            };
            if job.reply.is_abandoned() {
                continue;
            }
            let outcome = inner.serve(&mut job.parts, &job.origin, job.line, job.input);
            if let Some(task) = job.reply.send(outcome) {
                task.wake();
            }
            let now = Instant::now();
            inner.pace.record(now - before);
            before = now;
            if now - begin >= BATCH {
                // The answers first: what is left is served in the next turn.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}
