//! The answer: where it ends, and what it says of itself. Its bytes are printed as they are.

use super::ClientError;

/// A head that is longer is none.
const LONGEST_HEAD: usize = 1 << 20;

/// An answer as it comes in.
#[derive(Debug)]
pub(super) struct Answer {
    /// The request was HEAD: no body follows.
    bodiless: bool,
    state: State,
    status: Option<u16>,
}

#[derive(Debug)]
enum State {
    /// Until the empty line; what is here of it.
    Head(Vec<u8>),
    /// So many bytes are to come.
    Sized(u64),
    /// Until the connection ends.
    Open,
    Whole,
}

impl Answer {
    pub(super) fn to(method: &str) -> Self {
        Self {
            bodiless: method == "HEAD",
            state: State::Head(Vec::new()),
            status: None,
        }
    }

    /// Its last byte is here.
    pub(super) const fn is_whole(&self) -> bool {
        matches!(self.state, State::Whole)
    }

    /// Bytes of it have come.
    pub(super) fn is_begun(&self) -> bool {
        !matches!(&self.state, State::Head(head) if head.is_empty())
    }

    pub(super) const fn status(&self) -> Option<u16> {
        self.status
    }

    /// Takes bytes; those to be printed.
    ///
    /// # Errors
    /// [`ClientError::Garbage`].
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<u8>, ClientError> {
        let State::Head(head) = &mut self.state else {
            return Ok(self.body(bytes));
        };
        head.extend_from_slice(bytes);
        let looks_like = head.starts_with(b"HTTP/") || b"HTTP/".starts_with(head);
        if !looks_like || head.len() > LONGEST_HEAD {
            return Err(ClientError::Garbage);
        }
        let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(Vec::new());
        };
        let mut out = std::mem::take(head);
        let rest = out.split_off(end + 4);
        self.begin(&out)?;
        out.extend(self.body(&rest));
        Ok(out)
    }

    fn begin(&mut self, head: &[u8]) -> Result<(), ClientError> {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|status| status.parse().ok())
            .ok_or(ClientError::Garbage)?;
        self.status = Some(status);
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map(|(_, value)| value.trim().parse().map_err(|_| ClientError::Garbage))
            .transpose()?;
        self.state = match length {
            _ if self.bodiless || matches!(status, 204 | 304) => State::Whole,
            Some(0) => State::Whole,
            Some(length) => State::Sized(length),
            None => State::Open,
        };
        Ok(())
    }

    fn body(&mut self, bytes: &[u8]) -> Vec<u8> {
        match &mut self.state {
            State::Head(_) | State::Whole => Vec::new(),
            State::Open => bytes.to_vec(),
            State::Sized(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let taken = bytes.get(..most.min(bytes.len())).unwrap_or_default();
                *left -= u64::try_from(taken.len()).unwrap_or(*left);
                if *left == 0 {
                    self.state = State::Whole;
                }
                taken.to_vec()
            }
        }
    }

    /// The server has closed the connection.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn end(&self) -> Result<(), ClientError> {
        match &self.state {
            State::Head(head) if head.is_empty() => Err(ClientError::Nothing),
            State::Head(_) | State::Sized(_) => Err(ClientError::Cut),
            State::Open | State::Whole => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, pieces: &[&str]) -> (String, Answer) {
        let mut answer = Answer::to(method);
        let mut out = Vec::new();
        for piece in pieces {
            out.extend(answer.take(piece.as_bytes()).expect("an answer"));
        }
        (String::from_utf8(out).expect("text"), answer)
    }

    #[test]
    fn an_answer_ends_by_its_length_or_with_the_connection() {
        let head = "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n";
        let (out, answer) = read(
            "GET",
            &["HTTP/1.0 200 OK\r\nContent-", "Length: 2\r\n\r\na"],
        );
        assert_eq!(out, format!("{head}a"));
        assert!(!answer.is_whole());
        assert!(matches!(answer.end(), Err(ClientError::Cut)));
        let (out, answer) = read("GET", &[head, "abc"]);
        assert_eq!(out, format!("{head}ab"));
        assert!(answer.is_whole());
        assert_eq!(answer.status(), Some(200));
        let (_, answer) = read("GET", &["HTTP/1.0 404 Not Found\r\n\r\n"]);
        assert!(!answer.is_whole());
        assert!(answer.end().is_ok());
        assert_eq!(answer.status(), Some(404));
    }

    #[test]
    fn some_answers_have_no_body() {
        assert!(
            read("HEAD", &["HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n"])
                .1
                .is_whole()
        );
        assert!(
            read("GET", &["HTTP/1.0 204 No Content\r\n\r\n"])
                .1
                .is_whole()
        );
        assert!(
            read("GET", &["HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"])
                .1
                .is_whole()
        );
    }

    #[test]
    fn what_is_not_http_is_no_answer() {
        for text in [
            "\u{1}\u{2}",
            "HTTX",
            "HTTP/1.0 x\r\n\r\n",
            "HTTP/1.0\r\n\r\n",
        ] {
            let mut answer = Answer::to("GET");
            let taken = answer.take(text.as_bytes());
            assert!(matches!(taken, Err(ClientError::Garbage)), "{text}");
        }
        let mut answer = Answer::to("GET");
        assert!(answer.take(b"HTT").is_ok_and(|out| out.is_empty()));
        assert!(matches!(answer.end(), Err(ClientError::Cut)));
        assert!(matches!(Answer::to("GET").end(), Err(ClientError::Nothing)));
    }
}
