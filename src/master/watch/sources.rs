//! What is watched: the Python files of the app's directory, the files that its workers have loaded, and extra ones.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{AppPath, Config};

/// More directories than these are not looked into.
const DIRECTORIES: usize = 4000;

/// Which files matter.
#[derive(Debug)]
pub(super) struct Sources {
    /// Every Python file below.
    code: Vec<PathBuf>,
    /// Every file below.
    trees: Vec<PathBuf>,
    /// Files by name, from the settings or from workers.
    files: BTreeSet<PathBuf>,
    patterns: Vec<glob::Pattern>,
}

/// What a file is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    length: u64,
    inode: u64,
}

/// All files as they are at one moment.
#[derive(Debug, Default)]
pub(super) struct Look {
    files: BTreeMap<PathBuf, Option<Stamp>>,
    /// Where they are, and where new ones would be.
    directories: BTreeSet<PathBuf>,
}

impl Sources {
    /// By the settings; relative names are taken from the working directory.
    pub(super) fn new(config: &Config) -> Self {
        let here = std::env::current_dir().unwrap_or_default();
        let mut code = Vec::new();
        if let Some(AppPath::Python { .. }) = &config.wsgi_app {
            code.push(here.clone());
            code.extend(config.pythonpath.iter().map(|path| here.join(path)));
        }
        let mut sources = Self {
            code,
            trees: Vec::new(),
            files: BTreeSet::new(),
            patterns: Vec::new(),
        };
        for extra in &config.reload_extra_files {
            let extra = here.join(extra);
            let text = extra.to_string_lossy();
            if extra.is_dir() {
                sources.trees.push(extra);
            } else if text.contains(['*', '?', '[']) && !extra.exists() {
                match glob::Pattern::new(&text) {
                    Ok(pattern) => sources.patterns.push(pattern),
                    Err(error) => tracing::warn!("--reload-extra-file {text}: {error}"),
                }
            } else {
                sources.files.insert(extra);
            }
        }
        sources
    }

    /// Adds files by name; those that were not known.
    pub(super) fn add(&mut self, files: Vec<PathBuf>) -> Vec<PathBuf> {
        let known = &mut self.files;
        files
            .into_iter()
            .filter(|file| known.insert(file.clone()))
            .collect()
    }

    /// Looks at everything.
    pub(super) fn look(&self) -> Look {
        let mut look = Look::default();
        for root in &self.code {
            walk(root, &mut look, &|path| is_python(path));
        }
        for root in &self.trees {
            walk(root, &mut look, &|_| true);
        }
        for pattern in &self.patterns {
            look.directories.insert(base(pattern.as_str()));
            let found = glob::glob(pattern.as_str()).into_iter().flatten().flatten();
            found.for_each(|path| look.note(path));
        }
        self.files.iter().for_each(|path| look.note(path.clone()));
        look
    }

    /// Whether what happens to `path`, which no look has seen yet, is of interest.
    pub(super) fn may_concern(&self, path: &Path, is_directory: bool) -> bool {
        if is_directory {
            return path.file_name().is_none_or(|name| !is_skipped(name));
        }
        is_python(path)
            || self.files.contains(path)
            || self.trees.iter().any(|tree| path.starts_with(tree))
            || self
                .patterns
                .iter()
                .any(|pattern| pattern.matches_path(path))
    }
}

impl Look {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.directories.iter().map(PathBuf::as_path)
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    /// Adds files as they are now.
    pub(super) fn take_in(&mut self, files: &[PathBuf]) {
        for file in files {
            self.note(file.clone());
        }
    }

    /// The first file that is not what it was `before`: changed, new, or gone.
    pub(super) fn difference(&self, before: &Self) -> Option<PathBuf> {
        let changed = self.files.iter().find(|(path, stamp)| {
            // A file that was looked for in vain, and still is, has not changed.
            before.files.get(*path).copied().flatten() != **stamp
        });
        let gone = || {
            before
                .files
                .iter()
                .find(|(path, stamp)| stamp.is_some() && !self.files.contains_key(*path))
        };
        changed.or_else(gone).map(|(path, _)| path.clone())
    }

