//! Gunicorn's settings that are not here: recognised, so that the answer says why, or what to use.
//!
//! An existing command line or `gunicorn.conf.py` is to go on starting. So what is missing is only told, unless the service
//! would be broken, or open, without it; and a value that asks for nothing (Gunicorn's default, `None`, off) is not even told.

use super::raw::Item;

/// Whether a flag of Gunicorn's has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// No.
    Nothing,
    /// Always.
    Value,
}

/// What becomes of a setting that is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Whatever it says is so already.
    Obeyed,
    /// A note tells that it does nothing.
    Noted,
    /// To go on without it would be unsafe, or break the service: a mistake.
    Refused,
    /// A server hook: a Python file's functions are called, elsewhere it cannot be given.
    Hook,
}

/// A setting of Gunicorn's that is not here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Foreign {
    /// Gunicorn's name, the key of its configuration file.
    pub(crate) name: &'static str,
    /// Gunicorn's flags.
    pub(crate) flags: &'static [&'static str],
    /// Whether they have a value.
    pub(crate) takes: Takes,
    /// Gunicorn's default, as TOML; empty for `None`.
    pub(crate) default: &'static str,
    /// What becomes of another value.
    pub(crate) verdict: Verdict,
    /// The answer.
    pub(crate) answer: &'static str,
}

impl Foreign {
    /// What becomes of `value`.
    pub(crate) fn weigh(&self, value: &Item) -> Verdict {
        let word = word(value);
        let default = match self.default.trim_matches('"') {
            "" | "[]" | "{}" => "off",
            default => default,
        };
        // Where the default is on, off does ask for something.
        let asks_nothing = *value == Item::Nothing
            || word == default.to_ascii_lowercase()
            || (word == "off" && default != "true")
            || (word == "0" && default == "off");
        if asks_nothing {
            return Verdict::Obeyed;
        }
        self.verdict
    }
}

/// `value` as one lower-case word; `off` is what asks for nothing.
fn word(value: &Item) -> String {
    let word = match value {
        Item::Text(text) => text.trim().to_ascii_lowercase(),
        Item::Number(number) => number.clone(),
        Item::Bool(switch) => switch.to_string(),
        Item::List(items) => items.iter().map(word).collect::<Vec<_>>().join(","),
        Item::Table(pairs) => pairs
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
            .join(","),
        Item::Nothing => String::new(),
        Item::Other(what) => what.clone().into_owned(),
    };
    match word.as_str() {
        "" | "false" | "none" | "no" => "off".to_owned(),
        _ => word,
    }
}

/// Gunicorn's server hooks, and how many arguments each may have.
pub(crate) const HOOKS: &[(&str, &[usize])] = &[
    ("on_starting", &[1]),
    ("on_reload", &[1]),
    ("when_ready", &[1]),
    ("pre_fork", &[2]),
    ("post_fork", &[2]),
    ("post_worker_init", &[1]),
    ("worker_int", &[1]),
    ("worker_abort", &[1]),
    ("pre_exec", &[1]),
    ("pre_request", &[2]),
    ("post_request", &[2, 3, 4]),
    ("child_exit", &[2]),
    ("worker_exit", &[2]),
    ("nworkers_changed", &[3]),
    ("on_exit", &[1]),
];

/// Whether Gunicorn calls what stands at `name`.
pub(super) fn is_hook(name: &str) -> bool {
    name == "ssl_context" || HOOKS.iter().any(|(hook, _)| *hook == name)
}

const fn noted(
    name: &'static str,
    flags: &'static [&'static str],
    takes: Takes,
    default: &'static str,
    answer: &'static str,
) -> Foreign {
    Foreign {
        name,
        flags,
        takes,
        default,
        verdict: Verdict::Noted,
        answer,
    }
}

/// The same with another verdict.
const fn but(verdict: Verdict, foreign: Foreign) -> Foreign {
    Foreign { verdict, ..foreign }
}

const fn hook(name: &'static str) -> Foreign {
    but(Verdict::Hook, noted(name, &[], Takes::Value, "", HOOK))
}

const SPEW: &str = "does nothing: use a tracer of your language on the worker";
const PASTE: &str =
    "is not here: PasteDeploy files are not read; name a callable, such as MODULE:CALLABLE";
