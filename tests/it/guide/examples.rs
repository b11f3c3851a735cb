//! `examples/guide/`: each is applied as it is to an embedded cluster, whose requests go to its app, and rolls a version out.

use canary_mcp::{
    api::{
        objects::{
            CANARY, DEPLOYMENT, Kind, METRIC_TEMPLATE, NAMESPACE, Object, ObjectExt, SERVICE,
        },
        preview::Preview,
    },
    cluster::embedded::{store::Store, traffic::Counts},
    decide::{
        facts::{Moment, Verb},
        state::Phase,
    },
    engine::control::{Key, Outcome, Planned, Start, Wish},
};
use serde_json::Value;

use crate::support::{NAME, Rig, World as _};

/// What an example is: its files, without their folder.
#[derive(Clone, Copy)]
pub(super) struct Files {
    pub(super) app: &'static str,
    pub(super) canary: &'static str,
}

macro_rules! files {
    ($folder:literal) => {
        Files {
            app: include_str!(concat!("../../../examples/guide/", $folder, "/app.yaml")),
            canary: include_str!(concat!("../../../examples/guide/", $folder, "/canary.yaml")),
        }
    };
}
pub(super) use files;

/// One moment of a run: seconds since its start, and phase and traffic as people say them: `Progressing 5%`, `Progressing copies of 100%`.
pub(super) type Row = (i64, String);

/// An example on a cluster of its own, led by an engine.
pub(super) struct Shown {
    pub(super) rig: Rig,
    key: Key,
    app: String,
}

impl Shown {
    /// Applies an example, with this change to its Canary, and waits until it is initialized and its metrics are there.
    pub(super) async fn with(files: Files, change: impl FnOnce(&mut Value)) -> Self {
        let mut canary: Value = serde_saphyr::from_str(files.canary).unwrap();
        change(&mut canary);
        let (namespace, app) = (
            canary.namespace().to_owned(),
            canary.str_at("/spec/targetRef/name").unwrap().to_owned(),
        );
        let mut rig = Rig::with_fleet(|fleet| {
            fleet.traffic.truncate(1);
            for source in &mut fleet.traffic {
                source.namespace.clone_from(&namespace);
                source.service.clone_from(&app);
            }
        });
        rig.delete(&CANARY, NAME);
        let store = rig.member().server.store();
        // 10 s to come up, and these: a minute, as the guide reckons ("Phase 1: Initialization (0-1 min)").
        let steady = |doc: &mut Value| {
            if doc["kind"] == "Deployment" && doc.name() == app {
                doc["spec"]["minReadySeconds"] = 50.into();
            }
        };
        let mut docs: Vec<Value> = serde_saphyr::from_multiple(files.app).unwrap();
        docs.iter_mut().for_each(steady);
        for doc in &docs {
            apply(store, doc);
        }
        apply(store, &canary);
        rig.start_engine("first");
        let key = Key {
            cluster: "prod-kr".to_owned(),
            namespace,
            name: canary.name().to_owned(),
        };
        let shown = Self { rig, key, app };
        shown
            .until(|c| c.str_at("/status/phase") == Some("Initialized"))
            .await;
        shown.rig.pass(180).await;
        shown
    }

    /// Applies an example as it is.
    pub(super) async fn of(files: Files) -> Self {
        Self::with(files, |_| {}).await
    }

    pub(super) fn canary(&self) -> Object {
        self.object(&CANARY, &self.key.name)
    }

    fn object(&self, kind: &Kind, name: &str) -> Object {
        let store = self.rig.member().server.store();
        store.get(kind, &self.key.namespace, name).unwrap()
    }

    fn start(&self, tag: &str) -> Start {
        Start {
            key: self.key.clone(),
            image: Some(self.image(tag)),
            container: None,
            retry: false,
            expect_revision: None,
            by: Some("test".to_owned()),
        }
    }

    fn image(&self, tag: &str) -> String {
        format!("registry.example/{}:{tag}", self.app)
    }

    /// The image that users get.
    pub(super) fn live(&self) -> String {
        let primary = self.object(&DEPLOYMENT, &format!("{}-primary", self.app));
        primary
            .str_at("/spec/template/spec/containers/0/image")
            .unwrap()
            .to_owned()
    }

    pub(super) async fn planned(&self, tag: &str) -> Preview {
        let Planned { acted, preview } = self.rig.control.preview(&self.start(tag)).await.unwrap();
        assert_eq!(acted.outcome, Outcome::Planned, "{}", acted.reason);
        preview.unwrap()
    }

