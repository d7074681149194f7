//! Where something happens when what stands at a path becomes another file, however it is put there: a new file in the place of
//! the old one, or a link, to it or to a directory on the way, that leads elsewhere (Kubernetes swaps `..data`, certbot
//! the links in `live/`).

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// More links than these on one way lead in circles.
const MOST_LINKS: u32 = 40;

/// The directories in which the file, or a link that is passed on the way to it, stands.
pub(crate) fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut links = 0;
    follow(&path, &mut found, &mut links);
    found
}

fn follow(path: &Path, found: &mut BTreeSet<PathBuf>, links: &mut u32) {
    let mut way = PathBuf::new();
    let mut parts = path.components();
    while let Some(part) = parts.next() {
        let here = way.clone();
        match part {
            // A link's `..` is that of where it leads, and links were followed before it.
            Component::ParentDir => {
                way.pop();
                continue;
            }
            Component::Prefix(_)
            | Component::RootDir
            | Component::CurDir
            | Component::Normal(_) => way.push(part),
        }
        let Ok(target) = std::fs::read_link(&way) else {
            continue;
        };
        found.insert(here.clone());
        *links += 1;
        if *links <= MOST_LINKS {
            follow(&here.join(target).join(parts.as_path()), found, links);
        }
        return;
    }
    if let Some(directory) = way.parent() {
        found.insert(directory.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(root: &Path, path: &str) -> Vec<String> {
        let root = root.canonicalize().unwrap();
        directories(&root.join(path))
            .iter()
            .map(|found| {
                let inside = found.strip_prefix(&root).expect("inside");
                inside.display().to_string()
            })
            .collect()
    }

    #[test]
    fn every_link_on_the_way_is_watched_where_it_stands() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for (made, kind) in [
            ("etc", "d"),
            ("etc/..1", "d"),
            ("archive", "d"),
            ("live", "d"),
        ] {
            assert_eq!(kind, "d");
            fs::create_dir(root.join(made)).unwrap();
        }
        fs::write(root.join("etc/..1/tls.crt"), "").unwrap();
        symlink("..1", root.join("etc/..data")).unwrap();
        symlink("..data/tls.crt", root.join("etc/tls.crt")).unwrap();
        assert_eq!(names(root, "etc/tls.crt"), ["etc", "etc/..1"]);
        fs::write(root.join("archive/chain1.pem"), "").unwrap();
        symlink("../archive/chain1.pem", root.join("live/chain.pem")).unwrap();
        assert_eq!(names(root, "live/chain.pem"), ["archive", "live"]);
        // What is not there yet, and what leads nowhere.
        assert_eq!(names(root, "live/none.pem"), ["live"]);
        symlink("loop", root.join("live/loop")).unwrap();
        assert_eq!(names(root, "live/loop"), ["live"]);
    }
}
