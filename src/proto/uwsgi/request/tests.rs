use super::*;

pub(in crate::proto) fn packet(variables: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for part in variables.iter().flat_map(|(name, value)| [name, value]) {
        let size = u16::try_from(part.len()).expect("a size");
        block.extend_from_slice(&size.to_le_bytes());
        block.extend_from_slice(part.as_bytes());
    }
    let [low, high] = u16::try_from(block.len()).expect("a size").to_le_bytes();
    let mut packet = vec![0, low, high, 0];
    packet.append(&mut block);
    packet
}

fn request(variables: &[(&str, &str)]) -> Result<Request, Refusal> {
    let bytes = packet(variables);
    let (request, length) = Request::read(&bytes)?.expect("a whole packet");
    assert_eq!(length, bytes.len());
    Ok(request)
}

fn head(variables: &[(&str, &str)]) -> String {
    let request = request(variables).expect("a request");
    String::from_utf8(request.head).expect("text")
}

fn aside(variables: &[(&str, &str)]) -> Aside {
    let all = [&[("REQUEST_METHOD", "GET")], variables].concat();
    request(&all).expect("a request").aside
}

fn refusal(variables: &[(&str, &str)]) -> (u16, &'static str) {
    let all = [&[("REQUEST_METHOD", "GET")], variables].concat();
    let refusal = request(&all).expect_err("a refusal");
    (refusal.status.as_u16(), refusal.reason)
}

#[test]
fn a_packet_becomes_the_head_that_the_front_end_was_sent() {
    let head = head(&[
        ("QUERY_STRING", "b=c"),
        ("REQUEST_METHOD", "POST"),
        ("CONTENT_TYPE", "text/plain"),
        ("CONTENT_LENGTH", "5"),
        ("REQUEST_URI", "/a%20?b=c"),
        ("PATH_INFO", "/a "),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("HTTP_HOST", "x"),
        ("HTTP_X_FORWARDED_FOR", "192.0.2.1, 192.0.2.2"),
        ("HTTP_COOKIE", "a=1"),
        ("HTTP_COOKIE", "b=2"),
        // nginx passes them on, although it has dealt with them.
        ("HTTP_CONTENT_LENGTH", "7"),
        ("HTTP_CONTENT_TYPE", "text/html"),
        ("HTTP_TRANSFER_ENCODING", "chunked"),
        ("HTTP_TE", "trailers"),
    ]);
    assert_eq!(
        head,
        "POST /a%20?b=c HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\n\
         content-length: 5\r\nx-forwarded-for: 192.0.2.1, 192.0.2.2\r\n\
         cookie: a=1\r\ncookie: b=2\r\n\r\n"
    );
}

