use super::super::file;
use super::*;

fn read(text: &str) -> Result<Bind, String> {
    text.parse()
}

fn shown(text: &str) -> String {
    read(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .to_string()
}

fn refused(text: &str) -> String {
    match read(text) {
        Ok(bind) => panic!("{text} is {bind}"),
        Err(error) => error,
    }
}

/// The one listener of a file.
fn table(text: &str) -> Result<Bind, String> {
    let mut entries = file::parse(text, "test").unwrap();
    if let Item::List(mut items) = entries.remove(0).item
        && let Item::Table(table) = items.remove(0)
    {
        return Bind::of_table(&table);
    }
    panic!("{text} has no table");
}

#[test]
fn plain_binds_are_read_as_gunicorn_reads_them() {
    for (text, address) in [
        ("localhost", "localhost:8000"),
        ("0.0.0.0:80", "0.0.0.0:80"),
        (":80", "0.0.0.0:80"),
        ("", "0.0.0.0:8000"),
        ("Example.ORG:0", "example.org:0"),
        ("tcp://[::1]:80", "[::1]:80"),
        ("tcp://here", "here:8000"),
        ("tcp://unix:80", "tcp://unix:80"),
        ("[::]", "[::]:8000"),
        ("http:80", "http:80"),
        ("uwsgi:3031", "uwsgi:3031"),
        ("unix:/run/a.sock", "unix:/run/a.sock"),
        ("unix:///run/a.sock", "unix:/run/a.sock"),
        ("unix:a.sock", "unix:a.sock"),
        ("unix:/run/a?b=c%20d", "unix:/run/a?b=c%20d"),
        ("unix:@name", "unix:@name"),
        ("fd://3", "fd://3"),
    ] {
        let bind = read(text).unwrap();
        assert_eq!(bind, Bind::plain(bind.address.clone()), "{text}");
        assert_eq!(bind.to_string(), address, "{text}");
        assert_eq!(read(address), Ok(bind));
    }
    let address = |text| read(text).unwrap().address;
    assert_eq!(address("unix:@a"), Address::Abstract(b"a".to_vec()));
    assert_eq!(address("fd://7"), Address::Fd(7));
}

#[test]
fn with_a_scheme_a_bind_says_what_it_speaks() {
    let tls = TlsOptions {
        certs: vec!["a.pem".into(), "b.pem".into()],
        keys: vec!["a.key".into(), "b.key".into()],
        client_ca: Some("ca.pem".into()),
        client_cert: Some(ClientCert::Optional),
        min_version: Some(TlsVersion::V13),
    };
    let bind = read("https://[::]:8443?cert=a.pem&key=a.key&cert=b.pem&key=b.key&client-ca=ca.pem&client-cert=optional&min-version=1.3").unwrap();
    assert_eq!(
        (bind.speaks, bind.tls),
        (Some(Speaks::Http), Some(tls.clone()))
    );
    assert_eq!(tls.pairs().count(), 2);
    let bind = read("http://:80").unwrap();
    assert_eq!((bind.speaks, bind.tls), (Some(Speaks::Http), None));
    let bind = read("https://:443").unwrap();
    assert_eq!(bind.tls, Some(TlsOptions::default()));
    let bind = read("uwsgi:unix:/run/a.sock?proxy=v2").unwrap();
    assert_eq!(bind.address, Address::Unix("/run/a.sock".into()));
    assert_eq!(
        (bind.speaks, bind.proxy),
        (Some(Speaks::Uwsgi), Some(ProxyProtocol::V2))
    );
    let bind = read("tcp://127.0.0.1:9000=pkg.rpc:handle").unwrap();
    assert_eq!(bind.speaks, Some(Speaks::Tcp("pkg.rpc:handle".to_owned())));
    let bind = read("tcp:unix:/run/a=b.sock=rpc?cert=a&key=b").unwrap();
    assert_eq!(bind.address, Address::Unix("/run/a=b.sock".into()));
    assert!(bind.tls.is_some());
}

#[test]
fn what_is_written_is_read_again() {
    for text in [
        "http://0.0.0.0:80",
        "https://[::]:443?cert=a&key=b",
        "https://[::]:443?cert=a&cert=c&key=b&key=d&client-ca=x&client-cert=required&proxy=auto",
        "https:unix:/a%20b?cert=a%26b%2Cc&key=%25",
        "https:unix:/a%3Fb",
        "uwsgi:unix:@name",
        "uwsgi:fd://3?proxy=off",
        "tcp://127.0.0.1:9000=rpc?proxy=v1",
        "tcp:unix:/run/a%3Db=rpc",
        "tcp:fd://4=a.b:c",
    ] {
        assert_eq!(shown(text), text);
    }
    for (text, written) in [
        ("uwsgi://unix:/run/a", "uwsgi:unix:/run/a"),
        ("http://fd://3", "http:fd://3"),
        ("https://:1?key=b&cert=a", "https://0.0.0.0:1?cert=a&key=b"),
        ("http://:1?proxy=TRUE", "http://0.0.0.0:1?proxy=auto"),
    ] {
        assert_eq!(shown(text), written);
    }
}

#[test]
fn binds_that_lead_nowhere_are_refused() {
    for text in [
        "host:port",
        "host:65536",
        "host:-1",
        "host:",
        "::1",
        "[::1",
        "[::1]80",
        "[no]:80",
        "a b",
        "ftp://x:1",
        "http://x:1/path",
        "unix:",
        "unix://",
        "unix:@",
        "uwsgi:unix:",
        "fd://",
        "fd://-1",
        "fd://x",
    ] {
        refused(text);
    }
    let longest = format!("unix:/{}", "a".repeat(106));
    assert!(read(&longest).is_ok());
    assert!(refused(&format!("{longest}a")).contains("107"));
    assert!(refused(&format!("https:{longest}a")).contains("107"));
}

#[test]
fn a_mistake_says_what_is_meant() {
    for (text, said) in [
        ("http://here", "names no port: write http://here:PORT"),
        ("https://[::1]", "names no port: write https://[::1]:PORT"),
        (
            "https://:1?crt=a",
            "\"crt\" is no option of a bind; did you mean cert?",
        ),
        (
            "http://:1?zzz=1",
            "\"zzz\" is no option of a bind; there are cert, key, client-ca, client-cert, min-version, proxy",
        ),
        (
            "https://:1?cert=a&cert=c&key=b",
            "has a cert without its key",
        ),
        ("https://:1?key=a", "has a key without its cert"),
        (
            "http://:1?cert=a&key=b",
            "cert is an option of https://, not of http://",
        ),
        (
            "uwsgi://:1?client-ca=a",
            "has options of TLS without a cert and a key",
        ),
        (
            "http://:1?proxy=v3",
            "proxy must be one of off, v1, v2, auto",
        ),
        ("http://:1?proxy=v1&proxy=v2", "has proxy twice"),
        ("http://:1?proxy=", "proxy must have a value"),
        (
            "http://:1?proxy",
            "has \"proxy\" among its options, which are KEY=VALUE",
        ),
        (
            "https://:1?cert=%ff&key=a",
            "\"%ff\" is not UTF-8 behind its %",
        ),
        ("tcp://:1?proxy=v1", NO_SERVICE),
        ("tcp:unix:/a", NO_SERVICE),
        ("tcp://:1=", "\"\" is no service's name"),
        (
            "htps://:1",
            "\"htps\" is no scheme; there are http, https, uwsgi, tcp; did you mean https?",
        ),
        (
            "udp://:1",
            "\"udp\" is no scheme; there are http, https, uwsgi, tcp",
        ),
        (
            "wss://:1",
            "\"wss\" is no scheme; there are http, https, uwsgi, tcp; WebSockets come by http:// and https://",
        ),
        (
            "uwsgi:/run/a.sock",
            "has no address behind its scheme: write uwsgi://HOST:PORT or uwsgi:unix:PATH",
        ),
        (
            "tcp:9000=rpc",
            "has no address behind its scheme: write tcp://HOST:PORT or tcp:unix:PATH",
        ),
        (
            "unix:/a?proxy=v1",
            "has options, which need a scheme: http:unix:/a?proxy=v1",
        ),
        (
            "127.0.0.1:1?proxy=v1",
            "\"1?proxy=v1\" is no port; it is a number from 0 to 65535; options and services need a scheme, such as http://HOST:PORT?KEY=VALUE or tcp://HOST:PORT=SERVICE",
        ),
    ] {
        assert_eq!(refused(text), said, "{text}");
    }
}

#[test]
fn tables_have_the_same_keys() {
    for (text, bind) in [
        ("address = \"unix:/a\"", "unix:/a"),
        ("address = \":1\"\nprotocol = \"http\"", "http://0.0.0.0:1"),
        (
            "address = \":1\"\nproxy = true",
            "http://0.0.0.0:1?proxy=auto",
        ),
        (
            "address = \":1\"\ncert = \"a\"\nkey = \"b\"",
            "https://0.0.0.0:1?cert=a&key=b",
        ),
        (
            "address = \":1\"\ncert = [\"a\", \"c\"]\nkey = [\"b\", \"d\"]\nclient-cert = 2",
            "https://0.0.0.0:1?cert=a&cert=c&key=b&key=d&client-cert=required",
        ),
        (
            "address = \"fd://3\"\nprotocol = \"uwsgi\"\nproxy = \"v2\"",
            "uwsgi:fd://3?proxy=v2",
        ),
        ("address = \":1\"\nservice = \"rpc\"", "tcp://0.0.0.0:1=rpc"),
    ] {
        let read = table(&format!("[[bind]]\n{text}\n"));
        assert_eq!(read.map(|bind| bind.to_string()), Ok(bind.to_owned()));
    }
    for (text, said) in [
        ("proxy = 1", "must have an address in each of its tables"),
        (
            "adress = \":1\"",
            "\"adress\" is no option of a bind; did you mean address?",
        ),
        (
            "address = \"https://:1\"",
            "\"https://:1\": is more than an address: in a table \"https\" is the protocol, and each option a key",
        ),
        (
            "address = \"here:x\"",
            "\"here:x\": \"x\" is no port; it is a number from 0 to 65535",
        ),
        (
            "address = \":1\"\nprotocol = \"htp\"",
            "\":1\": protocol must be one of http, https, uwsgi, tcp; did you mean http?",
        ),
        (
            "address = \":1\"\nprotocol = \"http\"\nservice = \"a\"",
            "\":1\": names a service, \"a\", which is for tcp://",
        ),
        (
            "address = \":1\"\nprotokol = \"http\"",
            "\":1\": \"protokol\" is no option of a bind; did you mean protocol?",
        ),
        (
            "address = \":1\"\nworkers = 2",
            "\":1\": \"workers\" is a setting for all binds: in the file it stands before the first [[bind]]",
        ),
        (
            "address = \":1\"\nproxy = [\"v1\"]",
            "\":1\": proxy must be a number or a string, not an array",
        ),
    ] {
        let read = table(&format!("[[bind]]\n{text}\n"));
        assert_eq!(read.unwrap_err(), said);
    }
}

#[test]
fn a_bind_without_words_of_its_own_takes_the_settings() {
    let config = Config {
        protocol: Protocol::Uwsgi,
        ..Config::default()
    };
    let url = |text: &str, config: &Config, address: &str| {
        read(text).unwrap().spoken(config).url(address)
    };
    let (tcp, unix) = ("127.0.0.1:80", "unix:/a");
    assert_eq!(url(":1", &config, tcp), "uwsgi://127.0.0.1:80");
    assert_eq!(url(":1", &config, unix), "uwsgi:unix:/a");
    assert_eq!(url("http://:1", &config, tcp), "http://127.0.0.1:80");
    let config = Config::default();
    assert_eq!(url("tcp://:1", &config, tcp), "http://127.0.0.1:80");
    assert_eq!(url("unix:/a", &config, unix), "unix:/a");
    assert_eq!(url("https:unix:/a", &config, unix), "https:unix:/a");
    assert_eq!(url("tcp://:1=rpc", &config, tcp), "tcp://127.0.0.1:80=rpc");
}