    /// Rolls a version out to this end: every change of phase and traffic. Who is asked approves after two minutes.
    pub(super) async fn run(&self, tag: &str, end: Phase) -> Vec<Row> {
        let began = self.rig.now();
        let acted = self.rig.control.start(&self.start(tag)).await.unwrap();
        assert_eq!(acted.outcome, Outcome::Applied, "{}", acted.reason);
        // Where the last run ended is no end of this one.
        self.until(|c| c.str_at("/status/phase") == Some("Progressing"))
            .await;
        let mut rows: Vec<Row> = Vec::new();
        let mut opened = false;
        loop {
            let last = rows.last().map(|(_, row)| row.clone());
            self.until(|c| Some(row(c)) != last).await;
            let canary = self.canary();
            rows.push((self.rig.now().since(began) / 1000, row(&canary)));
            match canary.str_at("/status/phase").unwrap() {
                phase if phase == end.name() => return rows,
                "WaitingPromotion" if !opened => {
                    opened = true;
                    self.rig.pass(120).await;
                    self.approve().await;
                }
                "Failed" | "Succeeded" => panic!("{rows:?}: {canary:#}"),
                _ => {}
            }
        }
    }

    async fn approve(&self) {
        let wish = Wish {
            key: self.key.clone(),
            verb: Verb::Promote,
            skip: false,
            to: None,
            reason: None,
            by: Some("test".to_owned()),
            patience: std::time::Duration::from_secs(30),
        };
        let acted = self.rig.control.wish(&wish).await.unwrap();
        assert_eq!(acted.outcome, Outcome::Applied, "{}", acted.reason);
    }

    async fn until(&self, wanted: impl Fn(&Value) -> bool) {
        let mut changes = self.rig.member().server.store().subscribe();
        let limit = self.rig.now().plus(4 * 3_600_000);
        while !wanted(&self.canary()) {
            assert!(
                self.rig.now() < limit,
                "not within four virtual hours: {:#}",
                self.canary()
            );
            changes.changed().await.unwrap();
        }
    }

    /// The end of a run: this version is live, the canary is gone, and no user of this time went without an answer, to within the requests of a
    /// second. (A load test goes on for a while when its canary is gone; nobody answers that.)
    pub(super) async fn assert_ended(&self, tag: &str, since: &(Moment, Counts)) {
        self.rig.pass(120).await;
        assert_eq!(self.live(), self.image(tag));
        assert_eq!(
            self.object(&DEPLOYMENT, &self.app).int_at("/spec/replicas"),
            Some(0)
        );
        let (began, counts) = since;
        let users = self.rig.counts().since(counts).classes;
        let answered: u64 = users
            .iter()
            .filter(|(class, _)| *class != "load")
            .flat_map(|(_, by)| by.values())
            .sum();
        let sent = 20 * u64::try_from(self.rig.now().since(*began) / 1000).unwrap();
        assert!(
            answered.abs_diff(sent) <= 20,
            "{answered} of {sent}: {users:?}"
        );
    }

    /// The requests so far.
    pub(super) fn so_far(&self) -> (Moment, Counts) {
        (self.rig.now(), self.rig.counts())
    }
}

fn apply(store: &Store, doc: &Value) {
    let kinds = [NAMESPACE, DEPLOYMENT, SERVICE, METRIC_TEMPLATE, CANARY];
    let kind = kinds
        .into_iter()
        .find(|kind| doc["kind"] == kind.kind)
        .unwrap();
    // Some of the namespaces are there.
    if store.get(&kind, doc.namespace(), doc.name()).is_none() {
        store.create(&kind, doc.clone(), "kubectl").unwrap();
    }
}

fn row(canary: &Value) -> String {
    let phase = canary.str_at("/status/phase").unwrap_or_default();
    let weight = canary.int_at("/status/canaryWeight").unwrap_or(0);
    let run = &canary["status"]["run"];
    let mirror = run["mirror"].as_i64().unwrap_or(0);
    let traffic = match (weight, run["matched"] == true, mirror) {
        (0, true, _) => "the match".to_owned(),
        (0, false, mirror) if mirror > 0 => format!("copies of {mirror}%"),
        (0, false, _) if run["stage"] == "analysing" => "without users".to_owned(),
        (weight, _, _) => format!("{weight}%"),
    };
    format!("{phase} {traffic}")
}

/// What a dry run foresees, as rows. What says the same as the row before is left out: further analyses of one step.
pub(super) fn foreseen(preview: &Preview) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for step in &preview.steps {
        let what = step.what.as_deref().unwrap_or_default();
        let traffic = match what.split_once(" of the requests are copied") {
            Some((percent, _)) => format!("copies of {percent}"),
            None if what.contains("the match names") => "the match".to_owned(),
            None if what.contains("without users") => "without users".to_owned(),
            None => format!("{}%", step.weight),
        };
        let row = format!("{} {traffic}", step.phase.name());
        if rows.last().is_none_or(|(_, last)| *last != row) {
            rows.push((step.after_seconds, row));
        }
    }
    rows
}

/// Each line of a timeline that somebody has written down, `(minute, what)`, was reached within `tolerance` seconds of its minute.
pub(super) fn assert_near(rows: &[Row], written: &[(i64, &str)], tolerance: i64) {
    for (minute, what) in written {
        let found = rows.iter().find(|(_, row)| row == what);
        let (at, _) = found.unwrap_or_else(|| panic!("never {what}: {rows:?}"));
        assert!(
            (at - minute * 60).abs() <= tolerance,
            "{what} at {at} s, not near minute {minute}: {rows:?}"
        );
    }
}
