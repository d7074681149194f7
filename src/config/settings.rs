//! Every setting, declared once.

use std::path::PathBuf;
use std::time::Duration;

use super::address::Address;
use super::bind::{Bind, ClientCert, Protocol, ProxyProtocol};
use super::compress::Algorithms;
use super::declare::{Reload, Setting, settings};
use super::kind::{
    Account, App, Bytes, Code, File, HeaderName, Kind, Log, Mask, Mode, Seconds, Switch, Text,
    Unless, UrlPath, Whole, Word, Workers,
};
use super::list::{Listening, Many, Maybe, Networks, Pairs};
use super::mount::Mounted;
use super::tls::{CipherList, TlsVersion, TlsWatch};
use super::value::{
    Algorithm, AllowList, AppPath, AsgiLifespan, AsgiLoop, HeaderMapping, Http2Cleartext,
    HttpProtocol, LogLevel, LogTarget, ReloadEngine, ReloadStrategy, WebsocketCompression,
    WorkerClass, WorkerRange,
};

/// Gunicorn's format of the access log.
const ACCESS_LOG_FORMAT: &str =
    r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

settings! {
    section "App" {
        /// The app: MODULE, MODULE:CALLABLE, MODULE:FACTORY(ARGUMENTS), builtin:hello, builtin:echo or builtin:static:DIRECTORY.
        ///
        /// MODULE is a dotted Python name; without a CALLABLE, `application` is looked for, then `app`. On the
        /// command line it is the argument without a flag.
        wsgi_app: Option<AppPath> as Maybe<App> = None,
            [] APP, on_reload NewWorkers;

        /// Change to this directory before the app is loaded; modules are looked for here.
        ///
        /// Relative names of logs, pid files and sockets are taken from here, too.
        chdir: Option<PathBuf> as Maybe<File> = None,
            ["--chdir"] DIRECTORY, on_reload NewWorkers;

        /// Directories that Python looks for modules in, before its own.
        pythonpath: Vec<PathBuf> as Many<File> = Vec::new(),
            ["--pythonpath"] DIRECTORIES, on_reload NewWorkers;

        /// Environment variables for the app, as NAME=VALUE.
        raw_env: Vec<(String, String)> as Pairs<Text> = Vec::new(),
            ["-e", "--env"] NAME_VALUE, on_reload NewWorkers;
    }

    section "Listening" {
        /// Where to listen: HOST, HOST:PORT, `[IPV6]:PORT`, unix:PATH, unix:@ABSTRACT or `fd://N`; may be repeated.
        ///
        /// Port 0 lets the kernel choose. Without it: 127.0.0.1:8000, or 0.0.0.0:`$PORT` where PORT is set.
        ///
        /// Each may say what it speaks, whatever the settings for all say: `http://HOST:PORT`, `https://HOST:PORT`,
        /// `uwsgi://HOST:PORT`, `tcp://HOST:PORT=SERVICE`, and before other addresses `uwsgi:unix:PATH` or `https:fd://N`. Options
        /// follow as `?KEY=VALUE&KEY=VALUE`, their special characters as %XX: cert, key, client-ca, client-cert (none, optional,
        /// required), min-version (1.2, 1.3), proxy (off, v1, v2, auto). In the file the same may be a `[[bind]]` table: address, protocol, service
        /// and the options.
        bind: Vec<Bind> as Many<Listening> = vec![Bind::plain(Address::Tcp { host: "127.0.0.1".to_owned(), port: 8000 })],
            ["-b", "--bind"] ADDRESS, on_reload Rebind;

        /// What is spoken where a bind does not say it: http or uwsgi.
        protocol: Protocol as Word<Protocol> = Protocol::Http,
            ["--protocol"] PROTOCOL, on_reload NewWorkers;

        /// Connections the kernel queues for each listener until a worker accepts them.
        ///
        /// The kernel caps it at `net.core.somaxconn`.
        backlog: u32 as Whole<u32, 1, 2_147_483_647> = 2048,
            ["--backlog"] COUNT, on_reload Rebind;

        /// A listening socket for each worker (`SO_REUSEPORT`), so that the kernel spreads connections by hash.
        ///
        /// The master makes and keeps them all: no queue is lost when a worker ends.
        reuse_port: bool as Switch = false,
            ["--reuse-port"] BOOL, on_reload Rebind;
    }

    section "Workers" {
        /// How many worker processes; `auto` is two for each CPU and one more. MIN..MAX lets the number follow the load.
        ///
        /// Without it: `$WEB_CONCURRENCY`, or 1. The signals TTIN and TTOU add and take one. With MIN..MAX there are MIN at
        /// the start, soon more while they are busy, and slowly fewer when they are not; TTIN and TTOU shift both ends.
        workers: WorkerRange as Workers = WorkerRange::fixed(1),
            ["-w", "--workers"] COUNT, on_reload Live;

        /// How a worker runs a Python app: auto, sync, gevent, gthread or asgi.
        ///
        /// sync serves one request at a time, gevent each in a greenlet, gthread each in a thread, asgi serves ASGI apps.
        /// auto takes asgi for an ASGI app; for a WSGI app gthread where `threads` is more than 1, else gevent where Python
        /// can import it, else sync. Class names of Gunicorn and uvicorn are understood.
        worker_class: WorkerClass as Word<WorkerClass> = WorkerClass::Auto,
            ["-k", "--worker-class"] CLASS, on_reload NewWorkers;

        /// The most connections one worker holds open at a time; past it the kernel's backlog queues.
        worker_connections: usize as Whole<usize, 1, 1_000_000> = 1000,
            ["--worker-connections"] COUNT, on_reload NewWorkers;

        /// How long nobody of those who wait at `worker_connections` may get a place, until they are answered with 503; 0 is
        /// for ever.
        ///
        /// Before, connections that serve nobody are closed to make room: those idle between requests, those that have sent
        /// nothing for a second, half a head or half a body (408). With 0 none is closed for it either.
        overload_timeout: Duration as Seconds = seconds(3),
            ["--overload-timeout"] SECONDS, on_reload NewWorkers;

        /// Threads that a gthread worker has from its start. More than 1 makes gthread of sync, and of auto for a WSGI app.
        threads: usize as Whole<usize, 1, 10_000> = 1,
            ["--threads"] COUNT, on_reload NewWorkers;

        /// Threads that a gthread worker may have; beyond `threads` they are started while requests wait. 0 is no more than
        /// `threads`.
        max_threads: usize as Whole<usize, 0, 10_000> = 0,
            ["--max-threads"] COUNT, on_reload NewWorkers;

        /// Load the app in the master, before the workers are forked: they share its memory. HUP takes no new code then.
        preload_app: bool as Switch = false,
            ["--preload"] BOOL, on_reload Restart;

        /// A worker is replaced after this many requests; 0 is never.
        max_requests: u64 as Whole<u64, 0, { u64::MAX }> = 0,
            ["--max-requests"] COUNT, on_reload NewWorkers;

        /// At most this many requests are added to `max_requests`, at random, so that workers are not replaced together.
        max_requests_jitter: u64 as Whole<u64, 0, { u64::MAX }> = 0,
            ["--max-requests-jitter"] COUNT, on_reload NewWorkers;

        /// A worker older than this is replaced; 0 is never.
        ///
        /// Its successor is ready before it leaves, and one worker is replaced at a time: also by `max_requests` and
        /// `max_worker_memory`.
        max_worker_age: Duration as Seconds = seconds(0),
            ["--max-worker-age"] SECONDS, on_reload Live;

        /// A worker that holds more memory (resident, in bytes) is replaced; 0 is never.
        max_worker_memory: u64 as Bytes<u64, { u64::MAX }> = 0,
            ["--max-worker-memory"] BYTES, on_reload Live;

        /// How HUP replaces the workers: all-at-once or rolling.
        ///
        /// all-at-once starts all new workers beside the old ones, which leave once all of those are ready: memory for twice
        /// as many. rolling replaces `reload_batch` workers at a time. Either way a new worker that does not boot ends the
        /// reload, and the old code goes on.
        reload_strategy: ReloadStrategy as Word<ReloadStrategy> = ReloadStrategy::AllAtOnce,
            ["--reload-strategy"] HOW, on_reload Live;

        /// How many workers a rolling reload starts beside the old ones.
        reload_batch: usize as Whole<usize, 1, 65_535> = 1,
            ["--reload-batch"] COUNT, on_reload Live;

        /// Where the workers' heartbeat files are made; without it /dev/shm or another tmpfs, else the system's.
        worker_tmp_dir: Option<PathBuf> as Maybe<File> = None,
            ["--worker-tmp-dir"] DIRECTORY, on_reload NewWorkers;
    }

    section "Timeouts" {
        /// A worker that is silent for so long is killed and replaced; 0 is never.
        ///
        /// A worker is silent while its app does not let go of it: a sync app's longest request must be shorter.
        timeout: Duration as Seconds = seconds(30),
            ["-t", "--timeout"] SECONDS, on_reload NewWorkers;

        /// How long a worker may take from its start until it serves; 0 is as long as `timeout`.
        ///
        /// A worker that is not ready by then is ended: with a reload under way, that is given up.
        boot_timeout: Duration as Seconds = seconds(0),
            ["--boot-timeout"] SECONDS, on_reload NewWorkers;

        /// How long requests may take to finish when a worker is asked to stop or is replaced.
        graceful_timeout: Duration as Seconds = seconds(30),
            ["--graceful-timeout"] SECONDS, on_reload NewWorkers;

        /// For so long after TERM the server goes on accepting, while answers say `Connection: close` and `readiness_path`
        /// answers 503: the time that a load balancer needs to send new requests elsewhere. 0 is none.
        ///
        /// A second TERM ends it early.
        drain_delay: Duration as Seconds = seconds(0),
            ["--drain-delay"] SECONDS, on_reload Live;

        /// The path at which the server itself answers, without the app: 200 while it serves, 503 from TERM on.
        ///
        /// For a load balancer's or an orchestrator's question whether to send requests here. GET and HEAD of exactly
        /// this path, whatever the query; without it every request is the app's.
        readiness_path: Option<String> as Maybe<UrlPath> = None,
            ["--readiness-path"] PATH, on_reload NewWorkers;

        /// How long a connection may idle between two requests; 0 closes it after each.
        keepalive: Duration as Seconds = seconds(2),
            ["--keep-alive"] SECONDS, on_reload NewWorkers;

        /// How long a request's head may take from its first byte to its end; 0 is no limit.
        header_timeout: Duration as Seconds = seconds(10),
            ["--header-timeout"] SECONDS, on_reload NewWorkers;

        /// How long a request's body may be slow until `min_rate` counts; 0 is no limit.
        body_timeout: Duration as Seconds = seconds(30),
            ["--body-timeout"] SECONDS, on_reload NewWorkers;

        /// How long a client may be slow to read a response until `min_rate` counts; 0 is no limit.
        write_timeout: Duration as Seconds = seconds(30),
            ["--write-timeout"] SECONDS, on_reload NewWorkers;

        /// Bytes a second below which a body or response past its timeout is cut; 0 is none.
        min_rate: u64 as Bytes<u64, { u64::MAX }> = 240,
            ["--min-rate"] BYTES, on_reload NewWorkers;
    }

    section "TLS" {
        /// The certificate chain, in PEM, by which all plain binds are HTTPS: the server's own certificate first.
        ///
        /// Without `keyfile` the key is in the same file. A bind may have its own instead:
        /// `https://HOST:PORT?cert=FILE&key=FILE`, where several are chosen from by the name that a client asks for.
        certfile: Option<PathBuf> as Maybe<File> = None,
            ["--certfile"] FILE, on_reload NewWorkers;

        /// The private key of `certfile`, in PEM, not encrypted. It is read by the master, before privileges are dropped.
        keyfile: Option<PathBuf> as Maybe<File> = None,
            ["--keyfile"] FILE, on_reload NewWorkers;

        /// The certificates of the authorities, in PEM, that client certificates are checked by.
        ca_certs: Option<PathBuf> as Maybe<File> = None,
            ["--ca-certs"] FILE, on_reload NewWorkers;

        /// Whether clients need a certificate: none (0), optional (1) or required (2). With 1 and 2 `ca_certs` must be there.
        cert_reqs: ClientCert as Code<ClientCert> = ClientCert::Off,
            ["--cert-reqs"] HOW, on_reload NewWorkers;

        /// The oldest TLS that is spoken, 1.2 or 1.3; of all listeners that do not say so themselves (`min-version`).
        tls_min_version: TlsVersion as Code<TlsVersion> = TlsVersion::V12,
            ["--tls-min-version"] VERSION, on_reload NewWorkers;

        /// The cipher suites of TLS 1.2, as OpenSSL lists them; without it all that have forward secrecy and authenticate.
        ///
        /// Others cannot be had, and those of TLS 1.3 are all there.
        ciphers: Option<CipherList> as Maybe<Word<CipherList>> = None,
            ["--ciphers"] LIST, on_reload NewWorkers;

        /// Whether an end of a connection without TLS's own end is taken for an end; else for an error.
        suppress_ragged_eofs: bool as Switch = true,
            ["--suppress-ragged-eofs"] BOOL, on_reload NewWorkers;

        /// Whether files of TLS that change are taken for new handshakes: on, or off, where HUP takes them.
        ///
        /// Where they are not right the old ones stay, and the log tells why. No worker is replaced for it.
        tls_watch: TlsWatch as Word<TlsWatch> = TlsWatch::On,
            ["--tls-watch"] HOW, on_reload Live;

        /// How long a TLS handshake may take, from the connection on; 0 is no limit.
        tls_handshake_timeout: Duration as Seconds = seconds(10),
            ["--tls-handshake-timeout"] SECONDS, on_reload NewWorkers;

        /// How many TLS handshakes may be under way in a worker; more wait, and those that are stuck for a second make room.
        tls_handshakes: usize as Whole<usize, 1, 1_000_000> = 256,
            ["--tls-handshakes"] COUNT, on_reload NewWorkers;

        /// How long a TLS session can be resumed, at least, by any worker, also after a reload; 0 is never.
        ///
        /// Tickets hold it, whose keys are replaced twice in this time.
        tls_session_lifetime: Duration as Seconds = seconds(12 * 3600),
            ["--tls-session-lifetime"] SECONDS, on_reload NewWorkers;
    }

    section "Limits of a request" {
        /// The longest request line, in bytes: 414 above; 0 is no limit.
        limit_request_line: usize as Bytes<usize, 8190> = 4094,
            ["--limit-request-line"] BYTES, on_reload NewWorkers;

        /// The most header fields: 431 above.
        limit_request_fields: usize as Whole<usize, 1, 32768> = 100,
            ["--limit-request-fields"] COUNT, on_reload NewWorkers;

        /// The longest header field, name and value, in bytes: 431 above; 0 is no limit.
        limit_request_field_size: usize as Bytes<usize, 1_073_741_824> = 8190,
            ["--limit-request-field_size", "--limit-request-field-size"] BYTES, on_reload NewWorkers;

        /// The longest request body, in bytes: 413 above; 0 is no limit.
        limit_request_body: u64 as Bytes<u64, { u64::MAX }> = 1 << 30,
            ["--limit-request-body"] BYTES, on_reload NewWorkers;

        /// Where request bodies go that are too long for memory; without it the system's directory for such files.
        tmp_upload_dir: Option<PathBuf> as Maybe<File> = None,
            ["--tmp-upload-dir"] DIRECTORY, on_reload NewWorkers;
    }

    section "ASGI and WebSocket" {
        /// The event loop of an ASGI app: auto, asyncio or uvloop; auto takes uvloop where Python can import it.
        asgi_loop: AsgiLoop as Word<AsgiLoop> = AsgiLoop::Auto,
            ["--asgi-loop"] LOOP, on_reload NewWorkers;

        /// Whether an ASGI app is told of the worker's start and end: auto where it supports that, on, or off.
        asgi_lifespan: AsgiLifespan as Word<AsgiLifespan> = AsgiLifespan::Auto,
            ["--asgi-lifespan"] HOW, on_reload NewWorkers;

        /// How long an ASGI app may go on with a request whose client has left, until its task is cancelled; 0 is at once.
        asgi_disconnect_grace_period: Duration as Seconds = seconds(3),
            ["--asgi-disconnect-grace-period"] SECONDS, on_reload NewWorkers;

        /// The path an ASGI app is mounted at (`root_path`); without it `$SCRIPT_NAME`, or none.
        root_path: String as Text = String::new(),
            ["--root-path"] PATH, on_reload NewWorkers;

        /// The longest WebSocket message, in bytes, after decompression: it is closed with 1009 above.
        websocket_max_message_size: u64 as Bytes<u64, { u64::MAX }> = 16 << 20,
            ["--websocket-max-message-size"] BYTES, on_reload NewWorkers;

        /// How often a WebSocket client is pinged; 0 is never.
        websocket_ping_interval: Duration as Seconds = seconds(20),
            ["--websocket-ping-interval"] SECONDS, on_reload NewWorkers;

        /// How long a client may take to give a sign of life after a ping, before it is cut; 0 is for ever.
        websocket_ping_timeout: Duration as Seconds = seconds(20),
            ["--websocket-ping-timeout"] SECONDS, on_reload NewWorkers;

        /// Whether WebSocket messages are compressed (permessage-deflate): on, where the client can, or off.
        websocket_compression: WebsocketCompression as Word<WebsocketCompression> = WebsocketCompression::On,
            ["--websocket-compression"] HOW, on_reload NewWorkers;
    }

    section "Files and compression" {
        /// Directories that the server serves itself, without the app, as PREFIX=DIRECTORY; may be repeated.
        ///
        /// `/assets=./public` answers GET and HEAD of all below `/assets/` with the files below `public`: ranges, conditions,
        /// `index.html`, and `NAME.br`, `NAME.zst` and `NAME.gz` beside a file for clients that take them. What is not there is 404,
        /// and so are names that begin with a dot, but for `.well-known`.
        r#static: Vec<(String, PathBuf)> as Mounted = Vec::new(),
            ["--static"] PREFIX_DIRECTORY, on_reload NewWorkers;

        /// Static files may be symbolic links that lead out of their directory; without it such links are 404.
        static_follow_symlinks: bool as Switch = false,
            ["--static-follow-symlinks"] BOOL, on_reload NewWorkers;

        /// Files are sent by the kernel (`sendfile(2)`), without a copy through the server: those of `static` and of the app.
        ///
        /// The flag switches it off; so does `$SENDFILE`, as in Gunicorn. Files of up to 64 KiB are always copied, which costs less.
        sendfile: bool as Unless = true,
            ["--no-sendfile"] BOOL, on_reload NewWorkers;

        /// Responses with an `X-Sendfile` header are files of this directory; without it the header is like any other.
        ///
        /// The header's value is a path, escaped as in a URL, below this directory or from it. The server sends the
        /// file in the place of the response's body, with ranges and conditions, and with the response's other headers.
        sendfile_root: Option<PathBuf> as Maybe<File> = None,
            ["--sendfile-root"] DIRECTORY, on_reload NewWorkers;

        /// Compress responses: on, off, or which of br, zstd and gzip, comma separated.
        ///
        /// Where the client takes it; never what is encoded already, part of a file, an image, an event stream, or marked
        /// `Cache-Control: no-transform`. It costs the worker's time: precompressed files cost none.
        compress: Vec<Algorithm> as Algorithms = Vec::new(),
            ["--compress"] ALGORITHMS, on_reload NewWorkers;

        /// Responses that are known to be shorter are not compressed.
        compress_min_size: u64 as Bytes<u64, { u64::MAX }> = 1024,
            ["--compress-min-size"] BYTES, on_reload NewWorkers;
    }

    section "Development" {
        /// Reload when the app's code changes on disk.
        reload: bool as Switch = false,
            ["--reload"] BOOL, on_reload Restart;

        /// How changes are seen: auto, poll or inotify.
        reload_engine: ReloadEngine as Word<ReloadEngine> = ReloadEngine::Auto,
            ["--reload-engine"] ENGINE, on_reload Restart;

        /// More files, or patterns such as `templates/*.html`, whose change is one of the code.
        reload_extra_files: Vec<PathBuf> as Many<File> = Vec::new(),
            ["--reload-extra-file"] FILE, on_reload Restart;
    }

    section "Proxies" {
        /// Whether connections may begin with a PROXY header that tells the client's address: off, v1, v2, or auto for either.
        ///
        /// For binds that do not say it (`proxy`); without a MODE it is auto. The address becomes the request's peer; whether
        /// its forwarded headers are believed still goes by the proxy's own. What begins otherwise is served as it is, but
        /// connections of TCP services must have a header.
        proxy_protocol: ProxyProtocol as Mode<ProxyProtocol> = ProxyProtocol::Off,
            ["--proxy-protocol"] MODE, on_reload NewWorkers;

        /// Who may send PROXY headers: addresses and networks, comma separated; * is everybody.
        ///
        /// Peers of unix sockets always may. A header of somebody else ends the connection.
        proxy_allow_ips: AllowList as Networks = AllowList::localhost(),
            ["--proxy-allow-from", "--proxy-allow-ips"] NETWORKS, on_reload NewWorkers;

        /// Whose X-Forwarded-Proto and the like are believed: addresses and networks, comma separated; * is everybody.
        ///
        /// Peers of unix sockets always are. Without it: `$FORWARDED_ALLOW_IPS`, or this machine.
        forwarded_allow_ips: AllowList as Networks = AllowList::localhost(),
            ["--forwarded-allow-ips"] NETWORKS, on_reload NewWorkers;

        /// The headers, and their values, by which a trusted proxy says that its client used HTTPS.
        ///
        /// Headers that contradict each other are answered with 400.
        secure_scheme_headers: Vec<(String, String)> as Pairs<HeaderName> = pairs(&[
            ("X-FORWARDED-PROTOCOL", "ssl"),
            ("X-FORWARDED-PROTO", "https"),
            ("X-FORWARDED-SSL", "on"),
        ]),
            ["--secure-scheme-headers"] NAME_VALUE, on_reload NewWorkers;

        /// Headers with an underscore that a trusted proxy may set all the same.
        forwarder_headers: Vec<String> as Many<HeaderName> = words(&["SCRIPT_NAME", "PATH_INFO"]),
            ["--forwarder-headers"] NAMES, on_reload NewWorkers;

        /// What becomes of other headers with an underscore: drop, refuse (400) or dangerous (kept).
        header_map: HeaderMapping as Word<HeaderMapping> = HeaderMapping::Drop,
            ["--header-map"] HOW, on_reload NewWorkers;

        /// Who may speak uwsgi, where it is spoken: addresses and networks, comma separated; * is everybody. 403 for others.
        ///
        /// They are believed whatever they say of their clients. Peers of unix sockets always may.
        uwsgi_allow_ips: AllowList as Networks = AllowList::localhost(),
            ["--uwsgi-allow-from"] NETWORKS, on_reload NewWorkers;
    }

    section "HTTP/2" {
        /// The HTTP versions that are spoken: h1, h2, or both, the preferred first.
        ///
        /// A client with TLS chooses by ALPN; one that chooses nothing is served HTTP/1.1. Without TLS see `http2_cleartext`.
        http_protocols: Vec<HttpProtocol> as Many<Word<HttpProtocol>> = vec![HttpProtocol::Http1],
            ["--http-protocols"] PROTOCOLS, on_reload NewWorkers;

        /// How HTTP/2 may begin without TLS: off, prior-knowledge, upgrade or both.
        ///
        /// It needs h2 among `http_protocols`, and is for peers that `forwarded_allow_ips` trusts: a proxy that speaks HTTP/2.
        /// With prior-knowledge alone such a peer is answered 400 where it speaks HTTP/1.1. All others are served HTTP/1.1.
        http2_cleartext: Http2Cleartext as Word<Http2Cleartext> = Http2Cleartext::Off,
            ["--http2-cleartext"] HOW, on_reload NewWorkers;

        /// The most requests that one HTTP/2 connection has under way at a time.
        ///
        /// Each connection is one of `worker_connections`, whatever the number of its streams.
        http2_max_concurrent_streams: u32 as Whole<u32, 1, 2_147_483_647> = 100,
            ["--http2-max-concurrent-streams"] COUNT, on_reload NewWorkers;

        /// How many bytes of bodies a client may send before the app has read them: of each stream, and of all together.
        ///
        /// For all together it is never less than 65535.
        http2_initial_window_size: u32 as Whole<u32, 1, 2_147_483_647> = 65_535,
            ["--http2-initial-window-size"] BYTES, on_reload NewWorkers;

        /// The largest frame that a client may send, in bytes.
        http2_max_frame_size: u32 as Whole<u32, 16_384, 16_777_215> = 16_384,
            ["--http2-max-frame-size"] BYTES, on_reload NewWorkers;

        /// The most that the header fields of a request may come to, in bytes, with 32 more for each: 431 above; 0 is 16 MB.
        http2_max_header_list_size: u32 as Whole<u32, 0, 16_777_216> = 65_536,
            ["--http2-max-header-list-size"] BYTES, on_reload NewWorkers;
    }

    section "Logs" {
        /// The access log's file, - for standard output; without it there is none.
        accesslog: Option<LogTarget> as Maybe<Log> = None,
            ["--access-logfile"] FILE, on_reload NewWorkers;

        /// The access log's line, by Gunicorn's atoms.
        ///
        /// `%(h)s` peer, `%(l)s` -, `%(u)s` user, `%(t)s` time, `%(r)s` request line, `%(m)s` method, `%(U)s` path,
        /// `%(q)s` query, `%(H)s` protocol, `%(s)s` status, `%(B)s` and `%(b)s` length, `%(f)s` referrer, `%(a)s` user
        /// agent, `%(T)s` seconds, `%(M)s` milliseconds, `%(D)s` microseconds, `%(L)s` decimal seconds, `%(p)s` pid,
        /// `%({name}i)s` request header, `%({name}o)s` response header, `%({name}e)s` variable.
        access_log_format: String as Text = ACCESS_LOG_FORMAT.to_owned(),
            ["--access-logformat"] FORMAT, on_reload NewWorkers;

        /// The error log's file, - for standard error. USR1 opens it anew.
        errorlog: LogTarget as Log = LogTarget::Standard,
            ["--error-logfile", "--log-file"] FILE, on_reload NewWorkers;

        /// The least level that the error log is told: debug, info, warning, error or critical.
        loglevel: LogLevel as Word<LogLevel> = LogLevel::Info,
            ["--log-level"] LEVEL, on_reload NewWorkers;

        /// Standard output and standard error go to the error log's file.
        capture_output: bool as Switch = false,
            ["--capture-output"] BOOL, on_reload NewWorkers;
    }

    section "Logs of the app" {
        /// The file that configures Python's logging in each worker, before the app is loaded (`logging.config.fileConfig`).
        ///
        /// It is for the app's loggers: the server's own lines are not written by Python.
        logconfig: Option<PathBuf> as Maybe<File> = None,
            ["--log-config"] FILE, on_reload NewWorkers;

        /// The same from a JSON file (`logging.config.dictConfig`); it comes before `logconfig`.
        logconfig_json: Option<PathBuf> as Maybe<File> = None,
            ["--log-config-json"] FILE, on_reload NewWorkers;
    }

    section "Process" {
        /// Run in the background: detached from the terminal, in a session of its own.
        daemon: bool as Switch = false,
            ["-D", "--daemon"] BOOL, on_reload Restart;

        /// Standard output and standard error stay as they are in the background, unless they are a terminal.
        enable_stdio_inheritance: bool as Switch = false,
            ["-R", "--enable-stdio-inheritance"] BOOL, on_reload Restart;

        /// The file that gets the master's process id; it is removed at the end.
        pidfile: Option<PathBuf> as Maybe<File> = None,
            ["-p", "--pid"] FILE, on_reload Live;

        /// The user, by name or number, that the workers run as.
        user: Option<String> as Maybe<Account> = None,
            ["-u", "--user"] USER, on_reload NewWorkers;

        /// The group, by name or number, that the workers run as.
        group: Option<String> as Maybe<Account> = None,
            ["-g", "--group"] GROUP, on_reload NewWorkers;

        /// Give the workers the supplementary groups of their user.
        initgroups: bool as Switch = false,
            ["--initgroups"] BOOL, on_reload NewWorkers;

        /// The mask of the modes of files and unix sockets, octal as 0o27 or 027.
        umask: u32 as Mask = 0,
            ["-m", "--umask"] MASK, on_reload NewWorkers;

        /// The name that process lists show; without it the app's.
        proc_name: Option<String> as Maybe<Text> = None,
            ["-n", "--name"] NAME, on_reload NewWorkers;
    }

    section "Checks" {
        /// Check the configuration and load the app, then end: 0 where all is well.
        check_config: bool as Switch = false,
            ["--check-config"] BOOL, on_reload Restart;

        /// Print every setting with the place it comes from, then end.
        print_config: bool as Switch = false,
            ["--print-config"] BOOL, on_reload Restart;
    }
}
