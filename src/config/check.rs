//! What single values cannot tell: checks of the merged configuration against itself and against the system.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use nix::unistd::{Group, User};

use super::address::Address;
use super::bind::{ClientCert, Speaks, TlsOptions};
use super::merge::{Inputs, Merged, Mistake, Source, index_of};
use super::value::{AppPath, LogTarget, did_you_mean, nearest};

struct Check<'a> {
    merged: &'a Merged,
    mistakes: &'a mut Vec<Mistake>,
}

/// Adds what is wrong to `mistakes`; makes `chdir` absolute.
pub(super) fn check(merged: &mut Merged, inputs: &Inputs<'_>, mistakes: &mut Vec<Mistake>) {
    if let Some(chdir) = &mut merged.config.chdir {
        *chdir = inputs.cwd.join(&*chdir);
    }
    let base = merged
        .config
        .chdir
        .clone()
        .unwrap_or_else(|| inputs.cwd.to_owned());
    for (_, directory) in &mut merged.config.r#static {
        *directory = base.join(&*directory);
    }
    if let Some(root) = &mut merged.config.sendfile_root {
        *root = base.join(&*root);
    }
    let mut check = Check { merged, mistakes };
    check.app(inputs.takes_app);
    check.binds(inputs.services);
    check.tls();
    check.directories(&base);
    check.files(&base);
    check.accounts();
}

impl Check<'_> {
    /// A value that was not set cannot be wrong, unless the whole is; its source is blamed then, too.
    fn blame(&mut self, name: &str, problem: String) {
        let source = index_of(name).and_then(|index| self.merged.sources.get(index));
        let source = source.cloned().unwrap_or(Source::Default);
        let problem = match &source {
            Source::File { .. } | Source::Default => format!("{name}: {problem}"),
            Source::Variable(_)
            | Source::CommandVariable(_)
            | Source::Flag(_)
            | Source::Argument => problem,
        };
        self.mistakes.push(Mistake::new(source, problem));
    }

    fn app(&mut self, takes_app: bool) {
        let config = &self.merged.config;
        match &config.wsgi_app {
            None if takes_app => {
                // A mistake in the app's own name has been told already.
                let told = index_of("wsgi_app")
                    .and_then(|index| self.merged.sources.get(index))
                    .is_some_and(|source| *source != Source::Default);
                if !told {
                    let problem = "No application module specified.".to_owned();
                    self.mistakes.push(Mistake {
                        source: None,
                        problem,
                    });
                }
            }
            Some(app) if !takes_app => {
                let problem = format!("{app}: this program is the app itself");
                self.blame("wsgi_app", problem);
            }
            None | Some(_) => {}
        }
    }

    fn binds(&mut self, services: Option<&[String]>) {
        let config = &self.merged.config;
        let mut seen = HashSet::new();
        let mut problems = Vec::new();
        for bind in &config.bind {
            let chosen = matches!(bind.address, Address::Tcp { port: 0, .. });
            if !chosen && !seen.insert(&bind.address) {
                problems.push(format!("{:?}: is there twice", bind.address.to_string()));
            }
            let spoken = bind.spoken(config);
            if let Some(problem) = spoken.tls.as_ref().and_then(unfit) {
                problems.push(format!("{:?}: {problem}", bind.to_string()));
            }
            let missing = match &spoken.speaks {
                Speaks::Tcp(_) if services.is_none() && spoken.tls.is_some() => {
                    "services in Python are given the socket itself, without TLS".to_owned()
                }
                Speaks::Http | Speaks::Uwsgi => continue,
                Speaks::Tcp(_)
                    if services.is_none()
                        && matches!(config.wsgi_app, Some(AppPath::Builtin(_))) =>
                {
                    "there is no such service: they come with a Python app, or a Rust program of one's own".to_owned()
                }
                Speaks::Tcp(name) => match no_service(name, services) {
                    Some(problem) => problem,
                    None => continue,
                },
            };
            problems.push(format!("{:?}: {missing}", bind.to_string()));
        }
        if config.bind.is_empty() {
            problems.push("must name an address".to_owned());
        }
        for problem in problems {
            self.blame("bind", problem);
        }
    }

    fn tls(&mut self) {
        let config = &self.merged.config;
        let served = config
            .bind
            .iter()
            .any(|bind| bind.spoken(config).tls.is_some());
        if config.certfile.is_none() && config.keyfile.is_some() {
            self.blame(
                "keyfile",
                "is the key of a certfile, which is not there".to_owned(),
            );
        } else if config.cert_reqs != ClientCert::Off && !served {
            let problem = "asks clients for certificates, and there is no TLS: no certfile, and no https:// bind";
            self.blame("cert_reqs", problem.to_owned());
        }
    }

    fn directories(&mut self, base: &Path) {
        let config = &self.merged.config;
        let parent = |path: &PathBuf| {
            let whole = base.join(path);
            (whole.parent().map(Path::to_owned).unwrap_or(whole), true)
        };
        let log = |target: &LogTarget| match target {
            LogTarget::File(path) => Some(parent(path)),
            LogTarget::Standard => None,
        };
        let wanted = [
            ("chdir", config.chdir.clone().map(|path| (path, false))),
            (
                "worker_tmp_dir",
                config
                    .worker_tmp_dir
                    .as_ref()
                    .map(|path| (base.join(path), false)),
            ),
            ("pidfile", config.pidfile.as_ref().map(parent)),
            ("errorlog", log(&config.errorlog)),
            ("accesslog", config.accesslog.as_ref().and_then(log)),
        ];
        // Where chdir is wrong, what is relative to it cannot be judged.
        let lost = config.chdir.as_ref().is_some_and(|path| !path.is_dir());
        for (name, wanted) in wanted {
            let Some((path, of_file)) = wanted else {
                continue;
            };
            if path.is_dir() || (lost && name != "chdir" && path.starts_with(base)) {
                continue;
            }
            let what = match (path.exists(), of_file) {
                (true, true) => "is no directory, so that no file can be in it",
                (true, false) => "is no directory",
                (false, true) => "there is no such directory for the file",
                (false, false) => "there is no such directory",
            };
            self.blame(name, format!("{:?}: {what}", path.display().to_string()));
        }
    }

    /// What is served of the file system.
    fn files(&mut self, base: &Path) {
        let config = &self.merged.config;
        let mut problems = Vec::new();
        let mut wanted = |name, path: &Path| {
            if !path.is_dir() {
                let path = path.display().to_string();
                problems.push((name, format!("{path:?}: there is no such directory")));
            }
        };
        if let Some(directory) = config.wsgi_app.as_ref().and_then(AppPath::static_directory) {
            wanted("wsgi_app", &base.join(directory));
        }
        for (_, directory) in &config.r#static {
            wanted("static", directory);
        }
        if let Some(root) = &config.sendfile_root {
            wanted("sendfile_root", root);
        }
        let mut seen = HashSet::new();
        for (prefix, _) in &config.r#static {
            let prefix = prefix.trim_end_matches('/');
            if prefix.is_empty() {
                let problem =
                    "\"/\": would hide the app; builtin:static:DIRECTORY serves all paths";
                problems.push(("static", problem.to_owned()));
            } else if !seen.insert(prefix) {
                problems.push(("static", format!("{prefix:?}: is there twice")));
            }
        }
        let serves = !config.r#static.is_empty()
            || config.sendfile_root.is_some()
            || config
                .wsgi_app
                .as_ref()
                .and_then(AppPath::static_directory)
                .is_some();
        if serves && !cfg!(feature = "static") {
            let problem = "this program was built without static files (the feature `static`)";
            problems.push(("static", problem.to_owned()));
        }
        if !config.compress.is_empty() && !cfg!(feature = "compression") {
            let problem =
                "this program was built without compression (the feature `compression`)";
            problems.push(("compress", problem.to_owned()));
        }
        for (name, problem) in problems {
            self.blame(name, problem);
        }
    }

    fn accounts(&mut self) {
        let config = &self.merged.config;
        let user = config.user.as_deref().and_then(|name| {
            unknown(name, |name| {
                User::from_name(name).map(|user| user.is_some())
            })
        });
        let group = config.group.as_deref().and_then(|name| {
            unknown(name, |name| {
                Group::from_name(name).map(|group| group.is_some())
            })
        });
        if let Some(problem) = user {
            self.blame("user", problem);
        }
        if let Some(problem) = group {
            self.blame("group", problem);
        }
    }
}