#[test]
fn what_is_empty_is_absent() {
    let variables = [
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", "/"),
        ("PATH_INFO", "/"),
        ("QUERY_STRING", ""),
        ("CONTENT_TYPE", ""),
        ("CONTENT_LENGTH", ""),
        ("SERVER_PROTOCOL", ""),
        ("SERVER_PORT", ""),
        ("REMOTE_ADDR", ""),
        ("REMOTE_PORT", ""),
        ("SCRIPT_NAME", ""),
        ("HTTP_HOST", "x"),
    ];
    assert_eq!(head(&variables), "GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    let aside = request(&variables).expect("a request").aside;
    assert_eq!(aside.version, Version::HTTP_11);
    assert_eq!(aside.peer, None);
    assert_eq!(aside.gateway.server_port(), None);
    assert_eq!(aside.gateway.variable("SERVER_PROTOCOL"), None);
}

#[test]
fn no_value_makes_a_line_of_its_own() {
    let injected = "x\r\nInjected: y";
    let refused = |reason| (400, reason);
    assert_eq!(
        refusal(&[("HTTP_A", injected)]),
        refused("invalid header field value")
    );
    assert_eq!(
        refusal(&[("HTTP_HOST", injected)]),
        refused("invalid header field value")
    );
    assert_eq!(
        refusal(&[("CONTENT_TYPE", injected)]),
        refused("invalid CONTENT_TYPE")
    );
    assert_eq!(
        refusal(&[("CONTENT_LENGTH", injected)]),
        refused("invalid CONTENT_LENGTH")
    );
    assert_eq!(
        refusal(&[("REQUEST_URI", injected)]),
        refused("invalid REQUEST_URI")
    );
    assert_eq!(
        refusal(&[("QUERY_STRING", injected)]),
        refused("invalid QUERY_STRING")
    );
    assert_eq!(
        refusal(&[("HTTP_A:B", "x")]),
        refused("invalid header field name")
    );
    assert_eq!(
        refusal(&[("HTTP_", "x")]),
        refused("invalid header field name")
    );
    for method in ["", "GET / HTTP/1.1\r\n", "G T"] {
        let refusal = request(&[("REQUEST_METHOD", method)]).expect_err("a refusal");
        assert_eq!(refusal.reason, "invalid REQUEST_METHOD");
    }
}

#[test]
fn a_request_has_one_method_and_one_length() {
    assert_eq!(
        refusal(&[("REQUEST_METHOD", "GET")]),
        (400, "more than one REQUEST_METHOD")
    );
    assert_eq!(
        refusal(&[("CONTENT_LENGTH", "1"), ("CONTENT_LENGTH", "1")]),
        (400, "more than one CONTENT_LENGTH")
    );
    for length in ["-1", "+1", "1 ", "0x1", "1,1"] {
        assert_eq!(
            refusal(&[("CONTENT_LENGTH", length)]),
            (400, "invalid CONTENT_LENGTH")
        );
    }
    assert_eq!(
        refusal(&[
            ("HTTP_TRANSFER_ENCODING", "chunked"),
            ("CONTENT_LENGTH", "")
        ]),
        (411, "Transfer-Encoding without CONTENT_LENGTH")
    );
}

#[test]
fn a_variable_that_is_set_again_has_its_last_value() {
    let head = head(&[
        ("REQUEST_METHOD", "GET"),
        ("PATH_INFO", "/a"),
        ("PATH_INFO", "/b"),
        ("HTTP_HOST", "a"),
        ("HTTP_HOST", "b"),
    ]);
    assert_eq!(head, "GET /b HTTP/1.1\r\nhost: b\r\n\r\n");
}

#[test]
fn the_client_is_who_the_front_end_says() {
    let peer = |addr, port| aside(&[("REMOTE_ADDR", addr), ("REMOTE_PORT", port)]).peer;
    let tcp = |text: &str| Some(Address::Tcp(text.parse().expect("an address")));
    assert_eq!(peer("192.0.2.1", "99"), tcp("192.0.2.1:99"));
    assert_eq!(peer("2001:db8::1", "99"), tcp("[2001:db8::1]:99"));
    assert_eq!(peer("192.0.2.1", ""), tcp("192.0.2.1:0"));
    assert_eq!(peer("unix:", ""), Some(Address::Unix(None)));
    assert_eq!(
        refusal(&[("REMOTE_ADDR", "somebody")]),
        (400, "invalid REMOTE_ADDR")
    );
    for port in ["65536", "+1", "x"] {
        assert_eq!(
            refusal(&[("REMOTE_PORT", port)]),
            (400, "invalid REMOTE_PORT")
        );
        assert_eq!(
            refusal(&[("SERVER_PORT", port)]),
            (400, "invalid SERVER_PORT")
        );
    }
}

#[test]
fn https_is_told_in_several_ways() {
    let https = |name, value| aside(&[(name, value)]).https;
    assert!(https("HTTPS", "on"));
    assert!(https("HTTPS", "1"));
    assert!(https("HTTPS", "TRUE"));
    assert!(https("REQUEST_SCHEME", "https"));
    assert!(https("UWSGI_SCHEME", "HTTPS"));
    assert!(!https("HTTPS", "off"));
    assert!(!https("HTTPS", ""));
    assert!(!https("REQUEST_SCHEME", "http"));
    // Where TLS ends before the front end, its scheme is not the client's.
    assert!(aside(&[("HTTPS", "on"), ("REQUEST_SCHEME", "http")]).https);
}

#[test]
fn the_version_is_the_clients() {
    let version = |protocol| aside(&[("SERVER_PROTOCOL", protocol)]).version;
    assert_eq!(version("HTTP/1.0"), Version::HTTP_10);
    assert_eq!(version("HTTP/1.1"), Version::HTTP_11);
    assert_eq!(version("HTTP/2.0"), Version::HTTP_11);
    assert_eq!(version("HTTP/3.0"), Version::HTTP_11);
    for protocol in ["HTTP/1.2", "http/1.1", "1.1"] {
        assert_eq!(
            refusal(&[("SERVER_PROTOCOL", protocol)]),
            (400, "invalid SERVER_PROTOCOL")
        );
    }
}

#[test]
fn what_belongs_to_the_clients_connection_is_withheld_from_ours() {
    let variables = [
        ("REQUEST_METHOD", "GET"),
        ("HTTP_CONNECTION", "close, x"),
        ("HTTP_EXPECT", "100-continue"),
        ("HTTP_UPGRADE", "h2c"),
    ];
    assert_eq!(head(&variables), "GET / HTTP/1.1\r\nhost: \r\n\r\n");
    let aside = request(&variables).expect("a request").aside;
    assert!(aside.hostless);
    let withheld: Vec<_> = aside
        .withheld
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    let expected: [(_, &[u8]); 3] = [
        ("connection", b"close, x"),
        ("upgrade", b"h2c"),
        ("expect", b"100-continue"),
    ];
    assert_eq!(withheld, expected);
}

#[test]
fn a_request_to_leave_http_is_passed_on_but_for_http_2() {
    let asks = |upgrade, length| {
        let head = head(&[
            ("REQUEST_METHOD", "GET"),
            ("HTTP_CONNECTION", "keep-alive, Upgrade"),
            ("HTTP_UPGRADE", upgrade),
            ("CONTENT_LENGTH", length),
        ]);
        head.contains("connection: keep-alive, Upgrade\r\nupgrade: ")
    };
    assert!(asks("websocket", ""));
    assert!(asks("websocket", "0"));
    assert!(!asks("websocket", "1"));
    assert!(!asks("h2c", ""));
}

#[test]
fn the_connection_is_kept_for_those_who_say_so() {
    let keeps = |connection, software| {
        let variables = [
            ("HTTP_CONNECTION", connection),
            ("SERVER_SOFTWARE", software),
        ];
        aside(&variables).keep
    };
    assert!(keeps("keep-alive", "nginx/1.22.1"));
    assert!(keeps("Keep-Alive, TE", ""));
    assert!(!keeps("", "nginx/1.22.1"));
    assert!(!keeps("close", "nginx/1.22.1"));
    assert!(!keeps("keep-alive, close", "nginx/1.22.1"));
    assert!(!keeps("keep-alive", "Apache/2.4.66 (Unix)"));
}

#[test]
fn the_app_gets_the_variables_that_made_no_part_of_the_request() {
    let gateway = aside(&[
        ("REQUEST_URI", "/app/x"),
        ("PATH_INFO", "/x"),
        ("SCRIPT_NAME", "/app"),
        ("DOCUMENT_ROOT", "/srv"),
        ("MY_SETTING", "\u{e9}"),
        ("SERVER_NAME", "example.org"),
        ("SERVER_PORT", "8443"),
        ("HTTP_ACCEPT", "*/*"),
        ("wsgi.input", "mine"),
        ("wsgi.url_scheme", "https"),
    ])
    .gateway;
    let names: Vec<_> = gateway.variables().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "REQUEST_URI",
            "DOCUMENT_ROOT",
            "MY_SETTING",
            "SERVER_NAME",
            "SERVER_PORT"
        ]
    );
    assert_eq!(gateway.variable("MY_SETTING"), Some("\u{e9}".as_bytes()));
    assert_eq!(gateway.script_name(), b"/app");
    assert_eq!(gateway.server_name(), b"example.org");
    assert_eq!(gateway.server_port(), Some(8443));
}

