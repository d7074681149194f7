//! The app's response, held to what HTTP allows and to what the app itself announced.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, SERVER, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::access::Record;
use super::around::Asked;
use super::carrier::Carrier;
use super::coming::{Coming, Source};
use super::connections::Peer;
use super::guard::Refusal;
use super::io::Wire;
use super::opening::Opening;
use super::page;
use super::sending::{COPIED, Failed, Piece, Sending};
use crate::app::{FileBody, FileRange, Forsaken};
use crate::error::{AnyError, chain};

/// What the `Server` field says.
pub(super) const SERVER_NAME: &str = "rgun-async";

/// A response body is handed on in pieces of so many bytes, however large the app's are.
const PIECE: usize = 64 * 1024;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// What an app's response may not be; found before its head is sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("the app answered with the interim status {0}")]
    Interim(StatusCode),
    #[error("the app switched protocols without an Upgrade field")]
    Unnamed,
    #[error("the app's Content-Length is not one number")]
    Length,
    #[error("the app's body has {body} bytes, its Content-Length is {announced}")]
    Short { body: u64, announced: u64 },
}

/// Why a response was cut after its head.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("the app's body ended {0} bytes before its Content-Length")]
    Short(u64),
    #[error("the app panicked")]
    Panic,
    #[error("the request was refused while it was being answered")]
    Spoilt,
}

/// What the fields of a response come to.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what was seen, each by itself"
)]
struct Fields {
    length: Option<u64>,
    close: bool,
    connection: bool,
    server: bool,
    /// Fields that only a server may set.
    hop: bool,
}

impl Fields {
    fn read(headers: &HeaderMap) -> Result<Self, Fault> {
        let mut fields = Self::default();
        for (name, value) in headers {
            if *name == CONTENT_LENGTH {
                let length = number(value.as_bytes()).ok_or(Fault::Length)?;
                if fields
                    .length
                    .replace(length)
                    .is_some_and(|before| before != length)
                {
                    return Err(Fault::Length);
                }
            } else if *name == SERVER {
                fields.server = true;
            } else if *name == CONNECTION {
                fields.connection = true;
                fields.close |= has_token(value, b"close");
            } else if *name == TRANSFER_ENCODING
                || *name == UPGRADE
                || *name == TE
                || *name == KEEP_ALIVE
            {
                fields.hop = true;
            }
        }
        Ok(fields)
    }

    /// What can be told of a response before it is sent. `exact` is the size of its body, if it is known.
    fn check(self, status: StatusCode, exact: Option<u64>, head: bool) -> Result<Self, Fault> {
        if status.is_informational() {
            return Err(Fault::Interim(status));
        }
        match (self.length, exact) {
            (Some(announced), Some(body)) if body < announced && !bodiless(status, head) => {
                Err(Fault::Short { body, announced })
            }
            _ => Ok(self),
        }
    }

    /// Leaves the app's fields, but for those that are the server's to set.
    fn settle<C: Carrier>(&self, headers: &mut HeaderMap, wire: &C) {
        if self.hop {
            for name in [TRANSFER_ENCODING, UPGRADE, TE, KEEP_ALIVE] {
                headers.remove(name);
            }
        }
        if C::IS_CONNECTION && (self.close || wire.watch().is_last()) {
            headers.insert(CONNECTION, CLOSE);
        } else if self.connection {
            headers.remove(CONNECTION);
        }
        if !self.server {
            headers.insert(SERVER, HeaderValue::from_static(SERVER_NAME));
        }
    }
}

