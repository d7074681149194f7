//! The configuration: merged, valid, immutable.
//!
//! Sources, the later over the earlier: defaults (some from `PORT`, `WEB_CONCURRENCY`, `FORWARDED_ALLOW_IPS`), the
//! TOML file, the variables `RGUN_NAME`, `RGUN_CMD_ARGS`, the command line. Within one source a repeated flag
//! accumulates where the setting is a list; between sources the later list replaces the earlier. An empty variable
//! counts as none, an empty text elsewhere as "no value" where a setting may be without.

mod check;
mod declare;
mod file;
mod foreign;
mod generate;
mod kind;
mod merge;
mod settings;
mod value;

pub use declare::{Reload, Setting};
pub use kind::Form;
pub use merge::{Mistake, Source};
pub use settings::{Config, SETTINGS};
pub use value::{AllowList, AppPath, Bind, HeaderMapping, LogLevel, LogTarget, WorkerClass};

pub(crate) use foreign::{FOREIGN, Takes};
pub(crate) use kind::Raw;
pub(crate) use generate::print;
pub(crate) use merge::{CMD_ARGS, Given, Inputs, Merged, merge};

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