const HTTP_PARSER: &str = "does nothing: there is one HTTP parser";
const STRICT: &str = "does nothing: requests are read strictly by RFC 9112";
const SSL_VERSION: &str = "does nothing, as in Gunicorn since 21: use --tls-min-version";
const HANDSHAKE: &str = "is so: a connection is TLS from its first byte on";
const SYSLOG: &str = "is not here yet: log to standard error (--error-logfile -) and let the system's log collect it";
const LOGGER: &str = "does nothing: the server's logs are not written by Python; see --error-logfile, --log-level and --access-logformat, or logconfig_dict for the app's own";
const STATSD: &str = "is not here yet: no StatsD metrics are sent";
const CONFIG: &str = "names the configuration file on the command line only: --config";
const DEFAULT_NAME: &str = "is the name that process lists show where there is no proc_name";
const LOGCONFIG: &str = "is a Python dictionary: it is read from a Python configuration file (gunicorn.conf.py); elsewhere use logconfig_json";
const HOOK: &str = "is a Python function: server hooks are read from a Python configuration file (gunicorn.conf.py)";
const NO_CONTEXT: &str = "is not called: TLS is not Python's; --certfile, --ca-certs, --cert-reqs, --tls-min-version and --ciphers say what it is, and binds may have words of their own";
const DIRTY: &str = "is not here: there is no second pool for long jobs; use a job queue";
const CONTROL: &str = "is not here yet: there is no control socket; use signals to the master";