fn has_token(value: &HeaderValue, token: &[u8]) -> bool {
    value
        .as_bytes()
        .split(|&byte| byte == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

/// One request and its answer.
#[derive(Debug)]
pub(crate) struct Exchange<C = Wire> {
    pub(super) wire: Rc<C>,
    /// The method is HEAD.
    pub(super) head: bool,
    /// The client asked for another protocol, and sent no body that would stand in its way.
    pub(super) upgradable: bool,
    /// For the access log.
    pub(super) record: Option<Box<Record>>,
    /// For what the server does with the answer.
    pub(super) asked: Option<Box<Asked>>,
}

impl Exchange {
    /// Of a request that is answered by another protocol, and logged there.
    pub(super) fn of_upgrade(wire: &Rc<Wire>) -> Self {
        Self {
            wire: Rc::clone(wire),
            head: false,
            upgradable: true,
            record: None,
            asked: None,
        }
    }
}

impl<C: Carrier> Exchange<C> {
    /// Logs a fault of the client's and makes the page for it.
    pub(super) fn refuse(&self, refusal: Refusal) -> Response<Bytes> {
        let peer = &self.wire.watch().ends().peer;
        tracing::warn!("Invalid request from ip={}: {}", Peer(peer), refusal.reason);
        page::response(refusal.status, refusal.reason)
    }

    /// Logs a fault of the app's and makes the page for it.
    pub(super) fn fail(&self, what: &str) -> Response<Bytes> {
        tracing::error!(
            "Error handling request {}: {what}",
            self.wire.watch().request()
        );
        page::response(StatusCode::INTERNAL_SERVER_ERROR, "")
    }

    /// The file that the app's response names instead of a body.
    #[inline]
    pub(super) fn named<B>(&self, response: &mut Response<B>) -> Option<Opening> {
        let asked = self.asked.as_ref()?;
        self.wire.shared().around.as_ref()?.named(asked, response)
    }

    /// The app's response as it may be sent; a page in its place if it may not.
    pub(super) fn send<B>(self, mut response: Response<B>) -> Response<Reply<B, C>>
    where
        B: Body<Data = Bytes, Error = AnyError>,
    {
        let exact = response.body().size_hint().exact();
        let checked = Fields::read(response.headers())
            .and_then(|fields| fields.check(response.status(), exact, self.head));
        match checked {
            Ok(fields) => {
                let file = if response.extensions().is_empty() {
                    None
                } else {
                    response.extensions_mut().remove::<FileRange>()
                };
                // Taken apart once, as it is large.
                let (mut parts, body) = response.into_parts();
                let body = self.finish(&mut parts, Source::App { body }, &fields, exact, file);
                Response::from_parts(parts, body)
            }
            Err(Fault::Interim(StatusCode::SWITCHING_PROTOCOLS)) if self.upgradable => {
                self.switch(response.into_parts().0)
            }
            Err(fault) => {
                let page = self.fail(&fault.to_string());
                self.send_page(page)
            }
        }
    }

    /// A static file as it may be sent.
    pub(super) fn send_file<B>(self, response: Response<FileBody>) -> Response<Reply<B, C>>
    where
        B: Body<Data = Bytes, Error = AnyError>,
    {
        let status = response.status();
        if (status.is_client_error() || status.is_server_error())
            && response.body().is_end_stream()
        {
            let mut page = page::of_file(response);
            if C::IS_CONNECTION && self.wire.watch().is_last() {
                page.headers_mut().insert(CONNECTION, CLOSE);
            }
            return self.send_page(page);
        }
        let exact = response.body().size_hint().exact();
        match Fields::read(response.headers())
            .and_then(|fields| fields.check(status, exact, self.head))
        {
            Ok(fields) => {
                let (mut parts, body) = response.into_parts();
                let file = body.range().filter(|file| file.left() > COPIED).cloned();
                let body = self.finish(&mut parts, Source::File { body }, &fields, exact, file);
                Response::from_parts(parts, body)
            }
            Err(fault) => {
                let page = self.fail(&fault.to_string());
                self.send_page(page)
            }
        }
    }

    /// The head and the body of a response that keeps to the rules; `file` is what its body is, if it is one.
    #[expect(
        clippy::inline_always,
        reason = "parts of a response are large: by a call they are copied six times more"
    )]
    #[inline(always)]
    fn finish<B>(
        self,
        parts: &mut response::Parts,
        body: Source<B>,
        fields: &Fields,
        exact: Option<u64>,
        file: Option<FileRange>,
    ) -> Reply<B, C>
    where
        B: Body<Data = Bytes, Error = AnyError>,
    {
        if self.head
            && fields.length.is_none()
            && let Some(exact) = exact.filter(|&exact| exact > 0)
        {
            parts.headers.insert(CONTENT_LENGTH, exact.into());
        }
        fields.settle(&mut parts.headers, &*self.wire);
        let length = fields.length.or(exact);
        if bodiless(parts.status, self.head) {
            self.wire.settle(parts, true);
            return Reply::new(None, None, Some(0), self, parts);
        }
        let (coming, length) = if self.asked.is_some() {
            self.encode(parts, body, length)
        } else {
            (Coming::Plain { body }, length)
        };
        self.wire.settle(parts, length.is_some());
        let sending = match (file, &coming) {
            (Some(file), Coming::Plain { .. }) => self.sending(file, length),
            (Some(_), Coming::Compressed { .. }) | (None, _) => None,
        };
        Reply::new(Some(coming), sending, length, self, parts)
    }

    /// The body as the client is to get it, and its length: compressed, where that is wanted.
    #[cold]
    fn encode<B>(
        &self,
        parts: &mut response::Parts,
        body: Source<B>,
        length: Option<u64>,
    ) -> (Coming<B>, Option<u64>)
    where
        B: Body<Data = Bytes, Error = AnyError>,
    {
        #[cfg(feature = "compression")]
        if let Some(asked) = &self.asked
            && let Some(around) = &self.wire.shared().around
            && let Some(compression) = &around.compression
        {
            return compression.encode(&asked.headers, parts, body, length);
        }
        let _ = (self, parts);
        (Coming::Plain { body }, length)
    }

    /// A file that the kernel can send, and that is worth it; a body of `length` bytes has room for it.
    fn sending(&self, mut file: FileRange, length: Option<u64>) -> Option<Box<Sending>> {
        if let Some(length) = length {
            file.limit(length);
        }
        (file.left() > COPIED && self.wire.takes_files()).then(|| Box::new(Sending::new(file)))
    }

    /// The app's answer by which the connection leaves HTTP (RFC 9110 section 15.2.2).
    pub(super) fn switch<B>(mut self, mut parts: response::Parts) -> Response<Reply<B, C>>
    where
        B: Body<Data = Bytes, Error = AnyError>,
    {
        if !parts.headers.contains_key(UPGRADE) {
            let page = self.fail(&Fault::Unnamed.to_string());
            return self.send_page(page);
        }
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING, TE, KEEP_ALIVE] {
            parts.headers.remove(name);
        }
        parts
            .headers
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts
            .headers
            .entry(SERVER)
            .or_insert(HeaderValue::from_static(SERVER_NAME));
        let mut record = self.record.take();
        if let Some(record) = &mut record {
            record.answered(parts.status, &parts.headers);
        }
        self.wire.switch(record);
        let body = Reply::new(None, None, Some(0), self, &parts);
        Response::from_parts(parts, body)
    }

    /// A page of ours in the place of the app's response.
    pub(super) fn send_page<B>(self, page: Response<Bytes>) -> Response<Reply<B, C>>
    where
        B: Body<Data = Bytes, Error = AnyError>,
    {
        let (mut parts, bytes) = page.into_parts();
        parts
            .headers
            .insert(SERVER, HeaderValue::from_static(SERVER_NAME));
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        parts.headers.insert(CONTENT_LENGTH, length.into());
        self.wire.settle(&mut parts, true);
        let bytes = if self.head { Bytes::new() } else { bytes };
        let mut body = Reply::new(None, None, (!self.head).then_some(length), self, &parts);
        body.rest = bytes;
        Response::from_parts(parts, body)
    }
}

