//! Colours for whoever reads the error log on a terminal: levels, and Python's tracebacks as Python 3.13 paints its own.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::Write as _;

const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const MAGENTA: &str = "\x1b[35m";
const BOLD_RED: &str = "\x1b[1;31m";
const BOLD_MAGENTA: &str = "\x1b[1;35m";
const REVERSE_RED: &str = "\x1b[1;37;41m";
const PLAIN: &str = "\x1b[0m";

/// Where the lines go, as far as colours care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// A terminal.
    Terminal,
    /// Something else that a standard stream leads to: a pipe that may end at a terminal.
    Stream,
    /// A file, or what stands for one.
    File,
}

/// Whether lines are painted: for a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`; for a pipe where `FORCE_COLOR` asks
/// for it; never for a file (`https://no-color.org`, `https://force-color.org`, and Python's order of the three).
pub(super) fn wanted(reader: Reader, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let set = |name| variable(name).is_some_and(|value| !value.is_empty());
    match reader {
        Reader::File => false,
        Reader::Terminal | Reader::Stream if set("NO_COLOR") => false,
        Reader::Terminal | Reader::Stream if set("FORCE_COLOR") => true,
        Reader::Terminal => variable("TERM").is_none_or(|term| term != "dumb"),
        Reader::Stream => false,
    }
}

/// One event's text, painted.
pub(super) fn paint(text: &str) -> String {
    let mut painted = String::with_capacity(text.len() + 64);
    let mut in_traceback = false;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let (line, end) = match line.strip_suffix('\n') {
            Some(line) => (line, "\n"),
            None => (line, ""),
        };
        let line = if number == 0 {
            first(line)
        } else {
            further(line, &mut in_traceback)
        };
        painted.push_str(&line);
        painted.push_str(end);
    }
    painted
}

/// `[time] [pid] [LEVEL] message`
fn first(line: &str) -> Cow<'_, str> {
    let parts = || {
        let (stamp, rest) = line.split_once("] [")?;
        let (pid, rest) = rest.split_once("] [")?;
        let (level, message) = rest.split_once("] ")?;
        Some((stamp, pid, level, message))
    };
    let Some((stamp, pid, level, message)) = parts() else {
        return line.into();
    };
    let colour = match level {
        "DEBUG" => DIM,
        "INFO" => GREEN,
        "WARNING" => YELLOW,
        "ERROR" => RED,
        "CRITICAL" => REVERSE_RED,
        _ => PLAIN,
    };
    format!("{DIM}{stamp}] [{pid}]{PLAIN} {colour}[{level}]{PLAIN} {message}").into()
}

/// A line of a traceback, or of whatever the message goes on with.
fn further<'a>(line: &'a str, in_traceback: &mut bool) -> Cow<'a, str> {
    let bare = line.trim_start();
    if let Some(painted) = place(line) {
        *in_traceback = true;
        return painted.into();
    }
    if bare == "Traceback (most recent call last):" {
        *in_traceback = true;
        return line.into();
    }
    let marks = !bare.is_empty() && bare.bytes().all(|byte| matches!(byte, b'^' | b'~' | b' '));
    if *in_traceback && marks {
        return format!("{BOLD_RED}{line}{PLAIN}").into();
    }
    if *in_traceback && let Some((kind, rest)) = exception(line) {
        return format!("{BOLD_MAGENTA}{kind}{PLAIN}{MAGENTA}{rest}{PLAIN}").into();
    }
    line.into()
}

/// `  File "x.py", line 3, in f`
fn place(line: &str) -> Option<String> {
    let (before, rest) = line.split_once("File \"")?;
    if !before.bytes().all(|byte| matches!(byte, b' ' | b'|')) {
        return None;
    }
    let (file, rest) = rest.split_once("\", line ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = rest.split_at(digits);
    let mut painted =
        format!("{before}File {MAGENTA}\"{file}\"{PLAIN}, line {MAGENTA}{number}{PLAIN}");
    // Writing to a string cannot fail.
    let _ = match rest.split_once("in ") {
        Some((comma, name)) => write!(painted, "{comma}in {MAGENTA}{name}{PLAIN}"),
        None => write!(painted, "{rest}"),
    };
    Some(painted)
}

/// `package.Error: what is wrong`, or the name alone.
fn exception(line: &str) -> Option<(&str, &str)> {
    let end = line
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
        .unwrap_or(line.len());
    let (kind, rest) = line.split_at(end);
    let is_name = kind.starts_with(|c: char| c.is_alphabetic() || c == '_');
    (is_name && (rest.is_empty() || rest.starts_with(':'))).then_some((kind, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(reader: Reader, set: &[(&str, &str)]) -> bool {
        wanted(reader, |name| {
            set.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn a_terminal_is_painted_unless_it_or_its_user_wants_none() {
        assert!(decide(Reader::Terminal, &[]));
        assert!(decide(Reader::Terminal, &[("TERM", "xterm")]));
        assert!(!decide(Reader::Terminal, &[("TERM", "dumb")]));
        assert!(!decide(Reader::Terminal, &[("NO_COLOR", "1")]));
        assert!(decide(Reader::Terminal, &[("NO_COLOR", "")]));
        assert!(decide(
            Reader::Terminal,
            &[("TERM", "dumb"), ("FORCE_COLOR", "1")]
        ));
        assert!(!decide(
            Reader::Terminal,
            &[("NO_COLOR", "1"), ("FORCE_COLOR", "1")]
        ));
    }

    #[test]
    fn a_pipe_is_painted_by_force_alone_and_a_file_never() {
        assert!(!decide(Reader::Stream, &[("TERM", "xterm")]));
        assert!(decide(Reader::Stream, &[("FORCE_COLOR", "1")]));
        assert!(!decide(Reader::File, &[("FORCE_COLOR", "1")]));
    }

    #[test]
    fn without_its_colours_a_line_is_what_it_was() {
        let text = "[2026-11-22 07:03:15 +0000] [47] [ERROR] Error handling request GET /:\n\
                    Traceback (most recent call last):\n  \
                    File \"/app/x.py\", line 3, in f\n    g(1)\n    ~^^^\n  \
                    File \"/app/x.py\", line 7\n\
                    ValueError: no: not this\nKeyboardInterrupt\n";
        let painted = paint(text);
        let mut plain = String::new();
        let mut rest = painted.as_str();
        while let Some((before, after)) = rest.split_once("\x1b[") {
            plain.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        plain.push_str(rest);
        assert_eq!(plain, text);
        for part in [
            "\x1b[31m[ERROR]\x1b[0m Error",
            "File \x1b[35m\"/app/x.py\"\x1b[0m, line \x1b[35m3\x1b[0m, in \x1b[35mf\x1b[0m\n",
            "\x1b[1;31m    ~^^^\x1b[0m\n",
            "line \x1b[35m7\x1b[0m\n",
            "\x1b[1;35mValueError\x1b[0m\x1b[35m: no: not this\x1b[0m\n",
            "\x1b[1;35mKeyboardInterrupt\x1b[0m",
        ] {
            assert!(painted.contains(part), "{part:?} in {painted:?}");
        }
    }

    #[test]
    fn what_is_no_traceback_is_left_as_it_is() {
        let text = "[t] [1] [INFO] A list\none: 1\n  ^\nlast";
        assert!(paint(text).ends_with("A list\none: 1\n  ^\nlast"));
        assert_eq!(paint("no stamp"), "no stamp");
    }
}