/// Every one of them, in Gunicorn's order.
pub(crate) static FOREIGN: &[Foreign] = &[
    but(
        Verdict::Obeyed,
        noted(
            "config",
            &[],
            Takes::Value,
            "\"./gunicorn.conf.py\"",
            CONFIG,
        ),
    ),
    noted(
        "http_parser",
        &["--http-parser"],
        Takes::Value,
        "\"auto\"",
        HTTP_PARSER,
    ),
    noted("spew", &["--spew"], Takes::Nothing, "false", SPEW),
    but(
        Verdict::Refused,
        noted("paste", &["--paste", "--paster"], Takes::Value, "", PASTE),
    ),
    noted(
        "raw_paste_global_conf",
        &["--paste-global"],
        Takes::Value,
        "[]",
        PASTE,
    ),
    noted(
        "permit_obsolete_folding",
        &["--permit-obsolete-folding"],
        Takes::Nothing,
        "false",
        STRICT,
    ),
    noted(
        "strip_header_spaces",
        &["--strip-header-spaces"],
        Takes::Nothing,
        "false",
        STRICT,
    ),
    noted(
        "permit_unconventional_http_method",
        &["--permit-unconventional-http-method"],
        Takes::Nothing,
        "false",
        STRICT,
    ),
    noted(
        "permit_unconventional_http_version",
        &["--permit-unconventional-http-version"],
        Takes::Nothing,
        "false",
        STRICT,
    ),
    noted(
        "casefold_http_method",
        &["--casefold-http-method"],
        Takes::Nothing,
        "false",
        STRICT,
    ),
    noted(
        "disable_redirect_access_to_syslog",
        &["--disable-redirect-access-to-syslog"],
        Takes::Nothing,
        "false",
        SYSLOG,
    ),
    noted(
        "syslog_addr",
        &["--log-syslog-to"],
        Takes::Value,
        "\"udp://localhost:514\"",
        SYSLOG,
    ),
    noted("syslog", &["--log-syslog"], Takes::Nothing, "false", SYSLOG),
    noted(
        "syslog_prefix",
        &["--log-syslog-prefix"],
        Takes::Value,
        "",
        SYSLOG,
    ),
    noted(
        "syslog_facility",
        &["--log-syslog-facility"],
        Takes::Value,
        "\"user\"",
        SYSLOG,
    ),
    noted(
        "logger_class",
        &["--logger-class"],
        Takes::Value,
        "\"gunicorn.glogging.Logger\"",
        LOGGER,
    ),
    noted("logconfig_dict", &[], Takes::Value, "{}", LOGCONFIG),
    noted("statsd_host", &["--statsd-host"], Takes::Value, "", STATSD),
    noted(
        "dogstatsd_tags",
        &["--dogstatsd-tags"],
        Takes::Value,
        "\"\"",
        STATSD,
    ),
    noted(
        "statsd_prefix",
        &["--statsd-prefix"],
        Takes::Value,
        "\"\"",
        STATSD,
    ),
    noted(
        "enable_backlog_metric",
        &["--enable-backlog-metric"],
        Takes::Nothing,
        "false",
        STATSD,
    ),
    but(
        Verdict::Obeyed,
        noted(
            "default_proc_name",
            &[],
            Takes::Value,
            "\"gunicorn\"",
            DEFAULT_NAME,
        ),
    ),
    hook("on_starting"),
    hook("on_reload"),
    hook("when_ready"),
    hook("pre_fork"),
    hook("post_fork"),
    hook("post_worker_init"),
    hook("worker_int"),
    hook("worker_abort"),
    hook("pre_exec"),
    hook("pre_request"),
    hook("post_request"),
    hook("child_exit"),
    hook("worker_exit"),
    hook("nworkers_changed"),
    hook("on_exit"),
    noted("ssl_context", &[], Takes::Value, "", NO_CONTEXT),
    noted(
        "ssl_version",
        &["--ssl-version"],
        Takes::Value,
        "2",
        SSL_VERSION,
    ),
    but(
        Verdict::Obeyed,
        noted(
            "do_handshake_on_connect",
            &["--do-handshake-on-connect"],
            Takes::Nothing,
            "false",
            HANDSHAKE,
        ),
    ),
    but(
        Verdict::Refused,
        noted("dirty_apps", &["--dirty-app"], Takes::Value, "[]", DIRTY),
    ),
    noted(
        "dirty_workers",
        &["--dirty-workers"],
        Takes::Value,
        "0",
        DIRTY,
    ),
    noted(
        "dirty_timeout",
        &["--dirty-timeout"],
        Takes::Value,
        "300",
        DIRTY,
    ),
    noted(
        "dirty_threads",
        &["--dirty-threads"],
        Takes::Value,
        "1",
        DIRTY,
    ),
    noted(
        "dirty_graceful_timeout",
        &["--dirty-graceful-timeout"],
        Takes::Value,
        "30",
        DIRTY,
    ),
    noted("on_dirty_starting", &[], Takes::Value, "", DIRTY),
    noted("dirty_post_fork", &[], Takes::Value, "", DIRTY),
    noted("dirty_worker_init", &[], Takes::Value, "", DIRTY),
    noted("dirty_worker_exit", &[], Takes::Value, "", DIRTY),
    noted(
        "control_socket",
        &["--control-socket"],
        Takes::Value,
        "",
        CONTROL,
    ),
    noted(
        "control_socket_mode",
        &["--control-socket-mode"],
        Takes::Value,
        "384",
        CONTROL,
    ),
    but(
        Verdict::Obeyed,
        noted(
            "control_socket_disable",
            &["--no-control-socket"],
            Takes::Nothing,
            "false",
            CONTROL,
        ),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn weigh(name: &str, value: &Item) -> Verdict {
        let foreign = FOREIGN.iter().find(|foreign| foreign.name == name).unwrap();
        foreign.weigh(value)
    }

    fn text(text: &str) -> Item {
        Item::Text(text.to_owned())
    }

    #[test]
    fn what_asks_for_nothing_is_silent() {
        for foreign in FOREIGN {
            assert_eq!(
                foreign.weigh(&Item::Nothing),
                Verdict::Obeyed,
                "{}",
                foreign.name
            );
            let line = format!("x = {}", foreign.default);
            if !foreign.default.is_empty() {
                let default = crate::config::file::parse(&line, "test").unwrap().remove(0);
                assert_eq!(
                    foreign.weigh(&default.item),
                    Verdict::Obeyed,
                    "{}",
                    foreign.name
                );
            }
        }
        for (name, value) in [
            ("spew", text("False")),
            ("syslog", Item::Bool(false)),
            ("control_socket_disable", Item::Bool(true)),
            ("do_handshake_on_connect", Item::Bool(true)),
        ] {
            assert_eq!(weigh(name, &value), Verdict::Obeyed, "{name}");
        }
    }

    #[test]
    fn what_the_service_needs_is_refused_and_the_rest_noted() {
        let apps = Item::List(vec![text("a:B")]);
        assert_eq!(weigh("dirty_apps", &apps), Verdict::Refused);
        for (name, value) in [
            ("statsd_host", text("localhost:8125")),
            ("logger_class", text("mine.Logger")),
            ("ssl_version", Item::Number("5".to_owned())),
        ] {
            assert_eq!(weigh(name, &value), Verdict::Noted, "{name}");
        }
    }
}