    fn note(&mut self, path: PathBuf) {
        if self.files.contains_key(&path) {
            return;
        }
        if let Some(directory) = path.parent() {
            self.directories.insert(directory.to_owned());
        }
        let stamp = fs::metadata(&path).ok().map(|meta| Stamp {
            modified: (meta.mtime(), meta.mtime_nsec()),
            length: meta.len(),
            inode: meta.ino(),
        });
        self.files.insert(path, stamp);
    }
}

/// Every file below `root` that is `wanted`. Links to directories are not followed: they may lead in circles.
fn walk(root: &Path, look: &mut Look, wanted: &dyn Fn(&Path) -> bool) {
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        if look.directories.len() >= DIRECTORIES {
            tracing::debug!("--reload: too many directories below {}", root.display());
            return;
        }
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() {
                // A virtual environment is not the app's code.
                if !is_skipped(&entry.file_name()) && !path.join("pyvenv.cfg").exists() {
                    left.push(path);
                }
            } else if wanted(&path) {
                look.note(path);
            }
        }
        look.directories.insert(directory);
    }
}

fn is_python(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "py")
}

/// Directories that hold no code to be edited.
fn is_skipped(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.')
        || ["__pycache__", "node_modules", "site-packages"].contains(&name.as_ref())
}

/// The directory that all matches of a pattern are below.
fn base(pattern: &str) -> PathBuf {
    Path::new(pattern)
        .components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(root: &Path) -> Sources {
        Sources {
            code: vec![root.to_owned()],
            trees: Vec::new(),
            files: BTreeSet::new(),
            patterns: Vec::new(),
        }
    }

    #[test]
    fn code_is_found_and_what_is_none_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for file in [
            "app.py",
            "notes.txt",
            "package/site.py",
            "package/__pycache__/site.py",
            ".git/hook.py",
            "venv/pyvenv.cfg",
            "venv/lib.py",
        ] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "").unwrap();
        }
        let look = sources(root).look();
        let found: Vec<_> = look.files.keys().collect();
        assert_eq!(found, [&root.join("app.py"), &root.join("package/site.py")]);
        let directories: Vec<_> = look.directories().collect();
        assert_eq!(directories, [root, &root.join("package")]);
    }

    #[test]
    fn changed_new_and_gone_files_differ_and_the_same_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let sources = sources(root);
        let (a, b) = (root.join("a.py"), root.join("b.py"));
        fs::write(&a, "1").unwrap();
        let first = sources.look();
        assert_eq!(sources.look().difference(&first), None);
        fs::write(&a, "12").unwrap();
        assert_eq!(sources.look().difference(&first), Some(a.clone()));
        let second = sources.look();
        fs::write(&b, "").unwrap();
        assert_eq!(sources.look().difference(&second), Some(b.clone()));
        let third = sources.look();
        fs::remove_file(&b).unwrap();
        assert_eq!(sources.look().difference(&third), Some(b));
    }

    #[test]
    fn a_file_by_name_is_watched_before_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("settings.toml");
        let mut sources = sources(&directory.path().join("elsewhere"));
        assert_eq!(sources.add(vec![file.clone()]), std::slice::from_ref(&file));
        assert!(sources.add(vec![file.clone()]).is_empty());
        let before = sources.look();
        assert_eq!(sources.look().difference(&before), None);
        fs::write(&file, "").unwrap();
        assert_eq!(sources.look().difference(&before), Some(file.clone()));
        assert!(sources.may_concern(&file, false));
    }

    #[test]
    fn a_pattern_is_watched_from_where_it_has_no_wildcard() {
        assert_eq!(
            base("/app/templates/*/x*.html"),
            Path::new("/app/templates")
        );
        assert_eq!(base("/app/[ab]"), Path::new("/app"));
    }
}
