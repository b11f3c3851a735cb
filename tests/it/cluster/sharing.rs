//! How replicas share clusters out: a home in which they see each other, and one API server for each cluster. Orders are those of the
//! rendezvous hashes, worked out by another program.

use std::{collections::BTreeMap, time::Duration};

use canary_mcp::{
    api::objects::{LEASE, NAMESPACE, ObjectExt},
    cluster::{
        Clock, Cluster, ClusterSpec, LeaseKeeper, Members, Membership, Overrides, Sharing,
        Standing, Taken,
        embedded::{server::ApiServer, store::Store},
    },
    decide::facts::Moment,
};
use serde_json::json;
use tokio::{sync::watch, time::Instant};

use super::support::{LEASES, Line, client, held, soon};

const HOME: &str = "home";

/// Bare API servers: the home and the clusters.
struct Site {
    home: ApiServer,
    clusters: BTreeMap<String, ApiServer>,
}

/// One replica as far as Leases go.
struct Replica {
    line: Line,
    members: watch::Sender<Members>,
    membership: Option<Membership>,
    keepers: BTreeMap<String, LeaseKeeper>,
}

fn server(name: &str) -> ApiServer {
    let server = ApiServer::new(
        name,
        Store::new(Clock::fast(Moment(1_795_219_200_000), 1.0)),
    );
    let namespace = json!({"metadata": {"name": LEASES}});
    server
        .store()
        .create(&NAMESPACE, namespace, "test")
        .unwrap();
    server
}

fn cluster(name: &str, server: &ApiServer, line: &Line) -> Cluster {
    Cluster::new(ClusterSpec {
        name: name.to_owned(),
        labels: BTreeMap::new(),
        client: client(server, line),
        clock: server.store().clock().clone(),
        leads: true,
        inside: false,
        embedded: true,
        overrides: Overrides::default(),
    })
}

impl Site {
    fn of(names: &[&str]) -> Self {
        let clusters = names.iter().map(|name| ((*name).to_owned(), server(name)));
        Self {
            home: server(HOME),
            clusters: clusters.collect(),
        }
    }

