//! The contents of certificate and key files as they were at one moment.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::Spec;
use super::error::TlsError;

/// The longest file; the bundles of all authorities that browsers know are a quarter of it.
const LONGEST: u64 = 1 << 20;

/// File names and contents.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Files(BTreeMap<PathBuf, Vec<u8>>);

// The contents are secrets.
impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Files {
    /// Reads all that `specs` name. Relative names are taken from the working directory.
    ///
    /// # Errors
    /// One for each file that cannot be read.
    pub(crate) fn read<'a>(
        specs: impl IntoIterator<Item = &'a Spec>,
    ) -> Result<Self, Vec<TlsError>> {
        let mut files = Self::default();
        let mut errors = Vec::new();
        for (role, path) in specs.into_iter().flat_map(Spec::files) {
            if files.0.contains_key(path) {
                continue;
            }
            match contents(path) {
                Ok(bytes) => {
                    files.0.insert(path.to_owned(), bytes);
                }
                Err(error) => errors.push(TlsError::Unreadable {
                    role,
                    path: path.to_owned(),
                    error,
                }),
            }
        }
        if errors.is_empty() {
            Ok(files)
        } else {
            Err(errors)
        }
    }

    /// Their names.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// What is in `path`; nothing where it was not read.
    pub(crate) fn get(&self, path: &Path) -> &[u8] {
        self.0.get(path).map(Vec::as_slice).unwrap_or_default()
    }

    /// For another process.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |part: &[u8]| {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(part);
        };
        for (path, contents) in &self.0 {
            put(path.as_os_str().as_bytes());
            put(contents);
        }
        bytes
    }

    /// From another process; `None` if it is not whole.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut take = || {
            let (length, rest) = bytes.split_first_chunk()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (part, rest) = rest.split_at_checked(length)?;
            bytes = rest;
            Some((part.to_vec(), rest.is_empty()))
        };
        let mut files = BTreeMap::new();
        loop {
            let (path, _) = take()?;
            let (contents, is_last) = take()?;
            files.insert(PathBuf::from(std::ffi::OsString::from_vec(path)), contents);
            if is_last {
                return Some(Self(files));
            }
        }
    }
}

fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LONGEST) {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &[u8])]) -> Files {
        let each = |(path, contents): &(&str, &[u8])| (PathBuf::from(path), contents.to_vec());
        Files(pairs.iter().map(each).collect())
    }

    #[test]
    fn files_go_to_another_process_whole_or_not_at_all() {
        let sent = files(&[("a", b"one"), ("b/c", b""), ("d", &[0xFF; 300])]);
        let bytes = sent.to_bytes();
        assert_eq!(Files::from_bytes(&bytes), Some(sent));
        for cut in 0..bytes.len() {
            let part = Files::from_bytes(&bytes[..cut]);
            assert!(part.is_none_or(|part| part.0.len() < 3), "{cut}");
        }
    }

    #[test]
    fn secrets_do_not_get_into_logs() {
        assert_eq!(format!("{:?}", files(&[("a", b"secret")])), r#"{"a"}"#);
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        assert!(contents(directory.path()).is_err());
        assert!(contents(Path::new("/dev/zero")).is_err());
        let long = directory.path().join("long");
        std::fs::write(&long, vec![b'a'; (1 << 20) + 1]).unwrap();
        assert!(
            contents(&long)
                .unwrap_err()
                .to_string()
                .contains("longer than 1 MiB")
        );
    }
}
