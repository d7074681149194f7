//! Packets of the uwsgi protocol, right and wrong ones.

/// A request as a front end sends it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    variables: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Packet {
    /// A GET of `path`, after which the connection is closed.
    pub(crate) fn get(path: &str) -> Self {
        Self::of("GET", path)
    }

    /// A POST to `path` whose body has `length` bytes.
    pub(crate) fn post(path: &str, length: usize) -> Self {
        Self::of("POST", path).var("CONTENT_LENGTH", length.to_string())
    }

    /// A request by `method`.
    pub(crate) fn of(method: &str, path: &str) -> Self {
        let (place, query) = path.split_once('?').unwrap_or((path, ""));
        Self::empty()
            .var("REQUEST_METHOD", method)
            .var("REQUEST_URI", path)
            .var("PATH_INFO", place)
            .var("QUERY_STRING", query)
            .var("HTTP_HOST", "test")
    }

    /// Without any variable.
    pub(crate) const fn empty() -> Self {
        Self {
            variables: Vec::new(),
        }
    }

    /// One more variable.
    pub(crate) fn var(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.variables
            .push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// The front end wants to keep the connection.
    pub(crate) fn kept(self) -> Self {
        self.var("HTTP_CONNECTION", "keep-alive")
    }

    /// As it is sent.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut block = Vec::new();
        for part in self
            .variables
            .iter()
            .flat_map(|(name, value)| [name, value])
        {
            let size = u16::try_from(part.len()).expect("at most 64 KiB");
            block.extend_from_slice(&size.to_le_bytes());
            block.extend_from_slice(part);
        }
        let [low, high] = u16::try_from(block.len())
            .expect("at most 64 KiB")
            .to_le_bytes();
        [&[0, low, high, 0], &*block].concat()
    }

    /// As it is sent, followed by a body.
    pub(crate) fn with(&self, body: impl AsRef<[u8]>) -> Vec<u8> {
        [&*self.bytes(), body.as_ref()].concat()
    }
}