#[test]
fn the_root_has_no_name() {
    assert!(
        aside(&[("SCRIPT_NAME", "/")])
            .gateway
            .script_name()
            .is_empty()
    );
    assert_eq!(
        refusal(&[("SCRIPT_NAME", "app")]),
        (400, "SCRIPT_NAME does not begin with a slash")
    );
}

/// Found by the fuzzer: such a variable became a line of the head, and decided where the body ends.
#[test]
fn how_a_body_is_delimited_is_not_told_by_a_variable_in_other_letters() {
    for name in ["HTTP_TRAnSFER_ENCODING", "HTTP_TRANSFER-ENCODING"] {
        let told = (411, "Transfer-Encoding without CONTENT_LENGTH");
        assert_eq!(refusal(&[(name, "chunked")]), told, "{name}");
    }
    let head = head(&[
        ("REQUEST_METHOD", "POST"),
        ("CONTENT_LENGTH", "5"),
        ("HTTP_HOST", "x"),
        ("HTTP_Transfer-Encoding", "chunked"),
        ("HTTP_content_length", "7"),
        ("HTTP_Te", "trailers"),
        ("HTTP_expect", "100-continue"),
        ("HTTP_X-other", "kept"),
    ]);
    assert_eq!(
        head,
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nx-other: kept\r\n\r\n"
    );
}
