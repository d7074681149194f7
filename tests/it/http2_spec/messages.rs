//! HTTP in frames: section 8 of RFC 9113.

use super::*;

fn without(name: &str) -> Vec<u8> {
    [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "localhost"),
    ]
    .into_iter()
    .filter(|(field, _)| *field != name)
    .flat_map(|(name, value)| field(name, value))
    .collect()
}

fn with(h: &mut Http2, fields: &[(&str, &str)]) {
    let more = fields.iter().flat_map(|(name, value)| field(name, value));
    let block: Vec<u8> = get().into_iter().chain(more).collect();
    h.send(HEADERS, WHOLE, 1, &block);
}

fn of_length(h: &mut Http2, length: &str, pieces: &[&[u8]]) {
    let block = [post(), field("content-length", length)].concat();
    h.send(HEADERS, END_HEADERS, 1, &block);
    for (number, piece) in pieces.iter().enumerate() {
        let flags = if number + 1 == pieces.len() {
            END_STREAM
        } else {
            0
        };
        h.send(DATA, flags, 1, piece);
    }
}

const EXCHANGES: &[Case] = &[
    case("8.1", "sends a GET", |h| h.get(1), Answer(200)),
    case(
        "8.1",
        "sends a HEAD",
        |h| {
            h.send(HEADERS, WHOLE, 1, &request("HEAD", "/"));
        },
        Answer(200),
    ),
    case(
        "8.1",
        "sends a POST",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(DATA, END_STREAM, 1, b"test");
        },
        Answer(200),
    ),
    case(
        "8.1",
        "sends a POST with trailers",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(DATA, 0, 1, b"test");
            h.send(HEADERS, WHOLE, 1, &field("x-test", "ok"));
        },
        Answer(200),
    ),
    case(
        "8.1",
        "sends other HEADERS that do not end the stream",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(HEADERS, END_HEADERS, 1, &field("x-test", "ok"));
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.5",
        "sends CONNECT",
        |h| {
            let block = [
                field(":method", "CONNECT"),
                field(":authority", "localhost:1"),
            ]
            .concat();
            h.send(HEADERS, WHOLE, 1, &block);
        },
        Answer(501),
    ),
];