/// Digits, and nothing else.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.wrapping_sub(b'0');
        let number = number.checked_mul(10)?.checked_add(digit.into())?;
        (digit < 10).then_some(number)
    })
}

/// A response of this kind has no body, whatever the app gives (RFC 9110 section 6.4.1).
fn bodiless(status: StatusCode, head: bool) -> bool {
    head || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

pin_project! {
    /// A response's body on its way to the client. The library moves it more than once: it is kept small.
    pub(crate) struct Reply<B, C = Wire>
    where
        B: Body<Data = Bytes, Error = AnyError>,
    {
        #[pin]
        body: Option<Coming<B>>,
        // The body is a file, and the kernel sends it.
        sending: Option<Box<Sending>>,
        // What is left of the app's last piece.
        rest: Bytes,
        // Bytes that are still to come from the app, if their number was known at first.
        left: Option<u64>,
        // The turn of the connection in which the body had nothing more.
        parked: Option<u32>,
        // Why the response is cut, once what came before is on its way.
        cut: Option<Box<AnyError>>,
        wire: Rc<C>,
        // For the access log.
        record: Option<Box<Record>>,
    }
}

impl<B, C> Reply<B, C>
where
    B: Body<Data = Bytes, Error = AnyError>,
{
    #[expect(
        clippy::inline_always,
        reason = "it is large: by a call it is copied once more"
    )]
    #[inline(always)]
    fn new(
        body: Option<Coming<B>>,
        sending: Option<Box<Sending>>,
        length: Option<u64>,
        exchange: Exchange<C>,
        parts: &response::Parts,
    ) -> Self {
        let mut record = exchange.record;
        if let Some(record) = &mut record {
            record.answered(parts.status, &parts.headers);
        }
        Self {
            body,
            sending,
            rest: Bytes::new(),
            left: length,
            parked: None,
            cut: None,
            wire: exchange.wire,
            record,
        }
    }
}

