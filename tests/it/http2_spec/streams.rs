//! The beginning of a connection, and the states of streams: sections 3 and 5 of RFC 9113.

use super::*;

/// Reads the answer on stream 1, and so closes it.
fn closed(h: &mut Http2) {
    h.get(1);
    assert_eq!(h.answer(1).0, 200);
}

fn reset(h: &mut Http2) {
    h.send(HEADERS, END_HEADERS, 1, &post());
    h.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
}

const BLOCK: &[u8] = &[0, 1, b'a', 1, b'b'];

const IDLE: &[Case] = &[
    case(
        "5.1",
        "idle: sends DATA",
        |h| {
            h.send(DATA, END_STREAM, 1, b"test");
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "5.1",
        "idle: resets it",
        |h| {
            h.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "5.1",
        "idle: opens its window",
        |h| {
            h.send(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 100]);
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "5.1",
        "idle: continues a header block",
        |h| {
            h.send(CONTINUATION, END_HEADERS, 1, &get());
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "5.1",
        "idle: gives it a priority",
        |h| {
            h.send(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]);
        },
        GoOn,
    ),
];

const HALF_CLOSED: &[Case] = &[
    case(
        "5.1",
        "half closed: sends DATA",
        |h| {
            h.get(1);
            h.send(DATA, END_STREAM, 1, b"test");
        },
        Reset(&[STREAM_CLOSED]),
    ),
    case(
        "5.1",
        "half closed: sends HEADERS",
        |h| {
            h.get(1);
            h.get(1);
        },
        Reset(&[STREAM_CLOSED]),
    ),
    case(
        "5.1",
        "half closed: continues a header block",
        |h| {
            h.get(1);
            h.send(CONTINUATION, END_HEADERS, 1, BLOCK);
        },
        Reset(&[STREAM_CLOSED, PROTOCOL_ERROR]),
    ),
    case(
        "5.1",
        "half closed: opens its window",
        |h| {
            h.get(1);
            h.send(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
        },
        Answer(200),
    ),
    case(
        "5.1",
        "half closed: gives it a priority",
        |h| {
            h.get(1);
            h.send(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]);
        },
        Answer(200),
    ),
    case(
        "5.1",
        "half closed: resets it",
        |h| {
            h.get(1);
            h.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
        },
        GoOn,
    ),
];

const CLOSED: &[Case] = &[
    case(
        "5.1",
        "reset: sends DATA",
        |h| {
            reset(h);
            h.send(DATA, END_STREAM, 1, b"test");
        },
        Reset(&[STREAM_CLOSED]),
    ),
    case(
        "5.1",
        "reset: sends HEADERS",
        |h| {
            reset(h);
            h.get(1);
        },
        Reset(&[STREAM_CLOSED, PROTOCOL_ERROR]),
    ),
    case(
        "5.1",
        "reset: continues a header block",
        |h| {
            reset(h);
            h.send(CONTINUATION, END_HEADERS, 1, BLOCK);
        },
        Reset(&[STREAM_CLOSED, PROTOCOL_ERROR]),
    ),
    case(
        "5.1",
        "closed: sends DATA",
        |h| {
            closed(h);
            h.send(DATA, END_STREAM, 1, b"test");
        },
        Reset(&[STREAM_CLOSED]),
    ),
    case(
        "5.1",
        "closed: sends HEADERS",
        |h| {
            closed(h);
            h.get(1);
        },
        End(&[STREAM_CLOSED, PROTOCOL_ERROR]),
    ),
    case(
        "5.1",
        "closed: continues a header block",
        |h| {
            closed(h);
            h.send(CONTINUATION, END_HEADERS, 1, BLOCK);
        },
        End(&[STREAM_CLOSED, PROTOCOL_ERROR]),
    ),
    case(
        "5.1",
        "closed: gives it a priority",
        |h| {
            closed(h);
            h.send(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]);
        },
        GoOn,
    ),
    case(
        "5.1",
        "closed: opens its window",
        |h| {
            closed(h);
            h.send(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
        },
        GoOn,
    ),
    case(
        "5.1",
        "closed: resets it",
        |h| {
            closed(h);
            h.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
        },
        GoOn,
    ),
];

const IDENTIFIERS: &[Case] = &[
    case(
        "5.1.1",
        "uses a stream of an even number",
        |h| h.get(2),
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "5.1.1",
        "uses a smaller number than before",
        |h| {
            h.get(5);
            h.get(3);
        },
        End(&[PROTOCOL_ERROR, STREAM_CLOSED]),
    ),
    case(
        "5.1.2",
        "has more streams than it may",
        |h| {
            for stream in 0..101 {
                h.send(HEADERS, END_HEADERS, 2 * stream + 1, &post());
            }
        },
        Reset(&[REFUSED_STREAM, PROTOCOL_ERROR]),
    ),
    case(
        "5.3.1",
        "lets a stream depend on itself, by HEADERS",
        |h| {
            let block = [&[0, 0, 0, 1, 10], &get()[..]].concat();
            h.send(HEADERS, WHOLE | WITH_PRIORITY, 1, &block);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "5.3.1",
        "lets a stream depend on itself, by PRIORITY",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(PRIORITY, 0, 1, &[0, 0, 0, 1, 10]);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "5.4.1",
        "breaks the connection, which is closed behind GOAWAY",
        |h| {
            h.send(PING, 0, 3, &[0; 8]);
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "5.5",
        "sends a frame of an extension",
        |h| h.send(0x16, 0, 0, &[0; 8]),
        GoOn,
    ),
    case(
        "5.5",
        "sends a frame of an extension amid a header block",
        |h| {
            h.send(HEADERS, END_STREAM, 1, &get());
            h.send(0x16, 0, 0, &[0; 8]);
        },
        End(&[PROTOCOL_ERROR]),
    ),
];

#[test]
fn a_connection_begins_with_the_preface() {
    let server = server();
    let mut client = Http2::silent(&server);
    client.raw(PREFACE);
    let settings = client.next().expect("the server's settings");
    assert_eq!(
        (settings.kind, settings.flags, settings.stream),
        (SETTINGS, 0, 0)
    );
    client.send(SETTINGS, 0, 0, &[]);
    client.assert_alive();
    // Section 3.4: the client's first frame is of settings.
    let mut client = Http2::silent(&server);
    client.raw(PREFACE);
    client.get(1);
    assert_eq!(client.goodbye(), PROTOCOL_ERROR);
    // What is not the preface is not HTTP/2.
    let mut client = server.connect();
    client.send(b"INVALID CONNECTION PREFACE\r\n\r\n");
    assert_eq!(client.one_response("GET").expect("an answer").status(), 400);
}

#[test]
fn streams_that_are_idle() {
    try_all(IDLE);
}

#[test]
fn streams_that_are_half_closed() {
    try_all(HALF_CLOSED);
}

#[test]
fn streams_that_are_closed() {
    try_all(CLOSED);
}

#[test]
fn identifiers_dependencies_and_extensions() {
    try_all(IDENTIFIERS);
}
