//! The configuration: merged, valid, immutable.
//!
//! Sources, the later over the earlier: defaults (some from `PORT`, `WEB_CONCURRENCY`, `FORWARDED_ALLOW_IPS`), the
//! file (TOML or Python), the variables `RGUN_NAME`, `RGUN_CMD_ARGS` or `GUNICORN_CMD_ARGS`, the command line. Within one source a repeated flag
//! accumulates where the setting is a list; between sources the later list replaces the earlier. An empty variable
//! counts as none, an empty text elsewhere as "no value" where a setting may be without.

mod address;
mod bind;
mod check;
mod compress;
mod declare;
mod file;
mod foreign;
mod generate;
mod kind;
mod list;
mod merge;
mod mount;
mod raw;
mod script;
mod settings;
mod tls;
mod value;

pub use address::Address;
pub use bind::{Bind, ClientCert, Protocol, ProxyProtocol, Speaks, Spoken, TlsOptions};
pub use declare::{Reload, Setting};
pub use kind::Form;
pub use merge::{Mistake, Source};
pub use settings::{Config, SETTINGS};
pub use tls::{CipherList, SUITES, Suite, TlsVersion, TlsWatch};
pub use value::{
    Algorithm, AllowList, AppPath, AsgiLifespan, AsgiLoop, HeaderMapping, Http2Cleartext,
    HttpProtocol, LogLevel, LogTarget, ReloadEngine, ReloadStrategy, WebsocketCompression,
    WorkerClass, WorkerRange,
};

#[cfg(any(test, feature = "python"))]
pub(crate) use foreign::HOOKS;
#[cfg(test)]
pub(crate) use foreign::Verdict;
pub(crate) use foreign::{FOREIGN, Takes};
pub(crate) use generate::print;
pub(crate) use merge::{CMD_ARGS, GUNICORN_CMD_ARGS, Given, Inputs, Merged, is_python, merge};
pub(crate) use raw::{Item, Raw};
pub(crate) use script::Evaluate;
#[cfg(any(test, feature = "python"))]
pub(crate) use script::{Evaluated, Place, Script};
#[cfg(feature = "python")]
pub(crate) use script::{FUNCTION, foreign_values};

/// Which settings differ between two configurations, by what has to be done about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadPlan {
    /// Names the master takes at once.
    pub live: Vec<&'static str>,
    /// Names that new workers have.
    pub new_workers: Vec<&'static str>,
    /// Names for which listeners are made anew.
    pub rebind: Vec<&'static str>,
    /// Names that stay as they are until a restart.
    pub restart: Vec<&'static str>,
}

impl ReloadPlan {
    /// Whether nothing changed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.live.is_empty()
            && self.new_workers.is_empty()
            && self.rebind.is_empty()
            && self.restart.is_empty()
    }
}

impl Config {
    /// What a reload to `new` has to do.
    #[must_use]
    pub fn plan(&self, new: &Self) -> ReloadPlan {
        let mut plan = ReloadPlan::default();
        for setting in SETTINGS.iter().filter(|setting| !(setting.same)(self, new)) {
            let names = match setting.reload {
                Reload::Live => &mut plan.live,
                Reload::NewWorkers => &mut plan.new_workers,
                Reload::Rebind => &mut plan.rebind,
                Reload::Restart => &mut plan.restart,
            };
            names.push(setting.name);
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_flags_are_unique() {
        let names = SETTINGS.iter().map(|setting| setting.name);
        let names = names.chain(FOREIGN.iter().map(|foreign| foreign.name));
        let flags = SETTINGS.iter().flat_map(|setting| setting.flags);
        let flags = flags.chain(FOREIGN.iter().flat_map(|foreign| foreign.flags));
        let flags = flags.chain(&["-c", "--config", "-h", "--help", "-v", "-V", "--version"]);
        let mut seen = HashSet::new();
        assert!(
            names
                .clone()
                .chain(flags.copied())
                .all(|name| seen.insert(name))
        );
        assert!(names.clone().count() > 100);
    }

    #[test]
    fn every_setting_is_documented_and_has_a_flag() {
        for setting in SETTINGS {
            let paragraphs = setting.paragraphs();
            assert!(paragraphs[0].ends_with('.'), "{}", setting.name);
            assert!(
                paragraphs.iter().all(|text| !text.is_empty()),
                "{}",
                setting.name
            );
            assert_eq!(setting.long_flag().is_none(), setting.name == "wsgi_app");
        }
    }

    #[test]
    fn every_default_reads_as_it_is_written() {
        let defaults = Config::default();
        for setting in SETTINGS {
            let line = format!("{} = {}", setting.name, setting.default_text());
            let entries = file::parse(&line, "test").unwrap();
            let mut config = Config::default();
            (setting.read)(&mut config, &Raw::Item(entries[0].item.clone())).unwrap();
            assert!((setting.same)(&config, &defaults), "{line}");
        }
    }

    #[test]
    fn the_files_of_the_repository_have_no_mistake() {
        for text in [
            include_str!("../../config/rgun.toml"),
            include_str!("../../config/minimal.toml"),
        ] {
            for entry in file::parse(text, "test").unwrap() {
                let setting = SETTINGS
                    .iter()
                    .find(|setting| setting.name == entry.key)
                    .unwrap();
                (setting.read)(&mut Config::default(), &Raw::Item(entry.item)).unwrap();
            }
        }
    }

    #[test]
    fn a_plan_names_what_changed_by_what_has_to_be_done() {
        let old = Config::default();
        let new = Config {
            workers: WorkerRange::fixed(3),
            daemon: true,
            backlog: 1,
            timeout: std::time::Duration::ZERO,
            ..Config::default()
        };
        let plan = ReloadPlan {
            live: vec!["workers"],
            new_workers: vec!["timeout"],
            rebind: vec!["backlog"],
            restart: vec!["daemon"],
        };
        assert_eq!(old.plan(&new), plan);
        assert!(!plan.is_empty() && old.plan(&old).is_empty());
    }
}
