//! The objects of one Canary: read in full when there is something to decide, kept while a rollout is worked on, and let go when it rests.
//!
//! The watches say *that* an object has changed, by its version; what it says is then read. So nothing is ever older than our own last
//! write (a read comes after the write, and the answer of a write is taken at once), and nothing is missed that comes in while something is
//! read: what counts is not the wake-up but the comparison of what was read with what the watches show.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use futures::future::join_all;

use super::{CloseUp, Enrolled, lock};
use crate::{
    api::{
        objects::{CANARY, CONTROLLER_REVISION, METRIC_TEMPLATE, Object, ObjectExt, Objects, Ref},
        parse, status,
    },
    cluster::{
        Error, ErrorKind,
        form::{Form, Mark},
        watch::Watch,
    },
    decide::{
        facts::Moment,
        state::{Stage, State},
    },
    engine::objects::Refs,
};

/// Until an object is looked up that only our own write has shown, because its watch should long have shown it too.
pub(in crate::engine) const VERIFY: Duration = Duration::from_secs(30);

/// What is known of the objects of one Canary.
pub(in crate::engine) struct Near {
    enrolled: Enrolled,
    namespace: String,
    name: String,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// The Canary, parsed.
    canary: Option<Object>,
    /// Fingerprint of what was decided on last.
    decided: Option<u64>,
    /// What was read or written last of each object, whether it is held or not.
    known: BTreeMap<Ref, Known>,
    /// Everything is held in full.
    whole: bool,
    objects: BTreeMap<Ref, Object>,
}

/// One object as it was read or written last.
#[derive(Clone, Copy)]
struct Known {
    /// Its version; of one that was not there, the version that the watch had shown by then.
    version: u64,
    /// `None` when it was not there.
    mark: Option<u64>,
}

/// What the watch shows of one object, before it is read.
struct Shown {
    mark: Option<Mark>,
    /// Up to which version it shows anything; `None` without a watch, when the kind is not served.
    newest: Option<u64>,
}

impl Near {
    pub(in crate::engine) fn new(enrolled: Enrolled, namespace: String, name: String) -> Self {
        Self {
            enrolled,
            namespace,
            name,
            held: Mutex::default(),
        }
    }

    pub(in crate::engine) fn enrolled(&self) -> &Enrolled {
        &self.enrolled
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }

    /// The Canary as the watch shows it now, or as we wrote it since.
    fn canary(&self) -> Option<Object> {
        let packed = self.enrolled.world.canary(&self.namespace, &self.name)?;
        let mut held = self.held();
        let parsed = held.canary.take();
        let same = |c: &Object| Form::version(c) == packed.version() && packed.version() != 0;
        let canary = parsed.filter(same).unwrap_or_else(|| packed.object());
        held.canary = Some(canary.clone());
        Some(canary)
    }