    fn two_hundred() -> Self {
        let names: Vec<String> = (0..200).map(|n| format!("cluster-{n}")).collect();
        Self::of(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A replica that leads at most so many clusters while it does not see the others.
    fn replica(&self, identity: &str, home: bool, most: usize) -> Replica {
        let line = Line::default();
        let members = watch::Sender::new(Members::NoHome);
        let sharing = Sharing::new(identity, members.subscribe(), most);
        let membership = home.then(|| {
            let home = cluster(HOME, &self.home, &line);
            Membership::join(&home, identity, LEASES, &members)
        });
        let keepers = self.clusters.iter().map(|(name, server)| {
            let cluster = cluster(name, server, &line);
            (
                name.clone(),
                LeaseKeeper::sharing(&cluster, LEASES, sharing.clone()),
            )
        });
        Replica {
            keepers: keepers.collect(),
            line,
            members,
            membership,
        }
    }

    /// Holder and transitions of each cluster's Lease, as they are stored.
    fn leases(&self) -> BTreeMap<String, (String, i64)> {
        let lease = |server: &ApiServer| {
            let lease = server.store().get(&LEASE, LEASES, "canary-mcp");
            let lease = lease.unwrap_or_default();
            let holder = lease.str_at("/spec/holderIdentity").unwrap_or_default();
            let transitions = lease.int_at("/spec/leaseTransitions").unwrap_or(0);
            (holder.to_owned(), transitions)
        };
        let all = self.clusters.iter();
        all.map(|(name, server)| (name.clone(), lease(server)))
            .collect()
    }

    /// How many clusters each holds; nobody is the empty name.
    fn shares(&self) -> BTreeMap<String, usize> {
        let mut shares = BTreeMap::new();
        for (holder, _) in self.leases().into_values() {
            *shares.entry(holder).or_default() += 1;
        }
        shares
    }

    /// Waits until the shares are these; how long it took.
    async fn until(&self, shares: &[(&str, usize)]) -> Duration {
        let wanted: BTreeMap<String, usize> = shares
            .iter()
            .map(|(name, n)| ((*name).to_owned(), *n))
            .collect();
        let began = Instant::now();
        while self.shares() != wanted {
            assert!(
                began.elapsed() < Duration::from_secs(1_800),
                "not within half an hour: {:?}",
                self.shares()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        began.elapsed()
    }

    /// Requests for Leases that the clusters' API servers were sent, by verb.
    fn requests(&self) -> BTreeMap<&'static str, u64> {
        let mut all = BTreeMap::new();
        for server in self.clusters.values() {
            for ((verb, _, plural), n) in server.faults().counts() {
                assert_eq!(plural, "leases");
                *all.entry(verb).or_default() += n;
            }
        }
        all
    }

    fn reset_counts(&self) {
        for server in self.clusters.values() {
            server.faults().reset_counts();
        }
    }
}

impl Replica {
    /// Ends as a clean shutdown does.
    async fn leave(mut self) {
        if let Some(membership) = self.membership.take() {
            membership.leave().await;
        }
        let keepers = std::mem::take(&mut self.keepers);
        futures::future::join_all(keepers.into_values().map(LeaseKeeper::release)).await;
    }

    async fn sees(&self, wanted: impl Fn(&Members) -> bool) -> Members {
        soon(&mut self.members.subscribe(), wanted).await
    }
}

fn live(names: &[&str]) -> Members {
    Members::Live(names.iter().map(|name| (*name).to_owned()).collect())
}

#[tokio::test(start_paused = true)]
async fn two_hundred_clusters_are_shared_out_without_a_herd_and_handed_over_when_a_replica_goes() {
    let site = Site::two_hundred();
    let first = site.replica("first", true, 200);
    let took = site.until(&[("first", 200)]).await;
    assert!(
        took < Duration::from_secs(1),
        "the first one has them all at once: {took:?}"
    );

    // Two more: each asks for its share, one cluster a second, and each cluster moves once.
    let second = site.replica("second", true, 200);
    let third = site.replica("third", true, 200);
    let before = site.leases();
    let took = site
        .until(&[("first", 77), ("second", 70), ("third", 53)])
        .await;
    assert!(
        (Duration::from_secs(70)..Duration::from_secs(100)).contains(&took),
        "{took:?}"
    );
    let after = site.leases();
    for (name, (holder, transitions)) in &after {
        let moved = i64::from(holder != "first");
        assert_eq!(*transitions, before[name].1 + moved, "{name}");
    }

    // At rest: one renewal every 5 s for each cluster, nothing else by anybody.
    tokio::time::sleep(Duration::from_secs(120)).await;
    site.reset_counts();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut requests = site.requests();
    // A watch is asked for anew now and then.
    requests.remove("watch");
    assert_eq!(requests, BTreeMap::from([("update", 200 * 12)]));
    // Spread over the 5 s.
    let mut renewed = BTreeMap::<i64, u32>::new();
    for server in site.clusters.values() {
        let lease = server.store().get(&LEASE, LEASES, "canary-mcp").unwrap();
        let at: jiff::Timestamp = lease.str_at("/spec/renewTime").unwrap().parse().unwrap();
        *renewed.entry(at.as_millisecond() / 500).or_default() += 1;
    }
    assert!(renewed.values().all(|n| *n <= 50), "{renewed:?}");

    // A clean shutdown hands over within 3 seconds.
    let left = Instant::now();
    second.leave().await;
    site.until(&[("first", 115), ("third", 85)]).await;
    assert!(
        left.elapsed() < Duration::from_secs(3),
        "{:?}",
        left.elapsed()
    );

    // A crash within the Lease's time, the rank and what the clocks of the two are apart.
    third.line.cut();
    let took = site.until(&[("first", 200)]).await;
    assert!(
        (Duration::from_secs(10)..Duration::from_secs(18)).contains(&took),
        "{took:?}"
    );
    first.sees(|members| *members == live(&["first"])).await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_first_but_cannot_reach_a_cluster_is_not_waited_for() {
    // The order of first, second and third for prod-kr is first, second, third.
    let site = Site::of(&["prod-kr"]);
    // Members that have no keeper: they cannot reach the cluster.
    let bare = Site {
        home: site.home.clone(),
        clusters: BTreeMap::new(),
    };
    let first = bare.replica("first", true, 200);
    first.sees(|members| *members == live(&["first"])).await;
    let second = site.replica("second", true, 200);
    second
        .sees(|members| *members == live(&["first", "second"]))
        .await;
    let began = Instant::now();
    held(&second.keepers["prod-kr"]).await;
    let took = began.elapsed();
    assert!(
        (Duration::from_millis(900)..Duration::from_millis(1_100)).contains(&took),
        "{took:?}"
    );

    // The third in line takes what has expired two seconds later than it might.
    let third = site.replica("third", true, 200);
    third
        .sees(|members| *members == live(&["first", "second", "third"]))
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    // Only the cluster is out of the second one's reach: it is alive.
    let partition = site.clusters["prod-kr"]
        .faults()
        .partition(|request| request.body.windows(6).any(|w| w == b"second"));
    let lease = site.clusters["prod-kr"]
        .store()
        .get(&LEASE, LEASES, "canary-mcp")
        .unwrap();
    let cut = Instant::now();
    let new = held(&third.keepers["prod-kr"]).await;
    let took = cut.elapsed();
    assert_eq!(new.taken(), Taken::Expired);
    assert_eq!(
        new.epoch().parse::<i64>().unwrap(),
        lease.int_at("/spec/leaseTransitions").unwrap() + 1
    );
    assert!(
        (Duration::from_secs(12)..=Duration::from_secs(17)).contains(&took),
        "{took:?}"
    );
    drop(partition);
}

#[tokio::test(start_paused = true)]
async fn without_the_home_everybody_keeps_what_it_leads() {
    let site = Site::of(&["prod-jp", "prod-kr", "staging"]);
    let first = site.replica("first", true, 200);
    site.until(&[("first", 3)]).await;
    let second = site.replica("second", true, 200);
    // staging is the second one's.
    site.until(&[("first", 2), ("second", 1)]).await;
    let before = site.leases();
    let partition = site.home.faults().partition(|_| true);
    for replica in [&first, &second] {
        replica
            .sees(|members| matches!(members, Members::Unknown(_)))
            .await;
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(site.leases(), before);

    // What is free is anybody's, at once, whosever share it was.
    let free = Instant::now();
    first.leave().await;
    site.until(&[("second", 3)]).await;
    assert!(
        free.elapsed() < Duration::from_secs(5),
        "{:?}",
        free.elapsed()
    );
    drop(partition);
    second.sees(|members| *members == live(&["second"])).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(site.shares(), BTreeMap::from([("second".to_owned(), 3)]));
}

#[tokio::test(start_paused = true)]
async fn without_a_home_each_takes_what_it_may_and_says_what_it_leaves() {
    let site = Site::of(&["prod-jp", "prod-kr", "staging"]);
    let first = site.replica("first", false, 2);
    site.until(&[("first", 2), ("", 1)]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let left: Vec<String> = first
        .keepers
        .values()
        .filter_map(|keeper| match &*keeper.watch().borrow() {
            Standing::Refused(why) => Some(why.clone()),
            Standing::Held(_) | Standing::Follower { .. } => None,
        })
        .collect();
    assert_eq!(
        left,
        [
            "this process leads its 2 clusters already (--lead-at-most): start another replica, or raise the number"
        ]
    );
    let second = site.replica("second", false, 2);
    site.until(&[("first", 2), ("second", 1)]).await;
    // It has room for one of the two that the first one leaves.
    first.leave().await;
    site.until(&[("", 1), ("second", 2)]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        site.shares(),
        BTreeMap::from([(String::new(), 1), ("second".to_owned(), 2)])
    );
    second.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_given_to_who_asks_when_the_writes_in_hand_have_ended() {
    // staging is the second one's.
    let site = Site::of(&["staging"]);
    let first = site.replica("first", true, 200);
    let old = held(&first.keepers["staging"]).await;
    let writing = old.writing().await;
    let second = site.replica("second", true, 200);
    let mut standing = first.keepers["staging"].watch();
    let (ended, taken) = tokio::join!(
        async {
            let at = |server: &ApiServer| {
                let lease = server.store().get(&LEASE, LEASES, "canary-mcp").unwrap();
                lease
                    .annotation("canary-mcp.dev/asked-by")
                    .map(str::to_owned)
            };
            while at(&site.clusters["staging"]).is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // Its holder sees it at the next renewal; from then on nothing new begins.
            while tokio::time::timeout(Duration::from_millis(10), old.writing())
                .await
                .is_ok()
            {}
            assert!(old.check().is_ok(), "what has begun may be written");
            assert!(second.keepers["staging"].held().is_none());
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(old.check().is_ok());
            drop(writing);
            soon(&mut standing, |standing| {
                !matches!(standing, Standing::Held(_))
            })
            .await;
            assert!(old.check().is_err());
            Instant::now()
        },
        async {
            let new = held(&second.keepers["staging"]).await;
            (new, Instant::now())
        }
    );
    let (new, at) = taken;
    assert_eq!(new.taken(), Taken::Asked);
    assert!(
        at.duration_since(ended) < Duration::from_millis(100),
        "{:?}",
        at.duration_since(ended)
    );
    let lease = site.clusters["staging"]
        .store()
        .get(&LEASE, LEASES, "canary-mcp")
        .unwrap();
    assert_eq!(lease.annotation("canary-mcp.dev/asked-by"), None);

    // The second one has just asked for it: within a minute nobody gets it from there by asking.
    let stored = |annotation: &str| {
        let annotation = annotation.to_owned();
        site.clusters["staging"]
            .store()
            .modify(&LEASE, LEASES, "canary-mcp", "test", move |lease| {
                lease["metadata"]["annotations"] = json!({"canary-mcp.dev/asked-by": annotation});
            })
            .unwrap();
    };
    drop(first.membership);
    second.sees(|members| *members == live(&["second"])).await;
    stored("first");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(
        new.check().is_ok(),
        "the first one is dead as far as anybody sees"
    );
}

#[tokio::test(start_paused = true)]
async fn the_presence_of_the_dead_is_removed_after_ten_minutes() {
    let site = Site::of(&[]);
    let first = site.replica("first", true, 200);
    let second = site.replica("second", true, 200);
    first
        .sees(|members| *members == live(&["first", "second"]))
        .await;
    let cut = Instant::now();
    second.line.cut();
    first.sees(|members| *members == live(&["first"])).await;
    // Its last renewal was up to 5 s before, and ours tells the time.
    let took = cut.elapsed();
    assert!(
        (Duration::from_secs(10)..=Duration::from_secs(20)).contains(&took),
        "{took:?}"
    );
    let presences = || site.home.store().list(&LEASE, Some(LEASES)).len();
    assert_eq!(presences(), 2);
    tokio::time::sleep(Duration::from_secs(570)).await;
    assert_eq!(presences(), 2);
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(presences(), 1);

    // It was not dead, only far away.
    second.line.mend();
    first
        .sees(|members| *members == live(&["first", "second"]))
        .await;
    second.leave().await;
    first.sees(|members| *members == live(&["first"])).await;
    assert_eq!(presences(), 1);
}
