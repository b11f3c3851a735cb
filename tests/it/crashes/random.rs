//! A thousand rollouts under faults at random: good versions and bad ones, wishes, new images and edits in the middle, engines that die,
//! API servers that refuse, hang, lose and are cut off. Judged by [`Judge`].
//!
//! The start value is printed; `CANARY_MCP_SEED` gives it, and with `CANARY_MCP_ROLLOUTS=1` one cluster is told again.

use std::time::Duration;

use canary_mcp::{
    api::{
        objects::{CANARY, DEPLOYMENT, EVENT, LEASE, ObjectExt},
        revision::revision,
    },
    cluster::embedded::{
        faults::{Fate, RequestInfo},
        status::Status,
    },
};
use fastrand::Rng;
use serde_json::json;
use tokio::sync::watch;

use super::{judge::Judge, short};
use crate::support::{Process, Rig};

/// Rollouts in one cluster, one after another.
const IN_ONE_CLUSTER: u64 = 10;
/// Of a thousand requests of an engine under faults so many go wrong.
const WRONG: u32 = 60;

/// Runs `rollouts` of them, in clusters of their own; every seed follows from the start value and `part`.
fn thousand_part(part: u64, rollouts: u64) {
    let given = |name| std::env::var(name).ok().and_then(|s| s.parse::<u64>().ok());
    let start = given("CANARY_MCP_SEED");
    let clusters = given("CANARY_MCP_ROLLOUTS")
        .unwrap_or(rollouts)
        .div_ceil(IN_ONE_CLUSTER);
    let first = start.unwrap_or_else(|| fastrand::u64(..1 << 40) << 8) + part * 64;
    println!(
        "CANARY_MCP_SEED={} (part {part} of it begins at {first})",
        first - part * 64
    );
    for seed in first..first + clusters {
        let broken = told(seed, IN_ONE_CLUSTER).broken;
        assert!(broken.is_empty(), "cluster of seed {seed}: {broken:#?}");
    }
}

/// What one cluster leaves.
struct Told {
    broken: Vec<String>,
    /// Every change but those of Leases: when, what, by whom.
    log: Vec<String>,
}

/// One cluster, in a runtime of its own with a clock that stands still while anything runs.
fn told(seed: u64, rollouts: u64) -> Told {
    // The jitter of kube's back-off.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let rig = Rig::with_fleet(|options| {
            options.seed = uuid::Uuid::from_u128(u128::from(seed));
            options.traffic.iter_mut().for_each(|t| t.per_second = 5);
        });
        rig.member().server.store().keep_history(1 << 16);
        rig.edit_spec(short);
        let weather = watch::Sender::new(false);
        let mut rng = Rng::with_seed(seed);
        decide(&rig, &weather, rng.fork());
        let mut teller = Teller {
            rig: &rig,
            weather: &weather,
            rng: rng.fork(),
            judge: Judge::default(),
            log: Vec::new(),
            heard: 0,
        };
        tokio::select! {
            biased;
            () = chaos(&rig, &weather, rng.fork()) => {}
            () = teller.tell(rollouts) => {}
        }
        Told {
            broken: teller.judge.broken,
            log: teller.log,
        }
    })
}

/// Under bad weather some of the engines' requests go wrong.
fn decide(rig: &Rig, weather: &watch::Sender<bool>, mut rng: Rng) {
    let weather = weather.subscribe();
    rig.member().server.faults().decide(move |request| {
        let hit = request.agent.starts_with("canary-mcp/") && *weather.borrow();
        if hit && rng.u32(..1000) < WRONG {
            fault(request, &mut rng)
        } else {
            Fate::Answered
        }
    });
}