/// What keeps TLS from being served.
fn unfit(tls: &TlsOptions) -> Option<&'static str> {
    let asks = tls.client_cert.is_some_and(|asks| asks != ClientCert::Off);
    if !cfg!(feature = "tls") {
        Some("TLS is not in this build of the server (cargo feature \"tls\")")
    } else if tls.certs.is_empty() {
        Some("has no certificate: say ?cert=FILE&key=FILE, or --certfile for all")
    } else if asks && tls.client_ca.is_none() {
        Some(
            "asks clients for certificates: say by which authorities they are checked, client-ca=FILE or --ca-certs",
        )
    } else {
        None
    }
}

/// What is wrong with a service's name.
fn no_service(name: &str, services: Option<&[String]>) -> Option<String> {
    let Some(services) = services else {
        let python = name
            .split_once(':')
            .is_some_and(|(module, callable)| !module.is_empty() && !callable.is_empty());
        return (!python)
            .then(|| "there is no such service; Python's are MODULE:CALLABLE".to_owned());
    };
    if services.iter().any(|known| known == name) {
        return None;
    }
    let near = nearest(name, services.iter().map(String::as_str));
    Some(format!("there is no such service{}", did_you_mean(near)))
}

/// What is wrong with an account's name; a number is always right, as in Gunicorn.
fn unknown(name: &str, exists: impl Fn(&str) -> nix::Result<bool>) -> Option<String> {
    if name.parse::<u32>().is_ok() {
        return None;
    }
    match exists(name) {
        Ok(true) => None,
        Ok(false) => Some(format!("{name:?}: the system knows no such name")),
        Err(error) => Some(format!("{name:?}: cannot be looked up: {error}")),
    }
}