    /// Reads what is not held, or has changed since it was read. False when the Canary is gone.
    pub(in crate::engine) async fn refresh(&self) -> Result<bool, Error> {
        let Some(canary) = self.canary() else {
            return Ok(false);
        };
        let state = status::state(&canary, Moment(0));
        let mut refs = Refs::of(&canary).all();
        refs.sort_unstable();
        refs.dedup();
        let in_hand = state.stage != Stage::Idle || state.traffic.serves();
        self.enrolled.names(&refs, in_hand).await?;
        refs.extend(self.pins(&canary, &state));
        let first = !self.held().whole;
        // A first look reads everything, and many may begin at the same time.
        let _turn = if first {
            self.enrolled.world.shared.looks.acquire().await.ok()
        } else {
            None
        };
        let wanted: Vec<(Ref, Shown)> = {
            let held = self.held();
            let each = refs.iter().map(|of| (of.clone(), self.shown(of)));
            each.filter(|(of, shown)| first || held.stale(of, shown, true))
                .collect()
        };
        let cluster = self.enrolled.world.cluster();
        let read = join_all(wanted.iter().map(|(of, _)| cluster.get(of))).await;
        let mut held = self.held();
        held.known.retain(|of, _| refs.contains(of));
        held.objects.retain(|of, _| refs.contains(of));
        let mut failed = None;
        for ((of, shown), found) in wanted.into_iter().zip(read) {
            match found {
                Ok(found) => held.read(of, found, &shown),
                // A template that we may not read fails its check, and must not keep a run from being rolled back.
                Err(error)
                    if in_hand
                        && of.kind == METRIC_TEMPLATE
                        && error.kind() == ErrorKind::Forbidden =>
                {
                    tracing::warn!(error = error.report(), "a metric template cannot be read");
                    held.read(of, None, &shown);
                }
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        held.whole = true;
        Ok(true)
    }

    /// What is held now is about to be decided on.
    pub(in crate::engine) fn decides(&self) {
        let version = self.version();
        let mut held = self.held();
        held.decided = Some(held.fingerprint(version));
    }

    /// Something is not as it was decided on last: it was written or read since, or the watches show that it has changed. While nothing is
    /// held a change of a status alone is none.
    pub(in crate::engine) fn is_stale(&self) -> bool {
        let version = self.version();
        let held = self.held();
        if held.decided != Some(held.fingerprint(version)) {
            return true;
        }
        let stale = |of: &Ref| held.stale(of, &self.shown(of), held.whole);
        held.known.keys().any(stale)
    }

    /// The Canary's version; 0 when it is gone.
    fn version(&self) -> u64 {
        let canary = self.enrolled.world.canary(&self.namespace, &self.name);
        canary.map_or(0, |canary| canary.version())
    }

    /// Some object is known by our own write alone.
    pub(in crate::engine) fn in_doubt(&self) -> bool {
        let held = self.held();
        held.known.iter().any(|(of, k)| self.unseen(of, k))
    }

    /// Looks such objects up at the next refresh: they may have been deleted in a gap of the watch.
    pub(in crate::engine) fn doubt(&self) {
        let mut held = self.held();
        let unseen = |(of, known): (&Ref, &Known)| self.unseen(of, known).then(|| of.clone());
        let unseen: Vec<Ref> = held.known.iter().filter_map(unseen).collect();
        for of in unseen {
            held.known.entry(of).and_modify(|known| known.version = 0);
        }
    }

    fn unseen(&self, of: &Ref, known: &Known) -> bool {
        let shown = self.shown(of);
        known.mark.is_some()
            && shown.mark.is_none()
            && shown.newest.is_some_and(|n| known.version > n)
    }

    /// All objects, as they are held. `None` when the Canary is gone.
    pub(in crate::engine) fn snapshot(&self, close: Option<&CloseUp>) -> Option<Objects> {
        let canary = self.canary()?;
        let (refs, uid) = (Refs::of(&canary), canary.uid().to_owned());
        let cluster = self.enrolled.world.cluster().name();
        let held = self.held();
        let mut objects = refs.gather(cluster, canary, |of| held.objects.get(of).cloned());
        objects.gateway_api = self.enrolled.world.gateway_api();
        let pins = held.objects.iter();
        let pins = pins.filter(|(of, pin)| of.kind == CONTROLLER_REVISION && pin.owned_by(&uid));
        objects.revisions = pins.map(|(_, pin)| pin.clone()).collect();
        drop(held);
        if let Some(close) = close {
            close.add_to(&mut objects);
        }
        Some(objects)
    }

    /// Takes the answer of our own write.
    pub(in crate::engine) fn put(&self, object: &Object) {
        let of = |kind| Ref {
            kind,
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
        };
        let Some(kind) = crate::engine::act::kind_of(object) else {
            return;
        };
        if kind == CANARY {
            self.enrolled.world.put(object);
        } else {
            self.held().put(of(kind), object);
        }
    }

    /// Nothing is to be done until something changes: what the objects say is let go, and only what they are known by is kept.
    pub(in crate::engine) fn let_go(&self) {
        let mut held = self.held();
        held.whole = false;
        held.canary = None;
        held.objects = BTreeMap::new();
    }

    /// The pins that are needed: at rest those that the run names, else all that are ours, of which the oldest are dropped, or one gone back
    /// to. What we made just now the watch may not have shown yet.
    fn pins(&self, canary: &Object, state: &State) -> Vec<Ref> {
        let mut names = self.enrolled.pins();
        let held = self.held();
        let made = held.known.iter().filter(|(_, known)| known.mark.is_some());
        let made = made.filter(|(of, _)| of.kind == CONTROLLER_REVISION);
        names.extend(made.map(|(of, _)| of.name.clone()));
        drop(held);
        names.sort_unstable();
        names.dedup();
        let goes_back = parse::request(canary)
            .and_then(Result::ok)
            .is_some_and(|request| {
                request.to.is_some() && state.handled_request.as_ref() != Some(&request.id)
            });
        if state.stage == Stage::Idle && !goes_back {
            let run = state.run.as_ref();
            let needed = [
                run.map(|r| r.template.clone()),
                run.and_then(|r| r.previous.clone()),
                state.promoted_pin(),
            ];
            names.retain(|name| needed.iter().flatten().any(|n| n == name));
        }
        let of = |name| Ref {
            kind: CONTROLLER_REVISION,
            namespace: self.namespace.clone(),
            name,
        };
        names.into_iter().map(of).collect()
    }

    fn shown(&self, of: &Ref) -> Shown {
        let watch = self.enrolled.world.watch_of(&of.kind, &of.namespace);
        let watch = watch.as_ref();
        Shown {
            mark: watch.and_then(|watch| watch.get(&of.namespace, &of.name)),
            newest: watch.map(Watch::newest),
        }
    }
}

impl Held {
    fn fingerprint(&self, canary: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        canary.hash(&mut hasher);
        for known in self.known.values() {
            (known.version, known.mark).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// What was read of an object is no longer what the watch shows. `status`: a change of its status counts too.
    fn stale(&self, of: &Ref, shown: &Shown, status: bool) -> bool {
        let Some(known) = self.known.get(of) else {
            return true;
        };
        match (known.mark, &shown.mark) {
            // Versions that are no numbers cannot be compared, so any other mark is news.
            (Some(mark), Some(shown)) if shown.version == 0 => shown.mark != mark,
            (Some(mark), Some(shown)) => {
                shown.version > known.version && (status || shown.mark != mark)
            }
            // Not there: deleted, unless the watch has not come to it yet.
            (Some(_), None) => shown.newest.is_some_and(|newest| known.version <= newest),
            (None, Some(shown)) => shown.version > known.version || shown.version == 0,
            (None, None) => false,
        }
    }

    fn read(&mut self, of: Ref, found: Option<Object>, shown: &Shown) {
        if let Some(object) = found {
            self.put(of, &object);
        } else {
            self.objects.remove(&of);
            let gone = Known {
                version: shown.mark.as_ref().map_or(0, |mark| mark.version),
                mark: None,
            };
            self.known.insert(of, gone);
        }
    }

    fn put(&mut self, of: Ref, object: &Object) {
        let Mark { version, mark, .. } = Mark::of_object(object);
        let newer = |known: &Known| known.mark.is_some() && known.version > version;
        if self.known.get(&of).is_some_and(newer) {
            return;
        }
        let mark = Some(mark);
        self.known.insert(of.clone(), Known { version, mark });
        self.objects.insert(of, object.clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::objects::DEPLOYMENT;

    fn target() -> Ref {
        Ref {
            kind: DEPLOYMENT,
            namespace: "a".to_owned(),
            name: "web".to_owned(),
        }
    }

    fn object(version: u64, generation: u64) -> Object {
        let metadata = json!({"name": "web", "namespace": "a", "uid": "u", "generation": generation, "resourceVersion": version.to_string()});
        Object::new(json!({"kind": "Deployment", "metadata": metadata}))
    }

    /// What the watch shows, having come to `newest`.
    fn shows(object: Option<Object>, newest: u64) -> Shown {
        Shown {
            mark: object.map(|object| Mark::of_object(&object)),
            newest: Some(newest),
        }
    }

    fn nothing(newest: u64) -> Shown {
        shows(None, newest)
    }

    #[test]
    fn what_was_read_is_compared_with_what_the_watch_shows() {
        let there = |version| Some(object(version, 2));
        let edited = |version| Some(object(version, 3));
        // What was read while the watch showed something; what it shows now; whether that is stale in hand, and at rest.
        let rows = [
            ("as it was read", there(7), shows(there(7), 7), false, false),
            ("a status", there(7), shows(there(8), 8), true, false),
            ("an edit", there(7), shows(edited(8), 8), true, true),
            ("an older one", there(7), shows(edited(6), 6), false, false),
            ("not come to yet", there(7), nothing(6), false, false),
            ("deleted", there(7), nothing(8), true, true),
            ("never there", None, nothing(6), false, false),
            ("deleted before", None, shows(there(5), 5), false, false),
            ("made again", None, shows(there(8), 8), true, true),
        ];
        for (what, read, now, in_hand, at_rest) in rows {
            let mut held = Held::default();
            held.read(target(), read, &shows(there(5), 5));
            assert_eq!(held.stale(&target(), &now, true), in_hand, "{what}");
            assert_eq!(held.stale(&target(), &now, false), at_rest, "{what}");
        }
        let held = Held::default();
        assert!(held.stale(&target(), &nothing(0), false), "never read");
    }

    #[test]
    fn nothing_older_takes_the_place_of_our_own_write() {
        let mut held = Held::default();
        held.put(target(), &object(9, 3));
        held.read(target(), Some(object(8, 2)), &nothing(0));
        assert_eq!(held.objects[&target()], object(9, 3));
        // The watch comes to it later: no news.
        assert!(!held.stale(&target(), &shows(Some(object(8, 2)), 8), true));
        assert!(!held.stale(&target(), &shows(Some(object(9, 3)), 9), true));
        held.read(target(), None, &nothing(9));
        assert!(!held.objects.contains_key(&target()));
    }
}