fn fault(request: &RequestInfo, rng: &mut Rng) -> Fate {
    let refused = |code, reason, retry_after| {
        let status = Status {
            code,
            reason,
            message: format!("{request} was chosen to fail"),
            details: None,
            next: String::new(),
        };
        Fate::Refused(Box::new(status), retry_after)
    };
    // Only kube's own client, which is not in the way here, gives up on a list or a watch that is never answered.
    let may_hang = !matches!(request.verb, "list" | "watch");
    match rng.u8(..9) {
        0 => Fate::Lost,
        1 => Fate::Unanswered,
        2 => Fate::Late(Duration::from_millis(rng.u64(50..4_000))),
        3 if request.is_write() => refused(409, "Conflict", None),
        4 => refused(429, "TooManyRequests", Some(1)),
        5 if may_hang => Fate::Ignored,
        6 if may_hang => Fate::Hangs,
        7 if !may_hang => refused(410, "Expired", None),
        _ => refused(500, "InternalError", None),
    }
}

/// Two engines; under bad weather they die, come back, and are cut off. When it is fine both are there.
async fn chaos(rig: &Rig, weather: &watch::Sender<bool>, mut rng: Rng) {
    let mut bad = weather.subscribe();
    let mut count = 0;
    let mut start = || {
        count += 1;
        (count, rig.process(&format!("engine-{count}")))
    };
    let mut engines: [Option<(u32, Process)>; 2] = [Some(start()), Some(start())];
    let mut partition = None;
    loop {
        if !*bad.borrow_and_update() {
            partition.take();
            for engine in &mut engines {
                engine.get_or_insert_with(&mut start);
            }
            if bad.changed().await.is_err() {
                return;
            }
            continue;
        }
        let pause = Duration::from_millis(rng.u64(1_000..20_000));
        tokio::select! {
            biased;
            _ = bad.changed() => continue,
            () = tokio::time::sleep(pause) => {}
        }
        let one = &mut engines[rng.usize(..2)];
        match (rng.u8(..10), one) {
            (0..=2, one) => {
                if let Some((_, process)) = one.take() {
                    process.kill();
                }
            }
            (3..=5, one) => {
                one.get_or_insert_with(&mut start);
            }
            (6..=7, Some((number, _))) => {
                let agent = format!("canary-mcp/engine-{number}");
                let of_it = move |r: &RequestInfo| r.agent == agent;
                partition = Some(rig.member().server.faults().partition(of_it));
            }
            (8, _) => drop(partition.take()),
            (_, _) => {
                let engines = |r: &RequestInfo| r.agent.starts_with("canary-mcp/");
                rig.member().server.faults().break_watches(engines);
            }
        }
    }
}

/// Tells the rollouts of one cluster, and hears what the API server commits.
struct Teller<'a> {
    rig: &'a Rig,
    weather: &'a watch::Sender<bool>,
    rng: Rng,
    judge: Judge,
    log: Vec<String>,
    heard: u64,
}

