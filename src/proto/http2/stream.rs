//! One stream: its request on the way to the app, and the app's answer on the way back.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, COOKIE, DATE, HOST};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request,
    response,
};
use http_body::Body as _;

use super::body::{Incoming, Intake};
use super::link::Link;
use super::{date, strip};
use crate::app::{App, Body, BodyError, Client, Connection, FileRange, Line, Origin, Scheme};
use crate::error::AnyError;
use crate::proto::access::Record;
use crate::proto::carrier::Carrier;
use crate::proto::connections::{Entry, Peer, Verdict, Watch};
use crate::proto::guard::{Facts, Framing, Refusal};
use crate::proto::http::{HttpService, Shared};
use crate::proto::io::Wire;
use crate::proto::reply::{Exchange, Reply};
use crate::proto::sending::{Failed, Piece, Sending};
use crate::proto::service::{Answer, admit, asked, record};

/// A stream lets the others go on when it has sent so much.
const TURN: usize = 64 * 1024;
/// Or so many pieces.
const PIECES: usize = 16;

/// What belongs to one stream, shared by its future, its body and the app.
#[derive(Debug)]
pub(super) struct Lane {
    link: Weak<Link>,
    shared: Rc<Shared>,
    entry: Entry,
    respond: RefCell<SendResponse<Bytes>>,
    /// Interim answers have no place any more.
    answered: Cell<bool>,
    /// Who is told when the client has left.
    client: RefCell<Option<Weak<dyn Client>>>,
    intake: Option<Arc<Intake>>,
}

impl Lane {
    pub(super) fn watch(&self) -> &Rc<Watch> {
        self.entry.watch()
    }

    /// Asks for the body (RFC 9110 section 15.2.1).
    pub(super) fn ask(&self) {
        // Whether it is sent or not, the client sends its body in time.
        let _ = Connection::inform(self, StatusCode::CONTINUE, &HeaderMap::new());
    }

    /// Carries out the sweep's verdict, as far as that is not the connection's business.
    fn obey(&self) {
        if self.watch().verdict() == Some(Verdict::SlowBody)
            && let Some(intake) = &self.intake
        {
            intake.fail(BodyError::TimedOut);
        }
    }

    fn tell_left(&self) {
        let client = self.client.borrow_mut().take();
        if let Some(client) = client.and_then(|client| client.upgrade()) {
            client.left();
        }
    }
}

impl Carrier for Lane {
    const IS_CONNECTION: bool = false;

    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn watch(&self) -> &Rc<Watch> {
        self.watch()
    }

    /// Frames tell the length.
    fn settle(&self, _: &mut response::Parts, _: bool) {}

    /// The next piece is asked for when the last one has been taken.
    fn throttle(&self) -> bool {
        false
    }

    fn hand_on(&self, _: usize) {}

    /// A body is asked once, and again when its task was woken.
    fn turn(&self) -> Option<u32> {
        None
    }

    /// They have to be put into frames.
    fn takes_files(&self) -> bool {
        false
    }

    #[inline]
    fn attach(&self, _: &FileRange) -> bool {
        false
    }

    fn poll_send_file(&self, _: &mut Context<'_>, _: &mut Sending) -> Poll<Result<(), Failed>> {
        Poll::Ready(Err(Failed::Unable))
    }

    fn spoilt(&self) -> Option<Refusal> {
        self.intake.as_ref()?.refusal()
    }

    fn spoilt_in_use(&self) -> bool {
        self.intake
            .as_ref()
            .is_some_and(|intake| intake.failed_in_use())
    }

    /// There is no other protocol to switch to: no exchange of a stream is upgradable.
    fn switch(&self, _: Option<Box<Record>>) {}
}

impl Connection for Lane {
    fn mind(&self, client: Weak<dyn Client>) {
        *self.client.borrow_mut() = Some(client);
    }

    fn inform(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        if self.answered.get() {
            return false;
        }
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers.clone();
        strip(response.headers_mut());
        let sent = self
            .respond
            .borrow_mut()
            .send_informational(response)
            .is_ok();
        if sent && let Some(link) = self.link.upgrade() {
            // At once: the stream may not have a turn before the app has done its work.
            link.flush();
        }
        sent
    }
}

