//! With several sockets at an address each has a worker that accepts from it: those of a worker that leaves, or has died,
//! are given to a neighbour (`listener::hand_over` says which), over its channel.

use std::collections::BTreeSet;

use nix::unistd::Pid;

use super::Master;
use super::children::Life;
use super::reload::told;
use super::upgrade::Standing;
use crate::listener::{Bound, Server, SocketId, hand_over};

impl Master {
    /// Sees to it that each socket has a worker, now that `leaving` are about to be told to leave; tells who of them must
    /// not yet, as a neighbour does not accept from what it leaves.
    pub(super) fn hand_over(&mut self, leaving: &[Pid]) -> Vec<Pid> {
        let mut waiting = Vec::new();
        for name in self.divided() {
            self.grow(&name, leaving);
            let mut sockets = self.sockets(&name);
            sockets.retain(|socket| !self.is_expected(&name, *socket));
            let plan = hand_over(&sockets, &self.servers(&name, leaving));
            let mut given = Vec::new();
            for (socket, takers) in plan.give {
                if takers.into_iter().any(|pid| self.give(&name, socket, pid)) {
                    given.push(socket);
                }
            }
            // Where nobody can take it, waiting is of no use: the master keeps it, and with it those who wait there.
            let servers = self.servers(&name, leaving);
            let taken = |socket: &SocketId| {
                servers
                    .iter()
                    .any(|server| server.stays && server.adopting.contains(socket))
            };
            let plan = plan.wait.into_iter();
            waiting.extend(plan.filter(|(_, socket)| taken(socket)).map(|(pid, _)| pid));
        }
        waiting
    }

    /// Whether another worker, or another master's, accepts from all that this one does.
    pub(super) fn is_followed(&self, pid: Pid) -> bool {
        if self.has_other_master() {
            return true;
        }
        let editions = || [Some(&self.current), self.coming.as_ref()];
        let stays = |id: &SocketId| {
            let mut editions = editions().into_iter().flatten();
            editions.all(|edition| edition.bound.iter().any(|bound| bound.ids().contains(id)))
        };
        let child = self.children.iter().find(|child| child.pid == pid);
        child.is_some_and(|child| child.serves.iter().all(stays))
    }

    /// Another master serves the same sockets: an upgrade is under way, and its new master is ready.
    pub(super) fn has_other_master(&self) -> bool {
        !matches!(
            self.upgrade.standing(),
            Standing::Alone | Standing::Awaiting(_)
        )
    }

    /// The addresses with more than one socket, or that will have.
    fn divided(&self) -> BTreeSet<String> {
        let editions = [Some(&self.current), self.coming.as_ref()];
        editions
            .into_iter()
            .flatten()
            .flat_map(|edition| &edition.bound)
            .filter(|bound| bound.is_per_slot() || bound.ids().len() > 1)
            .map(|bound| bound.name().to_owned())
            .collect()
    }

    /// At the start a socket waits for its own worker, which is about to be ready like all others.
    fn is_expected(&self, name: &str, socket: SocketId) -> bool {
        let editions = [Some(&self.current), self.coming.as_ref()];
        let starting = editions
            .into_iter()
            .flatten()
            .find(|edition| edition.bound.iter().any(|bound| bound.name() == name))
            .is_some_and(|edition| !edition.proven);
        let mut children = self.children.iter();
        starting
            && children
                .any(|child| child.life == Life::Booting && child.serves.contains(&socket))
    }

    fn sockets(&self, name: &str) -> Vec<SocketId> {
        self.bound(name).map_or_else(Vec::new, Bound::ids)
    }

    fn bound(&self, name: &str) -> Option<&Bound> {
        let editions = [Some(&self.current), self.coming.as_ref()];
        editions
            .into_iter()
            .flatten()
            .flat_map(|edition| &edition.bound)
            .find(|bound| bound.name() == name)
    }

