//! Who serves which of the sockets of an address that has several (`--reuse-port`). Pure.
//!
//! The kernel spreads connections over all sockets that listen at an address, served or not. So a socket is never closed
//! while its address is wanted, and each has a worker that accepts from it: at its start a worker gets those that
//! [`own`] gives to its slot, and when the last worker of a socket leaves or dies, [`hand_over`] finds one that takes
//! it as well.

/// A listening socket, by whatever descriptor it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SocketId(pub(super) u64);

/// Which of `sockets` sockets the worker in `slot` of `workers` serves from its start. Together the slots have all of them;
/// one has none where there are fewer sockets than workers.
pub(super) fn own(
    slot: usize,
    workers: usize,
    sockets: usize,
) -> impl Iterator<Item = usize> + use<> {
    let workers = workers.max(1);
    (0..sockets).filter(move |socket| socket % workers == slot)
}

/// A worker that accepts, as far as this is concerned. `I` is what it is named by.
#[derive(Clone, Debug)]
pub(crate) struct Server<I> {
    pub(crate) id: I,
    /// It is not about to be told to leave.
    pub(crate) stays: bool,
    /// What it accepts from.
    pub(crate) serves: Vec<SocketId>,
    /// What it has been given and does not yet say to accept from.
    pub(crate) adopting: Vec<SocketId>,
}

/// What is to be done so that each socket has a worker that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handover<I> {
    /// Each socket that needs a worker, and those who can take it, the least burdened first.
    pub(crate) give: Vec<(SocketId, Vec<I>)>,
    /// Who must not leave before another worker accepts from what only it serves, and from which socket.
    pub(crate) wait: Vec<(I, SocketId)>,
}

