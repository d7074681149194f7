//! Frames: sections 4 and 6 of RFC 9113.

use super::*;

/// A window that is opened too far.
const TOO_FAR: [u8; 4] = [0x7F, 0xFF, 0xFF, 0xFF];

/// What a stream's own setting says, and by how much it has room to be wrong.
fn settings(name: u16, value: u32) -> Vec<u8> {
    [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// Reads frames until the settings are acknowledged.
fn acknowledged(h: &mut Http2) {
    h.find(|frame| (frame.kind, frame.flags) == (SETTINGS, ACK))
        .expect("the settings are acknowledged");
}

/// The bytes of bodies that come on stream 1 until its end, or so many.
fn bytes(h: &mut Http2, most: usize) -> usize {
    let mut count = 0;
    while count < most {
        let frame = h
            .find(|frame| frame.kind == DATA && frame.stream == 1)
            .expect("more of the body");
        count += frame.payload.len();
        if frame.ends_stream() {
            break;
        }
    }
    count
}

const FORMAT: &[Case] = &[
    case(
        "4.1",
        "sends a frame of unknown type",
        |h| h.send(0x16, 0, 0, b"whatever"),
        GoOn,
    ),
    case(
        "4.1",
        "sends a frame with undefined flags",
        |h| h.send(PING, 0x16, 0, &[0; 8]),
        GoOn,
    ),
    case(
        "4.1",
        "sets the reserved bit of a stream",
        |h| h.send(PING, 0, 1 << 31, &[0; 8]),
        GoOn,
    ),
    case(
        "4.2",
        "sends DATA of 2^14 bytes",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(DATA, END_STREAM, 1, &[b'a'; 1 << 14]);
        },
        Answer(200),
    ),
    case(
        "4.2",
        "sends DATA that is too large",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(DATA, END_STREAM, 1, &[0; (1 << 14) + 1]);
        },
        Reset(&[FRAME_SIZE_ERROR]),
    ),
    case(
        "4.2",
        "sends HEADERS that are too large",
        |h| {
            let block = [get(), field("a", &"b".repeat(1 << 14))].concat();
            h.send(HEADERS, WHOLE, 1, &block);
        },
        End(&[FRAME_SIZE_ERROR]),
    ),
    case(
        "4.3",
        "sends a header block that cannot be read",
        |h| {
            h.send(
                HEADERS,
                WHOLE,
                1,
                &[0x40, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
            );
        },
        End(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
    ),
    case(
        "4.3",
        "sends PRIORITY amid a header block",
        |h| {
            h.send(HEADERS, END_STREAM, 1, &get());
            h.send(PRIORITY, 0, 1, &[0, 0, 0, 0, 255]);
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "4.3",
        "begins a header block amid another",
        |h| {
            h.send(HEADERS, END_STREAM, 1, &get());
            h.get(3);
        },
        End(&[PROTOCOL_ERROR]),
    ),
];

const DATA_CASES: &[Case] = &[
    case(
        "6.1",
        "sends DATA",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(DATA, END_STREAM, 1, b"test");
        },
        Answer(200),
    ),
    case(
        "6.1",
        "sends DATA in two frames",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(DATA, 0, 1, b"test");
            h.send(DATA, END_STREAM, 1, b"test");
        },
        Answer(200),
    ),
    case(
        "6.1",
        "sends padded DATA",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(DATA, END_STREAM | PADDED, 1, b"\x04test\0\0\0\0");
        },
        Answer(200),
    ),
    case(
        "6.1",
        "sends DATA on stream 0",
        |h| {
            h.send(DATA, END_STREAM, 0, b"test");
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.1",
        "sends DATA on a stream that is half closed",
        |h| {
            h.get(1);
            h.send(DATA, END_STREAM, 1, b"test");
        },
        Reset(&[STREAM_CLOSED]),
    ),
    case(
        "6.1",
        "sends DATA with more padding than it has bytes",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(DATA, END_STREAM | PADDED, 1, b"\x06Test");
        },
        End(&[PROTOCOL_ERROR]),
    ),
];

