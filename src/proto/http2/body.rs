//! The body of a stream's request: what the app reads, as the client's window opens with it.

use std::pin::Pin;
use std::rc::Weak;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::StatusCode;
use http_body::{Frame, SizeHint};

use super::stream::Lane;
use crate::app::BodyError;
use crate::proto::guard::Refusal;
use crate::resident::Resident;

/// What a stream and the body that it is receiving tell each other.
#[derive(Debug, Default)]
pub(super) struct Intake(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Why the body ended early.
    error: Option<BodyError>,
    /// Who waits for more of it.
    reader: Option<Waker>,
    /// The app has let go of it.
    forsaken: bool,
}

impl Intake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body ends here, early; the first reason counts.
    pub(super) fn fail(&self, error: BodyError) {
        let mut state = self.state();
        state.error.get_or_insert(error);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Why the request must not be answered by the app any more.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let error = self.state().error?;
        Some(match error {
            BodyError::TooLarge => {
                Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body too large")
            }
            BodyError::TimedOut => Refusal::new(StatusCode::REQUEST_TIMEOUT, "body timed out"),
            BodyError::Broken(reason) => Refusal::new(StatusCode::BAD_REQUEST, reason),
            BodyError::Cut => Refusal::new(StatusCode::BAD_REQUEST, "incomplete request body"),
        })
    }

    /// It ended early while the app still had it.
    pub(super) fn failed_in_use(&self) -> bool {
        let state = self.state();
        state.error.is_some() && !state.forsaken
    }
}

/// A body that is coming in.
#[derive(Debug)]
pub(super) struct Incoming {
    stream: RecvStream,
    intake: Arc<Intake>,
    /// Of use on the worker's thread alone; elsewhere there are no deadlines.
    lane: Resident<Weak<Lane>>,
    /// What `Content-Length` says.
    announced: Option<u64>,
    /// So many bytes may still come.
    room: u64,
    /// The client waits to be asked for it (`Expect: 100-continue`).
    awaited: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Data,
    Trailers,
    Ended,
}

impl Incoming {
    pub(super) fn new(
        stream: RecvStream,
        intake: Arc<Intake>,
        lane: Weak<Lane>,
        announced: Option<u64>,
        most: u64,
        awaited: bool,
    ) -> Self {
        Self {
            stream,
            intake,
            lane: Resident::new(lane),
            announced,
            room: most,
            awaited,
            stage: Stage::Data,
        }
    }

    fn with_lane(&self, tell: impl FnOnce(&Lane)) {
        if let Some(lane) = self.lane.get().and_then(Weak::upgrade) {
            tell(&lane);
        }
    }

    /// Nothing more will come: tells the stream and the app why.
    fn fail(&mut self, error: BodyError) -> BodyError {
        self.stage = Stage::Ended;
        self.intake.fail(error);
        self.intake.state().error.unwrap_or(error)
    }

    /// The client, or the library for it, has reset the stream.
    fn broken(&mut self, error: &h2::Error) -> BodyError {
        // What the library found wrong with this stream: a length that is not the announced one, or wrong trailers.
        self.fail(if error.is_library() && error.is_reset() {
            BodyError::Broken("not as long as announced, or malformed")
        } else {
            BodyError::Cut
        })
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let data = match ready!(self.stream.poll_data(cx)) {
                None => return Poll::Ready(None),
                Some(Ok(data)) => data,
                Some(Err(error)) => return Poll::Ready(Some(Err(self.broken(&error)))),
            };
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            // It fails for a stream that is no more, whose end comes next.
            let _ = self.stream.flow_control().release_capacity(data.len());
            self.with_lane(|lane| lane.watch().received(data.len()));
            let Some(room) = self.room.checked_sub(length) else {
                return Poll::Ready(Some(Err(self.fail(BodyError::TooLarge))));
            };
            self.room = room;
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.stage == Stage::Ended {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut this.awaited) {
            this.with_lane(Lane::ask);
        }
        let failed = this.intake.state().error;
        if let Some(error) = failed {
            this.stage = Stage::Ended;
            return Poll::Ready(Some(Err(error)));
        }
        if this.stage == Stage::Data {
            match this.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => this.stage = Stage::Trailers,
                Poll::Pending => {
                    this.intake.state().reader = Some(cx.waker().clone());
                    this.with_lane(|lane| lane.watch().await_body());
                    return Poll::Pending;
                }
            }
        }
        match ready!(this.stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => {
                this.stage = Stage::Ended;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Ok(None) => {
                this.stage = Stage::Ended;
                Poll::Ready(None)
            }
            Err(error) => Poll::Ready(Some(Err(this.broken(&error)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stage == Stage::Ended || self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.announced
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.intake.state().forsaken = true;
    }
}