    /// The workers that accept and whose configuration has the address, and what they serve of it.
    fn servers(&self, name: &str, leaving: &[Pid]) -> Vec<Server<Pid>> {
        let has = |bound: &[Bound]| bound.iter().any(|bound| bound.name() == name);
        let coming = self.coming.as_ref();
        let of_coming = coming.is_some_and(|edition| has(&edition.bound));
        let of_current = has(&self.current.bound);
        let ids = self.sockets(name);
        self.children
            .iter()
            .filter(|child| child.life == Life::Ready)
            .filter(|child| match coming {
                Some(edition) if edition.generation == child.generation => of_coming,
                Some(_) | None => of_current,
            })
            .map(|child| {
                let mine = |all: &mut dyn Iterator<Item = &SocketId>| {
                    all.copied().filter(|id| ids.contains(id)).collect()
                };
                Server {
                    id: child.pid,
                    stays: !leaving.contains(&child.pid),
                    serves: mine(&mut child.serves.iter()),
                    adopting: mine(&mut child.adopting.iter()),
                }
            })
            .collect()
    }

    /// A new socket for each worker that is ready and has none: not before, as connections come to it at once.
    fn grow(&mut self, name: &str, leaving: &[Pid]) {
        let idle = self.servers(name, leaving).into_iter().filter(|server| {
            server.stays && server.serves.is_empty() && server.adopting.is_empty()
        });
        for server in idle {
            if self.refuses(server.id) {
                continue;
            }
            if self.upgrade.standing() != Standing::Alone {
                // Of two masters either may be the one that stays: neither makes a socket that the other has not.
                self.share_one(name, server.id);
                continue;
            }
            let options = self.newest().options(self.newest().workers.into());
            let editions = [Some(&mut self.current), self.coming.as_mut()];
            let mut bounds: Vec<_> = editions
                .into_iter()
                .flatten()
                .flat_map(|edition| &mut edition.bound)
                .filter(|bound| bound.name() == name && bound.is_per_slot())
                .collect();
            let Some((first, others)) = bounds.split_first_mut() else {
                return;
            };
            if let Err(error) = first.grow(&options) {
                tracing::error!(
                    "no socket for another worker, which shares one: {}",
                    told(&error)
                );
                self.share_one(name, server.id);
                continue;
            }
            for other in others {
                other.follow(first);
            }
        }
    }

    /// A worker without a socket of its own accepts from another's.
    fn share_one(&mut self, name: &str, pid: Pid) {
        let sockets = self.sockets(name);
        let place = usize::try_from(pid.as_raw()).unwrap_or(0);
        if let Some(socket) = sockets.get(place.checked_rem(sockets.len()).unwrap_or(0)) {
            self.give(name, *socket, pid);
        }
    }

    fn refuses(&self, pid: Pid) -> bool {
        let mut children = self.children.iter();
        children.any(|child| child.pid == pid && child.refuses)
    }

    fn give(&mut self, name: &str, socket: SocketId, to: Pid) -> bool {
        let editions = [Some(&self.current), self.coming.as_ref()];
        let mut bounds = editions
            .into_iter()
            .flatten()
            .flat_map(|edition| &edition.bound);
        let fd = bounds
            .find(|bound| bound.name() == name)
            .and_then(|bound| bound.socket(socket));
        let (Some(fd), Some(child)) =
            (fd, self.children.iter_mut().find(|child| child.pid == to))
        else {
            return false;
        };
        // Whose words count are those of the worker's own configuration.
        let mut editions = editions.into_iter().flatten();
        let place = editions
            .find(|edition| edition.generation == child.generation)
            .and_then(|edition| edition.bound.iter().position(|bound| bound.name() == name))
            .and_then(|place| u16::try_from(place).ok());
        let given = place.is_some_and(|place| !child.refuses && child.give(socket, place, fd));
        if given {
            tracing::debug!("{child} is given another socket of {name}");
        }
        given
    }
}