/// Serves one stream to its end.
pub(super) async fn serve<A: App>(
    http: Rc<HttpService<A>>,
    link: Rc<Link>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (mut parts, incoming) = request.into_parts();
    let wire = &link.wire;
    let shared = &wire.shared;
    let head = prepare(&mut parts, wire);
    let intake = (!incoming.is_end_stream()).then(Arc::<Intake>::default);
    let lane = Rc::new(Lane {
        link: Rc::downgrade(&link),
        shared: Rc::clone(shared),
        entry: shared.connections.enter_stream(wire.watch()),
        respond: RefCell::new(respond),
        answered: Cell::new(false),
        client: RefCell::default(),
        intake: intake.clone(),
    });
    lane.watch().begin(&line(&parts), false);
    let (facts, scheme) = match head {
        Ok((facts, scheme)) => (facts, Ok(scheme)),
        Err(refusal) => (Facts::default(), Err(refusal)),
    };
    let exchange = Exchange {
        wire: Rc::clone(&lane),
        head: parts.method == Method::HEAD,
        upgradable: false,
        record: record(
            &*lane,
            &parts,
            wire.watch().ends(),
            *scheme.as_ref().unwrap_or(&wire.scheme),
        ),
        asked: asked(&*lane, &parts),
    };
    let is_head = exchange.head;
    let answer = match admit(&parts, scheme, &exchange) {
        Err(page) => Answer::page(page, exchange),
        Ok(scheme) => {
            let body = intake.map_or_else(Body::empty, |intake| {
                let announced = match facts.framing {
                    Framing::Length(length) => Some(length),
                    Framing::None | Framing::Chunked => None,
                };
                let most = shared.rules.most_body();
                let lane = Rc::downgrade(&lane);
                Body::other(Incoming::new(
                    incoming,
                    intake,
                    lane,
                    announced,
                    most,
                    facts.expects,
                ))
            });
            if let Some(file) = shared.file(&mut parts) {
                drop(body);
                Answer::file(file, exchange)
            } else {
                let origin = Origin {
                    ends: Arc::clone(wire.watch().ends()),
                    scheme,
                    trusted: wire.trusted,
                    gateway: None,
                };
                let weak: Weak<Lane> = Rc::downgrade(&lane);
                Answer::begin(&http.app, parts, body, origin, Line::new(weak), exchange)
            }
        }
    };
    if let Some(response) = answered(&lane, answer).await {
        send(&link, &lane, response, is_head).await;
    }
}

/// The request line as the log of what is under way has it.
fn line(parts: &request::Parts) -> Vec<u8> {
    let target = parts.uri.path_and_query().map_or("", |path| path.as_str());
    [parts.method.as_str(), " ", target].concat().into_bytes()
}

/// Makes of the head what apps are promised: the one that HTTP/1.1 would have had.
fn prepare(parts: &mut request::Parts, wire: &Wire) -> Result<(Facts, Scheme), Refusal> {
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    let (shared, trusted) = (&wire.shared, wire.trusted);
    let uri = std::mem::take(&mut parts.uri).into_parts();
    let target = uri.path_and_query;
    // RFC 9113 section 8.3.1.
    if let Some(authority) = &uri.authority {
        let authority = HeaderValue::from_str(authority.as_str())
            .map_err(|_| Refusal::new(BAD, "invalid Host"))?;
        let mut hosts = parts.headers.get_all(HOST).iter();
        if hosts.any(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())) {
            return Err(Refusal::new(BAD, "Host is not the authority"));
        }
        parts.headers.insert(HOST, authority);
    }
    join_cookies(&mut parts.headers);
    let facts = shared.rules.judge(
        parts.method.as_str(),
        target.as_ref().map_or("", |target| target.as_str()),
        &parts.headers,
    )?;
    if let Some(target) = target {
        parts.uri = Uri::from(target);
    }
    if facts.underscores {
        shared
            .forwarded
            .underscores(&mut parts.headers, trusted)
            .map_err(|_| Refusal::new(BAD, "header field name with an underscore"))?;
    }
    if !facts.watched || !trusted {
        return Ok((facts, wire.scheme));
    }
    shared
        .forwarded
        .scheme(&parts.headers, wire.scheme)
        .map(|scheme| (facts, scheme))
        .map_err(|_| Refusal::new(BAD, "contradictory scheme header fields"))
}

