//! The table of `get_status`: the rollouts of many clusters, in two questions. Which there are is asked of all; what runs in them only of
//! those that are shown.

use std::{collections::BTreeMap, time::Duration};

use futures::future::{FutureExt, join_all};

use super::{
    control::{Filter, Inner, Table},
    objects,
    turns::Limit,
};
use crate::{
    api::{
        objects::{Object, ObjectExt, Objects},
        status, view,
    },
    cluster::{Cluster, registry::Entry},
    decide::facts::Moment,
};

/// Rows that are shown; more are not for a conversation.
const MOST_ROWS: usize = 100;
/// Until when each cluster must have said which Canaries it has, from the call on.
const LISTED: Duration = Duration::from_millis(1_200);
/// How long what runs in them may take after that.
const READ: Duration = Duration::from_millis(600);

/// One Canary of one cluster.
type Found<'a> = (&'a Cluster, Object);

pub(super) async fn table(inner: &Inner, entries: &[&Entry], filter: &Filter) -> Table {
    let limit = Limit::new(LISTED);
    let each = entries
        .iter()
        .map(|entry| list(inner, entry, filter, limit).boxed());
    let mut unreachable = BTreeMap::new();
    let mut found: Vec<Found<'_>> = Vec::new();
    for (entry, listed) in entries.iter().zip(join_all(each).await) {
        match listed {
            Ok(canaries) => found.extend(canaries),
            Err(why) => drop(unreachable.insert(entry.name.as_str(), why)),
        }
    }
    let count = found.len();
    let running = found.iter().filter(|(_, canary)| runs(canary)).count();
    if count > MOST_ROWS {
        // Stable, so that each half stays by cluster, namespace and name.
        found.sort_by_key(|(_, canary)| !runs(canary));
        found.truncate(MOST_ROWS);
    }
    let limit = Limit::new(READ);
    let each = found
        .into_iter()
        .map(|found| read(inner, found, limit).boxed());
    let mut rows = Vec::new();
    for (cluster, objects, problem) in join_all(each).await {
        rows.push(view::row(&objects, cluster.clock().now()));
        if let Some(why) = problem {
            let why = format!("the images that run there could not be read: {why}");
            unreachable.entry(cluster.name()).or_insert(why);
        }
    }
    let unreachable = unreachable
        .iter()
        .map(|(name, why)| format!("{name}: {why}"));
    Table {
        rows,
        count,
        running,
        unreachable: unreachable.collect(),
    }
}

/// The Canaries of one cluster that are wanted.
async fn list<'a>(
    inner: &Inner,
    entry: &'a Entry,
    filter: &Filter,
    limit: Limit,
) -> Result<Vec<Found<'a>>, String> {
    let cluster = entry.cluster.as_ref().map_err(Clone::clone)?;
    let settings = inner.settings.on(cluster);
    let list = objects::canaries(cluster, &settings, filter.namespace.as_deref());
    let listed = inner.turns.ask(limit, limit.ask(list)).await;
    let canaries = listed.unwrap_or_else(|| Err(limit.late()))?;
    let wanted = |canary: &Object| filter.name.as_deref().is_none_or(|n| n == canary.name());
    Ok(canaries
        .into_iter()
        .filter(wanted)
        .map(|canary| (cluster, canary))
        .collect())
}

/// A Canary with what runs in its copies; without that where it cannot be read, and why.
async fn read<'a>(
    inner: &Inner,
    (cluster, canary): Found<'a>,
    limit: Limit,
) -> (&'a Cluster, Objects, Option<String>) {
    let copies = limit.ask(objects::read_copies(cluster, canary.clone()));
    match inner.turns.ask(limit, copies).await {
        Some(Ok(objects)) => (cluster, objects, None),
        lost => {
            let alone = Objects {
                cluster: cluster.name().to_owned(),
                canary,
                ..Objects::default()
            };
            let why = lost.and_then(Result::err).unwrap_or_else(|| limit.late());
            (cluster, alone, Some(why))
        }
    }
}

fn runs(canary: &Object) -> bool {
    status::state(canary, Moment(0)).phase.running()
}
