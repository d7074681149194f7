//! Events as lines: Gunicorn's `[date time zone] [pid] [LEVEL] message`, with fields as ` key=value` behind.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU8, Ordering};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::CRITICAL;
use crate::config::LogLevel;
use crate::error;

/// This crate's name in targets.
const OURS: &str = "rgun_async";

/// A library that warns of what clients send: they could fill a disk with it.
const LOUD: &str = "h2";

/// Libraries below us, whose own doings are of interest only when they warn.
const LIBRARIES: [&str; 11] = [
    "hyper",
    "hyper_util",
    "http",
    "tokio",
    "tokio_util",
    "mio",
    "want",
    "tower",
    "socket2",
    "signal_hook",
    "pyo3",
];

/// The least level that is written, by its place in [`LogLevel`].
static LEVEL: AtomicU8 = AtomicU8::new(1);

const fn place(level: LogLevel) -> u8 {
    match level {
        LogLevel::Debug => 0,
        LogLevel::Info => 1,
        LogLevel::Warning => 2,
        LogLevel::Error => 3,
        LogLevel::Critical => 4,
    }
}

/// Sets the least level, also in what the call sites have cached.
pub(super) fn set_level(level: LogLevel) {
    LEVEL.store(place(level), Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

fn level_of(metadata: &Metadata<'_>) -> LogLevel {
    match *metadata.level() {
        Level::ERROR if metadata.target() == CRITICAL => LogLevel::Critical,
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warning,
        Level::INFO => LogLevel::Info,
        _ => LogLevel::Debug,
    }
}

/// Ours from the level on, an app's from info on, a library's from warning on; spans never.
fn wanted(metadata: &Metadata<'_>) -> bool {
    let level = level_of(metadata);
    let target = metadata.target();
    let root = target.split_once("::").map_or(target, |(root, _)| root);
    let least = if root == OURS {
        LogLevel::Debug
    } else if root == LOUD {
        LogLevel::Error
    } else if LIBRARIES.contains(&root) {
        LogLevel::Warning
    } else {
        LogLevel::Info
    };
    metadata.is_event() && level >= least && place(level) >= LEVEL.load(Ordering::Relaxed)
}

/// The layer that hands each event's line to `write`.
pub(super) struct Lines {
    /// Gets a whole line, its line feed included.
    pub(super) write: fn(&[u8]),
}

impl<S: Subscriber> Layer<S> for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if wanted(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        wanted(metadata)
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        use tracing::level_filters::LevelFilter;
        Some(match LEVEL.load(Ordering::Relaxed) {
            0 => LevelFilter::TRACE,
            1 => LevelFilter::INFO,
            2 => LevelFilter::WARN,
            _ => LevelFilter::ERROR,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        thread_local! {
            static LINE: RefCell<String> = const { RefCell::new(String::new()) };
        }
        // A value whose `Display` logs finds the line taken, and gets one of its own.
        LINE.with(|line| match line.try_borrow_mut() {
            Ok(mut line) => self.line(&mut line, event),
            Err(_) => self.line(&mut String::new(), event),
        });
    }
}

impl Lines {
    fn line(&self, line: &mut String, event: &Event<'_>) {
        line.clear();
        stamp(line, level_of(event.metadata()));
        let mut fields = Fields {
            line,
            behind: String::new(),
        };
        event.record(&mut fields);
        let Fields { line, behind } = fields;
        line.push_str(&behind);
        while line.ends_with('\n') {
            line.pop();
        }
        line.push('\n');
        (self.write)(line.as_bytes());
    }
}

/// Writes `[2026-11-22 07:03:15 +0000] [4711] [INFO] `.
pub(super) fn stamp(line: &mut String, level: LogLevel) {
    thread_local! {
        static NOW: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
    }
    NOW.with_borrow_mut(|(second, text)| {
        let now = Timestamp::now();
        if *second != now.as_second() {
            *second = now.as_second();
            text.clear();
            let local = now.to_zoned(TimeZone::system());
            // Writing to a string fails only where a value's own formatting does.
            let _ = write!(text, "[{}]", local.strftime("%Y-%m-%d %H:%M:%S %z"));
        }
        line.push_str(text);
    });
    let name = match level {
        LogLevel::Debug => "DEBUG",
        LogLevel::Info => "INFO",
        LogLevel::Warning => "WARNING",
        LogLevel::Error => "ERROR",
        LogLevel::Critical => "CRITICAL",
    };
    // Asked each time: a fork makes it another.
    let _ = write!(line, " [{}] [{name}] ", std::process::id());
}

/// Puts the message into the line and the other fields behind it.
struct Fields<'a> {
    line: &'a mut String,
    behind: String,
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.line, "{value:?}"),
            name => write!(self.behind, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.line.push_str(value),
            _ if value.is_empty()
                || value.contains(|c: char| c.is_whitespace() || c == '"') =>
            {
                self.record_debug(field, &value);
            }
            name => {
                let _ = write!(self.behind, " {name}={value}");
            }
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_str(field, &error::chain(value));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::log::critical;

    thread_local! {
        static WRITTEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    fn collect(line: &[u8]) {
        let line = String::from_utf8(line.to_vec()).unwrap();
        WRITTEN.with_borrow_mut(|written| written.push(line));
    }

    /// The lines that `act` logs, without the time.
    fn lines_of(act: impl FnOnce()) -> Vec<String> {
        let subscriber = tracing_subscriber::registry().with(Lines { write: collect });
        tracing::subscriber::with_default(subscriber, act);
        let pid = format!(" [{}] ", std::process::id());
        let written = WRITTEN.take();
        written
            .iter()
            .map(|line| line.split_once(&pid).unwrap().1.to_owned())
            .collect()
    }

    #[test]
    fn a_line_is_gunicorns_with_fields_behind() {
        let error = std::io::Error::other("no luck");
        let lines = lines_of(|| {
            tracing::info!("Listening at: {} ({})", "http://127.0.0.1:8000", 1);
            tracing::warn!(worker = 0, name = "a", text = "b c", "Slow");
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, "Failed\n  at x\n");
            critical!("WORKER TIMEOUT (pid:{})", 7);
        });
        assert_eq!(
            lines,
            [
                "[INFO] Listening at: http://127.0.0.1:8000 (1)\n",
                "[WARNING] Slow worker=0 name=a text=\"b c\"\n",
                "[ERROR] Failed\n  at x\n error=\"no luck\"\n",
                "[CRITICAL] WORKER TIMEOUT (pid:7)\n",
            ]
        );
    }

    #[test]
    fn libraries_are_heard_from_warnings_on_and_apps_from_info_on() {
        let lines = lines_of(|| {
            tracing::info!(target: "hyper::proto", "no");
            tracing::warn!(target: "hyper::proto", "yes");
            tracing::debug!(target: "myapp", "no");
            tracing::info!(target: "myapp", "yes");
            tracing::info!(target: "hyperbole", "yes");
        });
        assert_eq!(lines, ["[WARNING] yes\n", "[INFO] yes\n", "[INFO] yes\n"]);
    }

    #[test]
    fn a_value_that_logs_while_it_is_logged_is_no_trap() {
        struct Chatty;
        impl fmt::Display for Chatty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                tracing::info!("inner");
                f.write_str("outer")
            }
        }
        let lines = lines_of(|| tracing::info!("{Chatty}"));
        assert_eq!(lines.last().unwrap(), "[INFO] outer\n");
    }

    #[test]
    fn the_time_has_gunicorns_shape() {
        let mut line = String::new();
        stamp(&mut line, LogLevel::Info);
        let shape: String = line
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        let shape = shape.replace("-0000]", "+0000]");
        assert!(
            shape.starts_with("[0000-00-00 00:00:00 +0000] [0"),
            "{line}"
        );
    }
}