/// RFC 9113 section 8.2.3: a client may cut its cookies into several fields, which apps do not know.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let cookies: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// The app's answer; `None` if the client has left.
async fn answered<A: App>(
    lane: &Rc<Lane>,
    answer: Answer<A, Lane>,
) -> Option<Response<Reply<A::Body, Lane>>> {
    let mut answer = pin!(answer);
    poll_fn(|cx| {
        lane.watch().park(cx);
        lane.obey();
        if lane.respond.borrow_mut().poll_reset(cx).is_ready() {
            lane.tell_left();
            return Poll::Ready(None);
        }
        match answer.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Some(response)),
            Poll::Ready(Err(never)) => match never {},
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// What became of an answer.
enum Sent {
    All,
    /// The client has reset the stream, or has gone.
    Left,
    /// The client does not open its window.
    Stalled,
    /// The app broke off.
    Broken,
}

async fn send<B>(link: &Link, lane: &Lane, response: Response<Reply<B, Lane>>, is_head: bool)
where
    B: http_body::Body<Data = Bytes, Error = AnyError>,
{
    let (mut parts, body) = response.into_parts();
    let headers = &mut parts.headers;
    strip(headers);
    if !headers.contains_key(DATE) {
        headers.insert(DATE, date::now());
    }
    let bodiless = is_head
        || parts.status == StatusCode::NO_CONTENT
        || parts.status == StatusCode::NOT_MODIFIED;
    if !bodiless
        && !headers.contains_key(CONTENT_LENGTH)
        && let Some(exact) = body.size_hint().exact()
    {
        headers.insert(CONTENT_LENGTH, exact.into());
    }
    parts.version = Version::HTTP_2;
    let ended = body.is_end_stream();
    lane.answered.set(true);
    let head = Response::from_parts(parts, ());
    let sent = lane.respond.borrow_mut().send_response(head, ended);
    let mut to = match sent {
        Ok(to) => to,
        Err(error) => {
            tracing::debug!(
                "Answer to {} cannot be sent: {error}",
                lane.watch().request()
            );
            return;
        }
    };
    if ended {
        return;
    }
    match send_body(link, lane, &mut to, pin!(body)).await {
        Sent::All => {}
        Sent::Left => lane.tell_left(),
        Sent::Stalled => {
            let peer = &lane.watch().ends().peer;
            tracing::debug!("Client {} does not read its response", Peer(peer));
            to.send_reset(Reason::CANCEL);
            link.stalled();
        }
        Sent::Broken => to.send_reset(Reason::INTERNAL_ERROR),
    }
}

async fn send_body<B>(
    link: &Link,
    lane: &Lane,
    to: &mut SendStream<Bytes>,
    mut body: Pin<&mut B>,
) -> Sent
where
    B: http_body::Body<Data = Piece>,
{
    let (mut bytes, mut pieces) = (0, 0);
    loop {
        let frame = poll_fn(|cx| {
            lane.watch().park(cx);
            lane.obey();
            if to.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(()));
            }
            body.as_mut().poll_frame(cx).map(Ok)
        })
        .await;
        let frame = match frame {
            Err(()) => return Sent::Left,
            Ok(Some(Err(_))) => return Sent::Broken,
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return last(&to.send_data(Bytes::new(), true)),
        };
        let mut data = match frame.into_data() {
            Ok(data) => data.into_bytes(),
            Err(frame) => match frame.into_trailers() {
                Ok(mut trailers) => {
                    strip(&mut trailers);
                    return last(&to.send_trailers(trailers));
                }
                Err(_) => continue,
            },
        };
        while !data.is_empty() {
            to.reserve_capacity(data.len());
            let room = match poll_fn(|cx| poll_room(lane, to, cx)).await {
                Ok(room) => room,
                Err(why) => return why,
            };
            let piece = data.split_to(room.min(data.len()));
            let length = piece.len();
            let ends = data.is_empty() && body.is_end_stream();
            if to.send_data(piece, ends).is_err() {
                return Sent::Left;
            }
            lane.watch().sent(length);
            link.sent(length);
            if ends {
                return Sent::All;
            }
            bytes += length;
            pieces += 1;
            if bytes >= TURN || pieces >= PIECES {
                (bytes, pieces) = (0, 0);
                yield_now().await;
            }
        }
    }
}

fn last(sent: &Result<(), h2::Error>) -> Sent {
    match sent {
        Ok(()) => Sent::All,
        Err(_) => Sent::Left,
    }
}

/// How many bytes may be sent now.
fn poll_room(
    lane: &Lane,
    to: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, Sent>> {
    let watch = lane.watch();
    watch.park(cx);
    if watch.verdict() == Some(Verdict::SlowReader) {
        return Poll::Ready(Err(Sent::Stalled));
    }
    lane.obey();
    loop {
        let room = to.capacity();
        if room > 0 {
            return Poll::Ready(Ok(room));
        }
        match to.poll_capacity(cx) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Sent::Left)),
            Poll::Pending => {
                watch.await_reader();
                return Poll::Pending;
            }
        }
    }
}

/// Lets the others go on.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_that_came_apart_are_one_field() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1"));
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().count(), 1);
        headers.append(COOKIE, HeaderValue::from_static("b=2"));
        headers.append(COOKIE, HeaderValue::from_static("c=3"));
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().count(), 1);
        assert_eq!(headers[COOKIE], "a=1; b=2; c=3");
    }
}
