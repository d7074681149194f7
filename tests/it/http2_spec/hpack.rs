//! The compression of fields: RFC 7541.

use super::*;

/// The host, indexed by name and without a place in the table.
const HOST: &[u8] = b"\x01\x09localhost";
/// A GET of / in indexed fields, but for the host.
const GET: &[u8] = &[0x82, 0x86, 0x84];

fn block(h: &mut Http2, more: &[u8]) {
    h.send(HEADERS, WHOLE, 1, &[GET, HOST, more].concat());
}

const READ: &[Case] = &[
    case(
        "6.1",
        "sends indexed fields",
        |h| block(h, &[]),
        Answer(200),
    ),
    case(
        "6.2.1",
        "sends a literal with indexing, its name indexed",
        |h| {
            block(h, b"\x7a\x08h2spec/1");
        },
        Answer(200),
    ),
    case(
        "6.2.1",
        "sends the same in Huffman's code",
        |h| {
            block(h, b"\x7a\x87\x9c\x45\x1d\x6a\x90\xc5\x7f");
        },
        Answer(200),
    ),
    case(
        "6.2.1",
        "sends a literal with indexing, its name new",
        |h| {
            block(h, b"\x40\x06x-test\x06h2spec");
        },
        Answer(200),
    ),
    case(
        "6.2.1",
        "uses what was indexed",
        |h| {
            block(h, b"\x40\x06x-test\x06h2spec\xbe");
        },
        Answer(200),
    ),
    case(
        "6.2.2",
        "sends a literal without indexing, its name indexed",
        |h| {
            block(h, b"\x0f\x2b\x06h2spec");
        },
        Answer(200),
    ),
    case(
        "6.2.2",
        "sends a literal without indexing, its name new",
        |h| {
            block(h, b"\x00\x06x-test\x06h2spec");
        },
        Answer(200),
    ),
    case(
        "6.2.3",
        "sends a literal never indexed, its name indexed",
        |h| {
            block(h, b"\x1f\x2b\x06h2spec");
        },
        Answer(200),
    ),
    case(
        "6.2.3",
        "sends a literal never indexed, its name new",
        |h| {
            block(h, b"\x10\x06x-test\x06h2spec");
        },
        Answer(200),
    ),
    case(
        "6.3",
        "changes the table's size",
        |h| {
            h.send(HEADERS, WHOLE, 1, &[&[0x3F, 0x61], GET, HOST].concat());
        },
        Answer(200),
    ),
    case(
        "4.2",
        "changes the table's size twice",
        |h| {
            h.send(
                HEADERS,
                WHOLE,
                1,
                &[&[0x20, 0x3F, 0x61], GET, HOST].concat(),
            );
        },
        Answer(200),
    ),
];

const WRONG: &[u32] = &[COMPRESSION_ERROR, PROTOCOL_ERROR];

const REFUSED: &[Case] = &[
    case(
        "2.3.3",
        "uses an index beyond the table",
        |h| block(h, &[0xC6]),
        End(WRONG),
    ),
    case(
        "2.3.3",
        "uses a name beyond the table",
        |h| {
            block(h, b"\x7f\x07\x06h2spec");
        },
        End(WRONG),
    ),
    case(
        "4.2",
        "changes the table's size at a block's end",
        |h| block(h, &[0x20]),
        End(WRONG),
    ),
    case(
        "5.2",
        "pads Huffman's code by more than seven bits",
        |h| {
            block(h, b"\x00\x85\xf2\xb2\x4a\x87\xff\x84\x49\x50\x9f\xff");
        },
        End(WRONG),
    ),
    case(
        "5.2",
        "pads Huffman's code by zeros",
        |h| {
            block(h, b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90");
        },
        End(WRONG),
    ),
    case(
        "5.2",
        "sends Huffman's end of string",
        |h| {
            block(
                h,
                b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f",
            );
        },
        End(WRONG),
    ),
    case("6.1", "uses index 0", |h| block(h, &[0x80]), End(WRONG)),
    case(
        "6.3",
        "makes the table larger than it may be",
        |h| {
            h.send(
                HEADERS,
                WHOLE,
                1,
                &[&[0x3F, 0xE2, 0x1F], GET, HOST].concat(),
            );
        },
        End(WRONG),
    ),
];

#[test]
fn what_can_be_read_is_read() {
    try_all(READ);
}

#[test]
fn what_cannot_be_read_ends_the_connection() {
    try_all(REFUSED);
}