/// Finds a worker for each of `sockets` that no staying one of `servers` serves. Where nobody stays nobody waits.
pub(crate) fn hand_over<I: Copy>(sockets: &[SocketId], servers: &[Server<I>]) -> Handover<I> {
    let mut give = Vec::new();
    let mut wait = Vec::new();
    // How many sockets each will have when all that is given here is taken.
    let mut load: Vec<usize> = servers
        .iter()
        .map(|server| server.serves.len() + server.adopting.len())
        .collect();
    for socket in sockets {
        let staying = || servers.iter().filter(|server| server.stays);
        if staying().any(|server| server.serves.contains(socket)) {
            continue;
        }
        if staying().next().is_none() {
            break;
        }
        let leaving = servers
            .iter()
            .filter(|server| !server.stays && server.serves.contains(socket));
        wait.extend(leaving.map(|server| (server.id, *socket)));
        if staying().any(|server| server.adopting.contains(socket)) {
            continue;
        }
        let mut takers: Vec<(usize, usize, I)> = servers
            .iter()
            .zip(&load)
            .enumerate()
            .filter(|(_, (server, _))| server.stays)
            .map(|(place, (server, load))| (*load, place, server.id))
            .collect();
        takers.sort_by_key(|(load, place, _)| (*load, *place));
        if let Some((_, place, _)) = takers.first()
            && let Some(load) = load.get_mut(*place)
        {
            *load += 1;
        }
        give.push((*socket, takers.into_iter().map(|(_, _, id)| id).collect()));
    }
    Handover { give, wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(id: char, stays: bool, serves: &[u64], adopting: &[u64]) -> Server<char> {
        let ids = |numbers: &[u64]| numbers.iter().copied().map(SocketId).collect();
        Server {
            id,
            stays,
            serves: ids(serves),
            adopting: ids(adopting),
        }
    }

    fn sockets(count: u64) -> Vec<SocketId> {
        (0..count).map(SocketId).collect()
    }

    #[test]
    fn each_socket_has_one_slot_whatever_their_numbers() {
        for workers in 1..9 {
            for sockets in 0..20 {
                let mut given: Vec<usize> = (0..workers)
                    .flat_map(|slot| own(slot, workers, sockets))
                    .collect();
                given.sort_unstable();
                assert_eq!(given, (0..sockets).collect::<Vec<_>>());
                let most = (0..workers).map(|slot| own(slot, workers, sockets).count());
                assert!(most.max() <= Some(sockets.div_ceil(workers)));
            }
        }
    }

    #[test]
    fn what_is_served_by_who_stays_is_left_as_it_is() {
        let servers = [
            server('a', true, &[0], &[]),
            server('b', true, &[1], &[]),
            server('c', false, &[0, 1], &[]),
        ];
        let plan = hand_over(&sockets(2), &servers);
        assert_eq!(
            plan,
            Handover {
                give: vec![],
                wait: vec![]
            }
        );
    }

    #[test]
    fn who_leaves_waits_until_the_least_burdened_neighbour_accepts() {
        let mut servers = [
            server('a', true, &[0, 3], &[]),
            server('b', true, &[1], &[]),
            server('c', false, &[2], &[]),
        ];
        let plan = hand_over(&sockets(4), &servers);
        assert_eq!(plan.give, [(SocketId(2), vec!['b', 'a'])]);
        assert_eq!(plan.wait, [('c', SocketId(2))]);
        // It was given: nothing is given twice, and it still waits.
        servers[1].adopting = vec![SocketId(2)];
        let plan = hand_over(&sockets(4), &servers);
        assert_eq!((plan.give, plan.wait), (vec![], vec![('c', SocketId(2))]));
        servers[1] = server('b', true, &[1, 2], &[]);
        assert!(hand_over(&sockets(4), &servers).wait.is_empty());
    }

    #[test]
    fn the_sockets_of_a_dead_worker_are_spread_over_the_living() {
        let servers = [server('a', true, &[0], &[]), server('b', true, &[1], &[])];
        let plan = hand_over(&sockets(6), &servers);
        let first: Vec<char> = plan.give.iter().map(|(_, takers)| takers[0]).collect();
        assert_eq!(first, ['a', 'b', 'a', 'b']);
        assert!(plan.wait.is_empty());
    }

    #[test]
    fn where_nobody_stays_nobody_waits() {
        let servers = [server('a', false, &[0, 1], &[])];
        let plan = hand_over(&sockets(2), &servers);
        assert!(plan.give.is_empty() && plan.wait.is_empty());
    }

    /// Random lives: workers come with what their slot has, leave, die and adopt, in any order; after each turn of the
    /// plan either everything is served by who stays or will be once the adoptions are confirmed.
    #[test]
    fn in_any_order_of_events_no_socket_is_left_alone() {
        let mut seed: u64 = 1;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(seed >> 33).unwrap() % below
        };
        for _ in 0..200 {
            let all = sockets(u64::try_from(1 + random(8)).unwrap());
            let mut servers: Vec<Server<usize>> = Vec::new();
            for age in 0..60 {
                match random(4) {
                    0 => {
                        let workers = 1 + random(6);
                        let mine = own(random(workers), workers, all.len());
                        servers.push(Server {
                            id: age,
                            stays: true,
                            serves: mine.map(|index| all[index]).collect(),
                            adopting: vec![],
                        });
                    }
                    1 if !servers.is_empty() => {
                        let place = random(servers.len());
                        servers.remove(place);
                    }
                    2 if !servers.is_empty() => {
                        let place = random(servers.len());
                        servers[place].stays = false;
                    }
                    _ => {}
                }
                let plan = hand_over(&all, &servers);
                for (socket, takers) in plan.give {
                    let taker = takers[0];
                    let taker = servers
                        .iter_mut()
                        .find(|server| server.id == taker)
                        .unwrap();
                    assert!(taker.stays);
                    taker.adopting.push(socket);
                }
                if servers.iter().any(|server| server.stays) {
                    for socket in &all {
                        assert!(servers.iter().any(|server| server.stays
                            && (server.serves.contains(socket)
                                || server.adopting.contains(socket))));
                    }
                }
                // Those who leave and need not wait do so: what they served has somebody who accepts already.
                let waiting = hand_over(&all, &servers).wait;
                let somebody = servers.iter().any(|server| server.stays);
                for server in servers.iter().filter(|server| !server.stays && somebody) {
                    if waiting.iter().all(|(id, _)| *id != server.id) {
                        assert!(server.serves.iter().all(|socket| {
                            servers
                                .iter()
                                .any(|other| other.stays && other.serves.contains(socket))
                        }));
                    }
                }
                if random(2) == 0 {
                    for server in &mut servers {
                        let adopted = std::mem::take(&mut server.adopting);
                        server.serves.extend(adopted);
                    }
                }
            }
        }
    }
}