const FIELDS: &[Case] = &[
    case(
        "8.2.1",
        "sends a name with a capital",
        |h| {
            with(h, &[("X-Test", "ok")]);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.2.1",
        "sends a value with a line end",
        |h| {
            with(h, &[("x-test", "a\r\nb: c")]);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.2.1",
        "sends a value with a zero",
        |h| {
            with(h, &[("x-test", "a\0b")]);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.2.1",
        "sends a name with a space",
        |h| {
            with(h, &[("x test", "a")]);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.2.1",
        "sends a value that begins with a space",
        |h| {
            with(h, &[("x-test", " a")]);
        },
        Answer(400),
    ),
    case(
        "8.2.2",
        "sends Connection",
        |h| {
            with(h, &[("connection", "keep-alive")]);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.2.2",
        "sends Transfer-Encoding",
        |h| {
            with(h, &[("transfer-encoding", "chunked")]);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.2.2",
        "sends Upgrade",
        |h| {
            with(h, &[("upgrade", "websocket")]);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.2.2",
        "sends TE with anything but trailers",
        |h| {
            with(h, &[("te", "trailers, deflate")]);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.2.2",
        "sends TE: trailers",
        |h| {
            with(h, &[("te", "trailers")]);
        },
        Answer(200),
    ),
];

const PSEUDO_FIELDS: &[Case] = &[
    case(
        "8.3",
        "sends a pseudo-field that nobody knows",
        |h| {
            with(h, &[(":test", "ok")]);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.3",
        "sends a response's pseudo-field",
        |h| {
            with(h, &[(":status", "200")]);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.3",
        "sends a pseudo-field as a trailer",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(DATA, 0, 1, b"test");
            h.send(HEADERS, END_HEADERS, 1, &field(":method", "GET"));
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.3",
        "sends a pseudo-field behind a field",
        |h| {
            let block = [without(":path"), field("x-test", "ok"), field(":path", "/")].concat();
            h.send(HEADERS, WHOLE, 1, &block);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.3.1",
        "sends an empty :path",
        |h| {
            let block = [without(":path"), field(":path", "")].concat();
            h.send(HEADERS, WHOLE, 1, &block);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.3.1",
        "sends no :method",
        |h| {
            h.send(HEADERS, WHOLE, 1, &without(":method"));
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.3.1",
        "sends no :scheme",
        |h| {
            h.send(HEADERS, WHOLE, 1, &without(":scheme"));
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.3.1",
        "sends no :path",
        |h| {
            h.send(HEADERS, WHOLE, 1, &without(":path"));
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.3.1",
        "sends :method twice",
        |h| {
            let block = [field(":method", "GET"), get()].concat();
            h.send(HEADERS, WHOLE, 1, &block);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.3.1",
        "sends :scheme twice",
        |h| {
            let block = [field(":scheme", "http"), get()].concat();
            h.send(HEADERS, WHOLE, 1, &block);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.3.1",
        "sends :path twice",
        |h| {
            let block = [field(":path", "/"), get()].concat();
            h.send(HEADERS, WHOLE, 1, &block);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.3.1",
        "names no host at all",
        |h| {
            h.send(HEADERS, WHOLE, 1, &without(":authority"));
        },
        Answer(400),
    ),
    case(
        "8.3.1",
        "names the host by Host alone",
        |h| {
            let block = [without(":authority"), field("host", "localhost")].concat();
            h.send(HEADERS, WHOLE, 1, &block);
        },
        Answer(200),
    ),
    case(
        "8.3.1",
        "names two hosts",
        |h| {
            with(h, &[("host", "elsewhere")]);
        },
        Answer(400),
    ),
    case(
        "8.3.1",
        "names a user in :authority",
        |h| {
            let block = [without(":authority"), field(":authority", "me@localhost")].concat();
            h.send(HEADERS, WHOLE, 1, &block);
        },
        Answer(400),
    ),
    case(
        "8.3.1",
        "sends a :path that is none",
        |h| {
            let block = [without(":path"), field(":path", "*")].concat();
            h.send(HEADERS, WHOLE, 1, &block);
        },
        Answer(400),
    ),
    case(
        "8.3.1",
        "sends OPTIONS of *",
        |h| {
            h.send(HEADERS, WHOLE, 1, &request("OPTIONS", "*"));
        },
        Answer(200),
    ),
    case(
        "8.3.1",
        "sends a method that HTTP/1 has not",
        |h| {
            h.send(HEADERS, WHOLE, 1, &request("get", "/"));
        },
        Answer(400),
    ),
];

const LENGTHS: &[Case] = &[
    case(
        "8.1.1",
        "sends as much as announced",
        |h| {
            of_length(h, "4", &[b"te", b"st"]);
        },
        Answer(200),
    ),
    case(
        "8.1.1",
        "sends more than announced",
        |h| {
            of_length(h, "1", &[b"test"]);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.1.1",
        "sends more than announced in two frames",
        |h| {
            of_length(h, "1", &[b"te", b"st"]);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.1.1",
        "sends less than announced",
        |h| {
            of_length(h, "9", &[b"te", b"st"]);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.1.1",
        "announces a length without a body",
        |h| {
            let block = [post(), field("content-length", "4")].concat();
            h.send(HEADERS, WHOLE, 1, &block);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.1.1",
        "announces two lengths",
        |h| {
            let length = field("content-length", "4");
            let block = [post(), length.clone(), length].concat();
            h.send(HEADERS, END_HEADERS, 1, &block);
            h.send(DATA, END_STREAM, 1, b"test");
        },
        Answer(400),
    ),
    case(
        "8.1.1",
        "announces no number",
        |h| {
            let block = [post(), field("content-length", "+4")].concat();
            h.send(HEADERS, END_HEADERS, 1, &block);
            h.send(DATA, END_STREAM, 1, b"test");
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "8.4",
        "promises a push",
        |h| {
            let block = [&[0, 0, 0, 2], &get()[..]].concat();
            h.send(PUSH_PROMISE, END_HEADERS, 1, &block);
        },
        End(&[PROTOCOL_ERROR]),
    ),
];

#[test]
fn requests_and_trailers() {
    try_all(EXCHANGES);
}

#[test]
fn fields() {
    try_all(FIELDS);
}

#[test]
fn pseudo_fields() {
    try_all(PSEUDO_FIELDS);
}

#[test]
fn lengths_of_bodies() {
    try_all(LENGTHS);
}
