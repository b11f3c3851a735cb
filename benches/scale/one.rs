//! One cluster with a thousand Canaries: idle, with new revisions, and with a hundred rollouts at once.

use std::time::{Duration, Instant};

use super::{
    Options,
    process::Engine,
    site::{Site, name},
    table::{Table, millis, spread, until},
};

/// The engine leads every cluster.
const LEAD: [&str; 2] = ["--lead", "*"];
/// New revisions, one after the other, and how far apart.
const REVISIONS: usize = 200;
const APART: Duration = Duration::from_millis(250);
/// Rollouts at once, how often, and how far apart they begin and fail: a tenth of the interval of their analyses, so that these are not
/// all at one moment.
const ROLLOUTS: usize = 100;
const ROUNDS: usize = 2;
const STAGGER: Duration = Duration::from_millis(100);
/// Nothing takes longer than this.
const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) async fn measure(options: &Options, table: &mut Table) {
    let canaries = options.canaries;
    let site = Site::start(1, canaries).await;
    let kubeconfig = site.kubeconfig("kubeconfig", &[]);
    {
        let engine = Engine::start(&kubeconfig, &LEAD).await;
        let took = site.initialized().await;
        table.row(
            format!("{canaries} Canaries, one cluster: from an empty start to all initialized"),
            format!(
                "{:.1} s, {} requests, {:.1} s of CPU, {:.0} MB resident at the end",
                took.as_secs_f64(),
                site.recorder.counted().total(),
                engine.cpu(),
                engine.resident()
            ),
        );
        site.quiet().await;
    }
    site.recorder.reset();
    let engine = Engine::start(&kubeconfig, &LEAD).await;
    table.row(
        format!("{canaries} Canaries, started again: first `/readyz`, first `list_clusters`"),
        format!("{}, {}", millis(engine.ready), millis(engine.listed)),
    );
    site.quiet().await;
    if options.tells(&["idle"]) {
        window(
            &site,
            &engine,
            options,
            table,
            &format!("{canaries} Canaries, idle"),
        )
        .await;
    }
    if options.tells(&["revisions"]) {
        revisions(&site, canaries, table).await;
    }
    if options.tells(&["rollouts"]) {
        for round in 0..ROUNDS {
            rollouts(&site, &engine, options, table, round).await;
        }
    }
}

/// What is spent while nothing, or always the same, goes on.
pub(crate) async fn window(
    site: &Site,
    engine: &Engine,
    options: &Options,
    table: &mut Table,
    what: &str,
) {
    site.recorder.reset();
    let (began, cpu) = (Instant::now(), engine.cpu());
    tokio::time::sleep(options.window).await;
    let seconds = began.elapsed().as_secs_f64();
    let cpu = (engine.cpu() - cpu) / seconds * 100.0;
    let counted = site.recorder.counted();
    let watches = site.recorder.watches();
    table.row(
        format!("{what}: resident memory, CPU"),
        format!("{:.0} MB, {cpu:.2}% of a core", engine.resident()),
    );
    table.row(
        format!("{what}: requests"),
        format!(
            "{:.2}/s (in {seconds:.0} s: {})",
            counted.total() as f64 / seconds,
            counted.told()
        ),
    );
    table.row(
        format!("{what}: sockets, watches, bytes on the wire"),
        format!(
            "{} sockets, {} of them to the API server; {watches} watches with {:.0} bytes/s each; {:.0} bytes/s in all",
            engine.sockets(),
            site.recorder.connections(),
            counted.watched as f64 / seconds / (watches.max(1) as f64),
            counted.bytes as f64 / seconds
        ),
    );
}

/// From a new image of a target to the engine's first write for its Canary.
async fn revisions(site: &Site, canaries: usize, table: &mut Table) {
    site.recorder.reset();
    let changed: Vec<usize> = (0..REVISIONS.min(canaries)).collect();
    let mut since = Vec::new();
    for n in &changed {
        since.push(site.set_image(*n, "1.1.0"));
        tokio::time::sleep(APART).await;
    }
    let mut noticed = Vec::new();
    for (n, since) in changed.iter().zip(since) {
        let (name, mut at) = (name(*n), None);
        until("a new revision must be noticed", PATIENCE, || {
            at = site
                .recorder
                .written(since, |write| write.name.starts_with(&name));
            at.is_some()
        })
        .await;
        noticed.extend(at.map(|at| at - since));
    }
    table.row(
        format!("{canaries} Canaries: new revision of a target to the engine's first write"),
        spread(noticed),
    );
    // Back to what runs, which ends the rollouts.
    for n in changed {
        site.set_image(n, "1.0.0");
    }
    until("the rollouts must end", PATIENCE, || {
        site.canaries(|status| status["canaryWeight"] != 0 || status["phase"] == "Progressing") == 0
    })
    .await;
    site.quiet().await;
}

/// A hundred rollouts at once, and what becomes of them when their versions turn bad.
async fn rollouts(
    site: &Site,
    engine: &Engine,
    options: &Options,
    table: &mut Table,
    round: usize,
) {
    // None that was used before: a failed revision is not tried again.
    let first = options.canaries / 2 + round * ROLLOUTS;
    let rolled: Vec<usize> = (first..options.canaries).take(ROLLOUTS).collect();
    let count = rolled.len();
    for n in &rolled {
        site.set_image(*n, "1.2.0");
        tokio::time::sleep(STAGGER).await;
    }
    until("all rollouts must have traffic", PATIENCE, || {
        rolled
            .iter()
            .all(|n| site.status(*n)["canaryWeight"].as_i64() > Some(0))
    })
    .await;
    if round == 0 {
        let what = format!("{count} rollouts at interval 10s");
        window(site, engine, options, table, &what).await;
    }
    site.recorder.reset();
    for n in &rolled {
        site.recorder.fail(&name(*n));
        tokio::time::sleep(STAGGER).await;
    }
    let mut times = Vec::new();
    for n in &rolled {
        let (name, mut took) = (name(*n), None);
        until(
            "the route of a failed rollout must be written",
            PATIENCE,
            || {
                took = site.recorder.failed(&name).and_then(|failed| {
                    let route = |w: &super::recorder::Write| {
                        w.plural == "virtualservices" && w.name == name
                    };
                    Some(site.recorder.written(failed, route)? - failed)
                });
                took.is_some()
            },
        )
        .await;
        times.extend(took);
    }
    table.row(
        format!(
            "{count} rollouts, round {}: failing metric answered to the route written",
            round + 1
        ),
        spread(times),
    );
    until("all rollouts must have failed", PATIENCE, || {
        rolled.iter().all(|n| site.status(*n)["phase"] == "Failed")
    })
    .await;
    site.recorder.all_well();
}