impl<B, C> Body for Reply<B, C>
where
    B: Body<Data = Bytes, Error = AnyError>,
    C: Carrier,
{
    type Data = Piece;
    type Error = AnyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, AnyError>>> {
        if let Some(error) = self.as_mut().project().cut.take() {
            return Poll::Ready(Some(Err(*error)));
        }
        if self.sending.is_some()
            && let Some(frame) = ready!(self.as_mut().poll_sending(cx))
        {
            return Poll::Ready(Some(frame));
        }
        let mut this = self.project();
        if this.wire.throttle() {
            return Poll::Pending;
        }
        // What came before is sent first, however often the library asks: an app that is called within this poll may
        // not come back soon.
        if this.rest.is_empty() && this.parked.is_some() && *this.parked == this.wire.turn() {
            return Poll::Pending;
        }
        if let Some(file) = this.body.as_ref().get_ref().as_ref().and_then(Coming::file)
            && this.rest.is_empty()
            && *this.left == Some(file.left())
            && !this.wire.spoilt_in_use()
            && this.wire.attach(file)
        {
            let length = usize::try_from(file.left()).unwrap_or(usize::MAX);
            this.body.set(None);
            *this.left = Some(0);
            this.wire.hand_on(length);
            if let Some(record) = this.record {
                record.sent(length);
            }
            return Poll::Ready(Some(Ok(Frame::data(Piece::Sent(length)))));
        }
        while let Some(body) = this.body.as_mut().as_pin_mut() {
            if !this.rest.is_empty() && *this.left != Some(0) {
                break;
            }
            if this.wire.spoilt_in_use() {
                return Poll::Ready(Some(Err(Cut::Spoilt.into())));
            }
            let polled = catch_unwind(AssertUnwindSafe(|| body.poll_frame(cx)));
            let error = match polled {
                Ok(Poll::Pending) => {
                    *this.parked = this.wire.turn();
                    if this.rest.is_empty() {
                        return Poll::Pending;
                    }
                    // The last byte is here; the client need not wait for what the app does after it.
                    break;
                }
                Ok(Poll::Ready(None)) => {
                    this.body.set(None);
                    match *this.left {
                        Some(left) if left > 0 => Cut::Short(left).into(),
                        _ => break,
                    }
                }
                Ok(Poll::Ready(Some(Ok(frame)))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => {
                        take(this.rest, this.left, data, &**this.wire);
                        if *this.left == Some(0)
                            && this
                                .body
                                .as_ref()
                                .as_pin_ref()
                                .is_none_or(|body| body.is_end_stream())
                        {
                            this.body.set(None);
                        }
                        continue;
                    }
                    // Trailers end a body; with a length there is no room for them on a connection.
                    Err(frame) if !C::IS_CONNECTION || this.left.is_none() => {
                        this.body.set(None);
                        return Poll::Ready(Some(Ok(frame.map_data(Piece::Bytes))));
                    }
                    Err(_) => continue,
                },
                Ok(Poll::Ready(Some(Err(error)))) => error,
                Err(_) => Cut::Panic.into(),
            };
            if !error.is::<Forsaken>() {
                let request = this.wire.watch().request();
                tracing::error!("Error handling request {request}: {}", chain(&*error));
            }
            // The library drops what it has not sent when it is told of the error: it gets the chance to send that.
            *this.cut = Some(Box::new(error));
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.rest.is_empty() {
            return Poll::Ready(None);
        }
        let piece = this.rest.split_to(PIECE.min(this.rest.len()));
        this.wire.hand_on(piece.len());
        if let Some(record) = &mut this.record {
            record.sent(piece.len());
        }
        Poll::Ready(Some(Ok(Frame::data(Piece::Bytes(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
            && self.cut.is_none()
            && match &self.body {
                None => true,
                Some(body) => self.left.is_none_or(|left| left == 0) && body.is_end_stream(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl<B, C> Reply<B, C>
where
    B: Body<Data = Bytes, Error = AnyError>,
    C: Carrier,
{
    /// Has the kernel send the file that the body is; nothing where it cannot, and the body is to be read.
    fn poll_sending(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, AnyError>>> {
        let mut this = self.project();
        let Some(sending) = this.sending else {
            return Poll::Ready(None);
        };
        let before = sending.sent();
        let polled = this.wire.poll_send_file(cx, sending);
        let sent = sending.sent();
        if let Some(record) = &mut this.record
            && sent > before
        {
            record.sent(sent - before);
        }
        let ended = ready!(polled);
        *this.sending = None;
        let error: AnyError = match ended {
            Ok(()) => {
                this.body.set(None);
                let length = u64::try_from(sent).unwrap_or(u64::MAX);
                *this.left = this.left.map(|left| left.saturating_sub(length));
                return Poll::Ready(Some(Ok(Frame::data(Piece::Sent(sent)))));
            }
            Err(Failed::Unable) => return Poll::Ready(None),
            Err(Failed::Socket(error)) => {
                let peer = &this.wire.watch().ends().peer;
                tracing::debug!("Client {} has left: {error}", Peer(peer));
                error.into()
            }
            Err(Failed::File(error)) => {
                let request = this.wire.watch().request();
                tracing::error!("Error handling request {request}: {error}");
                error.into()
            }
        };
        this.body.set(None);
        Poll::Ready(Some(Err(error)))
    }
}

/// Takes the app's `data`, as far as its announced length has room for it.
fn take<C: Carrier>(rest: &mut Bytes, left: &mut Option<u64>, mut data: Bytes, wire: &C) {
    if let Some(left) = left {
        let room = usize::try_from(*left).unwrap_or(usize::MAX);
        if data.len() > room {
            tracing::error!(
                "Error handling request {}: the app's body is {} bytes longer than its \
                 Content-Length",
                wire.watch().request(),
                data.len() - room
            );
            data.truncate(room);
        }
        *left = left.saturating_sub(u64::try_from(data.len()).unwrap_or(u64::MAX));
    }
    if !data.is_empty() {
        *rest = data;
    }
}