const HEADERS_CASES: &[Case] = &[
    case("6.2", "sends HEADERS", |h| h.get(1), Answer(200)),
    case(
        "6.2",
        "sends padded HEADERS",
        |h| {
            let block = [&[4], &get()[..], &[0; 4]].concat();
            h.send(HEADERS, WHOLE | PADDED, 1, &block);
        },
        Answer(200),
    ),
    case(
        "6.2",
        "sends HEADERS with a priority",
        |h| {
            let block = [&[0, 0, 0, 0, 200], &get()[..]].concat();
            h.send(HEADERS, WHOLE | WITH_PRIORITY, 1, &block);
        },
        Answer(200),
    ),
    case(
        "6.2",
        "sends HEADERS on stream 0",
        |h| h.get(0),
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.2",
        "sends HEADERS with more padding than they have bytes",
        |h| {
            let block = [&[255], &get()[..]].concat();
            h.send(HEADERS, WHOLE | PADDED, 1, &block);
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.2",
        "sends PRIORITY behind HEADERS that go on",
        |h| {
            h.send(HEADERS, END_STREAM, 1, &get());
            h.send(PRIORITY, 0, 1, &[0; 5]);
        },
        End(&[PROTOCOL_ERROR]),
    ),
];

const PRIORITY_CASES: &[Case] = &[
    case(
        "6.3",
        "sends PRIORITY",
        |h| {
            h.send(PRIORITY, 0, 1, &[0, 0, 0, 0, 10]);
            h.get(1);
        },
        Answer(200),
    ),
    case(
        "6.3",
        "sends PRIORITY of weight 256",
        |h| {
            h.send(PRIORITY, 0, 1, &[0, 0, 0, 0, 255]);
            h.get(1);
        },
        Answer(200),
    ),
    case(
        "6.3",
        "sends PRIORITY with a dependency",
        |h| {
            h.send(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]);
            h.send(PRIORITY, 0, 3, &[0, 0, 0, 1, 1]);
        },
        GoOn,
    ),
    case(
        "6.3",
        "sends PRIORITY with an exclusive dependency",
        |h| {
            h.send(PRIORITY, 0, 3, &[0x80, 0, 0, 1, 1]);
        },
        GoOn,
    ),
    case(
        "6.3",
        "sends PRIORITY of an idle stream, then a request on an earlier one",
        |h| {
            h.send(PRIORITY, 0, 3, &[0, 0, 0, 0, 10]);
            h.get(1);
        },
        Answer(200),
    ),
    case(
        "6.3",
        "sends PRIORITY on stream 0",
        |h| {
            h.send(PRIORITY, 0, 0, &[0, 0, 0, 0, 10]);
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.3",
        "sends PRIORITY of a wrong length",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(PRIORITY, 0, 1, &[0; 4]);
        },
        Reset(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
    ),
];

const RESET_CASES: &[Case] = &[
    case(
        "6.4",
        "resets a stream",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
        },
        GoOn,
    ),
    case(
        "6.4",
        "resets stream 0",
        |h| {
            h.send(RST_STREAM, 0, 0, &CANCEL.to_be_bytes());
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.4",
        "resets an idle stream",
        |h| {
            h.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.4",
        "resets a stream by a frame of a wrong length",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(RST_STREAM, 0, 1, &[0; 3]);
        },
        End(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
    ),
];

const SETTINGS_CASES: &[Case] = &[
    case(
        "6.5",
        "sends settings",
        |h| h.send(SETTINGS, 0, 0, &settings(3, 100)),
        GoOn,
    ),
    case(
        "6.5",
        "acknowledges settings with a payload",
        |h| {
            h.send(SETTINGS, ACK, 0, &[0]);
        },
        End(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
    ),
    case(
        "6.5",
        "sends settings on a stream",
        |h| {
            h.send(SETTINGS, 0, 1, &settings(3, 100));
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.5",
        "sends settings of a wrong length",
        |h| {
            h.send(SETTINGS, 0, 0, &[0; 3]);
        },
        End(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
    ),
    case(
        "6.5.2",
        "sets ENABLE_PUSH to 2",
        |h| {
            h.send(SETTINGS, 0, 0, &settings(2, 2));
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.5.2",
        "sets INITIAL_WINDOW_SIZE too high",
        |h| {
            h.send(SETTINGS, 0, 0, &settings(4, 1 << 31));
        },
        End(&[FLOW_CONTROL_ERROR, PROTOCOL_ERROR]),
    ),
    case(
        "6.5.2",
        "sets MAX_FRAME_SIZE too low",
        |h| {
            h.send(SETTINGS, 0, 0, &settings(5, (1 << 14) - 1));
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.5.2",
        "sets MAX_FRAME_SIZE too high",
        |h| {
            h.send(SETTINGS, 0, 0, &settings(5, 1 << 24));
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.5.2",
        "sets what nobody knows",
        |h| {
            h.send(SETTINGS, 0, 0, &settings(0xFF, 1));
        },
        GoOn,
    ),
    case(
        "6.5.3",
        "sets INITIAL_WINDOW_SIZE twice in a frame, of which the last counts",
        |h| {
            h.send(SETTINGS, 0, 0, &[settings(4, 100), settings(4, 1)].concat());
            acknowledged(h);
            h.get(1);
            assert_eq!(bytes(h, 1), 1);
        },
        GoOn,
    ),
    case(
        "6.5.3",
        "sends settings, which are acknowledged",
        |h| {
            h.send(SETTINGS, 0, 0, &[]);
            acknowledged(h);
        },
        GoOn,
    ),
];

const PUSH_AND_PING_CASES: &[Case] = &[
    case(
        "6.6",
        "promises a push",
        |h| {
            let block = [&[0, 0, 0, 2], &get()[..]].concat();
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(PUSH_PROMISE, END_HEADERS, 1, &block);
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.7",
        "sends a PING",
        |h| {
            h.send(PING, 0, 0, b"h2spec??");
            let pong = h.find(|frame| frame.kind == PING).expect("an answer");
            assert_eq!((pong.flags, &pong.payload[..]), (ACK, &b"h2spec??"[..]));
        },
        GoOn,
    ),
    case(
        "6.7",
        "answers a PING that was not sent",
        |h| h.send(PING, ACK, 0, b"invalid!"),
        GoOn,
    ),
    case(
        "6.7",
        "sends a PING on a stream",
        |h| {
            h.send(PING, 0, 1, &[0; 8]);
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.7",
        "sends a PING of a wrong length",
        |h| {
            h.send(PING, 0, 0, &[0; 6]);
        },
        End(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
    ),
    case(
        "6.8",
        "sends GOAWAY on a stream",
        |h| {
            h.send(GOAWAY, 0, 1, &[0; 8]);
        },
        End(&[PROTOCOL_ERROR]),
    ),
];

const WINDOW_CASES: &[Case] = &[
    case(
        "6.9",
        "opens the connection's window",
        |h| {
            h.send(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]);
        },
        GoOn,
    ),
    case(
        "6.9",
        "opens a stream's window",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
            h.send(DATA, END_STREAM, 1, b"");
        },
        Answer(200),
    ),
    case(
        "6.9",
        "opens the connection's window by 0",
        |h| {
            h.send(WINDOW_UPDATE, 0, 0, &[0; 4]);
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.9",
        "opens a stream's window by 0",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(WINDOW_UPDATE, 0, 1, &[0; 4]);
        },
        Reset(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.9",
        "opens a window by a frame of a wrong length",
        |h| {
            h.send(WINDOW_UPDATE, 0, 0, &[0, 0, 1]);
        },
        End(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
    ),
    case(
        "6.9.1",
        "has a window of one byte",
        |h| {
            h.send(SETTINGS, 0, 0, &settings(4, 1));
            acknowledged(h);
            h.get(1);
            assert_eq!(bytes(h, 1), 1);
        },
        GoOn,
    ),
    case(
        "6.9.1",
        "opens the connection's window beyond 2^31-1",
        |h| {
            h.send(WINDOW_UPDATE, 0, 0, &TOO_FAR);
            h.send(WINDOW_UPDATE, 0, 0, &TOO_FAR);
        },
        End(&[FLOW_CONTROL_ERROR]),
    ),
    case(
        "6.9.1",
        "opens a stream's window beyond 2^31-1",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(WINDOW_UPDATE, 0, 1, &TOO_FAR);
            h.send(WINDOW_UPDATE, 0, 1, &TOO_FAR);
        },
        Reset(&[FLOW_CONTROL_ERROR]),
    ),
    case(
        "6.9.2",
        "changes INITIAL_WINDOW_SIZE behind a request",
        |h| {
            h.send(SETTINGS, 0, 0, &settings(4, 0));
            acknowledged(h);
            h.get(1);
            h.find(|frame| frame.kind == HEADERS)
                .expect("the answer's head");
            h.send(SETTINGS, 0, 0, &settings(4, 1));
            assert_eq!(bytes(h, 1), 1);
        },
        GoOn,
    ),
    case(
        "6.9.2",
        "makes a window negative",
        |h| {
            h.send(SETTINGS, 0, 0, &settings(4, 3));
            acknowledged(h);
            h.get(1);
            assert_eq!(bytes(h, 3), 3);
            h.send(SETTINGS, 0, 0, &settings(4, 2));
            acknowledged(h);
            h.send(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 2]);
            assert_eq!(bytes(h, 1), 1);
        },
        GoOn,
    ),
    case(
        "6.9.2",
        "sets INITIAL_WINDOW_SIZE beyond 2^31-1 behind a request",
        |h| {
            h.get(1);
            h.send(SETTINGS, 0, 0, &settings(4, 1 << 31));
        },
        End(&[FLOW_CONTROL_ERROR, PROTOCOL_ERROR]),
    ),
];

const CONTINUATION_CASES: &[Case] = &[
    case(
        "6.10",
        "continues a header block",
        |h| {
            let block = get();
            h.send(HEADERS, END_STREAM, 1, &block[..10]);
            h.send(CONTINUATION, END_HEADERS, 1, &block[10..]);
        },
        Answer(200),
    ),
    case(
        "6.10",
        "continues a header block twice",
        |h| {
            let block = get();
            h.send(HEADERS, END_STREAM, 1, &block[..10]);
            h.send(CONTINUATION, 0, 1, &block[10..20]);
            h.send(CONTINUATION, END_HEADERS, 1, &block[20..]);
        },
        Answer(200),
    ),
    case(
        "6.10",
        "continues what has ended",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(CONTINUATION, END_HEADERS, 1, &field("a", "b"));
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.10",
        "continues on stream 0",
        |h| {
            h.send(HEADERS, END_STREAM, 1, &get());
            h.send(CONTINUATION, END_HEADERS, 0, &field("a", "b"));
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.10",
        "continues nothing",
        |h| {
            h.send(CONTINUATION, END_HEADERS, 1, &get());
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.10",
        "continues a continuation that has ended",
        |h| {
            h.send(HEADERS, 0, 1, &post());
            h.send(CONTINUATION, END_HEADERS, 1, &field("a", "b"));
            h.send(CONTINUATION, END_HEADERS, 1, &field("a", "b"));
        },
        End(&[PROTOCOL_ERROR]),
    ),
    case(
        "6.10",
        "continues behind DATA",
        |h| {
            h.send(HEADERS, END_HEADERS, 1, &post());
            h.send(DATA, 0, 1, b"test");
            h.send(CONTINUATION, END_HEADERS, 1, &field("a", "b"));
        },
        End(&[PROTOCOL_ERROR]),
    ),
];

#[test]
fn the_frame_format() {
    try_all(FORMAT);
}

#[test]
fn data_and_headers() {
    try_all(DATA_CASES);
    try_all(HEADERS_CASES);
}

#[test]
fn priority_and_reset() {
    try_all(PRIORITY_CASES);
    try_all(RESET_CASES);
}

#[test]
fn settings_push_ping_and_goaway() {
    try_all(SETTINGS_CASES);
    try_all(PUSH_AND_PING_CASES);
}

#[test]
fn windows() {
    try_all(WINDOW_CASES);
}

#[test]
fn continuation() {
    try_all(CONTINUATION_CASES);
}