impl Teller<'_> {
    async fn tell(&mut self, rollouts: u64) {
        let bad = self.rng.bool();
        self.turns(bad);
        self.pass(30).await;
        self.ends("the bootstrap", &["Initialized"]).await;
        for n in 1..=rollouts {
            self.rollout(n).await;
            if !self.judge.broken.is_empty() {
                return;
            }
        }
        let writes = self.rig.writes();
        self.pass(60).await;
        if self.rig.writes() != writes {
            self.judge.broken.push("7: writes at rest".to_owned());
        }
    }

    async fn rollout(&mut self, n: u64) {
        let bad = self.rng.u8(..4) > 0;
        self.turns(bad);
        let tag = self.tag(n);
        self.rig.set_image(&tag);
        let after = self.rng.u64(2..70);
        self.pass(after).await;
        let what = match self.rng.u8(..10) {
            0 => self.wish("rollback", false, n),
            1 => self.wish("promote", true, n),
            2 => self.wish("promote", false, n),
            3 | 4 => {
                let other = format!("{}b", self.rng.u8(..100));
                let other = self.tag(n).replace("2.", &format!("3.{other}."));
                self.rig.set_image(&other);
                other
            }
            5 => self.edit(),
            _ => String::new(),
        };
        let rest = self.rng.u64(5..40);
        self.pass(rest).await;
        self.ends(
            &format!("rollout {n} of {tag} {what}"),
            &["Succeeded", "Failed"],
        )
        .await;
    }

    /// Six of ten versions are good.
    fn tag(&mut self, n: u64) -> String {
        let ending = match self.rng.u8(..10) {
            0..=5 => "",
            6..=7 => "-errors",
            8 => "-slow",
            _ => "-crash",
        };
        format!("2.{n}.0{ending}")
    }

    fn wish(&mut self, verb: &str, skip: bool, n: u64) -> String {
        let canary = self.rig.canary();
        let Some(run) = canary.str_at("/status/run/id") else {
            return String::new();
        };
        if skip {
            self.judge.skip_asked(run);
        }
        let request = json!({"id": format!("wish-{n}"), "verb": verb, "run": run, "skip": skip, "by": "test"});
        let key = "canary-mcp.dev/request";
        self.rig
            .annotate(&CANARY, "mcp-server", key, &request.to_string());
        format!("{verb} {skip}")
    }

    fn edit(&mut self) -> String {
        let step = [10, 15, 30][self.rng.usize(..3)];
        let threshold = 1 + self.rng.u8(..3);
        self.rig.edit_spec(|spec| {
            spec["analysis"]["stepWeight"] = step.into();
            spec["analysis"]["threshold"] = threshold.into();
        });
        format!("steps of {step}, threshold {threshold}")
    }

    /// The weather turns fine, and the target's version comes to an end in one of these phases, within half an hour.
    async fn ends(&mut self, what: &str, phases: &[&str]) {
        self.turns(false);
        for _ in 0..360 {
            self.pass(5).await;
            let canary = self.rig.canary();
            let target = self.rig.object(&DEPLOYMENT, "mcp-server").unwrap();
            let live = revision(&target["spec"]["template"]);
            let ended = canary.str_at("/status/run/stage") == Some("idle")
                && canary
                    .str_at("/status/phase")
                    .is_some_and(|p| phases.contains(&p))
                && canary.str_at("/status/lastAppliedSpec") == Some(live.as_str());
            if ended {
                // Autoscalers and pods follow.
                self.pass(15).await;
                self.judge.at_rest();
                let lost = self.rig.counts().no_endpoint_503;
                if lost > 0 {
                    self.judge
                        .broken
                        .push(format!("{lost} requests hit nothing"));
                }
                self.name(what);
                return;
            }
        }
        let status = self.rig.canary()["status"].to_string();
        self.judge.broken.push(format!("no end: {status}"));
        self.name(what);
    }

    fn turns(&mut self, bad: bool) {
        self.judge.weather(bad, self.rig.now());
        self.weather.send_replace(bad);
    }

    fn name(&mut self, what: &str) {
        for broken in &mut self.judge.broken {
            *broken = format!("{broken} [{what}]");
        }
    }

    /// Lets the clock go on, and hears what was committed.
    async fn pass(&mut self, seconds: u64) {
        self.rig.pass(seconds).await;
        let store = self.rig.member().server.store();
        for change in store.changes_since(self.heard).unwrap() {
            self.heard = change.revision;
            self.judge.hear(&change);
            if !change.resource.is(&LEASE) {
                // Events have random names.
                let name = if change.resource.is(&EVENT) {
                    change.object.str_at("/note").unwrap_or_default()
                } else {
                    change.object.name()
                };
                let (at, manager) = (change.at.0, &change.manager);
                let (what, plural) = (change.kind, &change.resource.plural);
                self.log
                    .push(format!("{at} {manager} {what:?} {plural}/{name}"));
            }
        }
    }
}

#[test]
fn a_first_quarter_of_a_thousand() {
    thousand_part(0, 250);
}

#[test]
fn a_second_quarter_of_a_thousand() {
    thousand_part(1, 250);
}

#[test]
fn a_third_quarter_of_a_thousand() {
    thousand_part(2, 250);
}

#[test]
fn a_fourth_quarter_of_a_thousand() {
    thousand_part(3, 250);
}

/// One seed is one history, write by write.
#[test]
fn a_seed_repeats_exactly() {
    let (first, second) = (told(7, 3), told(7, 3));
    assert_eq!(first.broken, Vec::<String>::new());
    assert!(first.log.len() > 300, "{}", first.log.len());
    for (n, (one, other)) in first.log.iter().zip(&second.log).enumerate() {
        assert_eq!(one, other, "change {n}");
    }
    assert_eq!(first.log.len(), second.log.len());
}
