//! What the store's mutex protects: the objects, their indexes, and the log.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    gc,
    kinds::{Catalog, Served},
    store::{Change, ChangeKind, ResourceKey},
};
use crate::{
    api::objects::{Object, ObjectExt},
    decide::facts::Moment,
};

/// Objects of one resource by (namespace, name).
pub(super) type Table = BTreeMap<(String, String), Object>;

/// Where an object is: resource, namespace, name.
pub(super) type Place = (ResourceKey, String, String);

/// What the mutex protects.
pub(super) struct State {
    pub(super) tables: BTreeMap<ResourceKey, Table>,
    /// Where the object with a uid is.
    pub(super) uids: HashMap<String, Place>,
    /// Where the objects are that name a uid as an owner.
    pub(super) owned: HashMap<String, BTreeSet<Place>>,
    /// Where the objects are whose deletion waits for what they own.
    pub(super) foreground: BTreeSet<Place>,
    pub(super) catalog: Catalog,
    pub(super) revision: u64,
    /// Last byte pair of the next cluster IP.
    pub(super) next_ip: u16,
    /// Who is at it, and when: what the log says of each change.
    pub(super) author: (Arc<str>, Moment),
    /// Where uids and made-up names come from, and how many there were.
    seed: (Uuid, u64),
    log: VecDeque<Change>,
    history: usize,
    /// The log is complete after this revision.
    floor: u64,
}

impl State {
    /// An empty cluster that remembers `history` changes. Its uids and made-up names follow from the seed.
    pub(super) fn new(history: usize, seed: Uuid) -> Self {
        Self {
            tables: BTreeMap::new(),
            uids: HashMap::new(),
            owned: HashMap::new(),
            foreground: BTreeSet::new(),
            catalog: Catalog::builtin(),
            revision: 0,
            next_ip: 1,
            author: (Arc::from(""), Moment::default()),
            seed: (seed, 0),
            log: VecDeque::new(),
            history,
            floor: 0,
        }
    }

    /// A uid that no object of the cluster has had.
    pub(super) fn new_uid(&mut self) -> Uuid {
        self.seed.1 += 1;
        Uuid::new_v5(&self.seed.0, &self.seed.1.to_be_bytes())
    }

    pub(super) fn object(&self, key: &ResourceKey, ns: &str, name: &str) -> Option<&Object> {
        // The key of the map is a pair of Strings, which cannot be borrowed from two &str.
        self.tables.get(key)?.get(&(ns.to_owned(), name.to_owned()))
    }

    /// Commits one object under the next revision, and what follows from it for what is served.
    pub(super) fn put(&mut self, served: &Served, kind: ChangeKind, mut object: Value) -> Object {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let object = Arc::new(object);
        let key = served.key();
        let place = (object.namespace().to_owned(), object.name().to_owned());
        let table = self.tables.entry(key.clone()).or_default();
        let previous = match kind {
            ChangeKind::Added | ChangeKind::Modified => {
                table.insert(place.clone(), Arc::clone(&object))
            }
            ChangeKind::Deleted => table.remove(&place),
        };
        let place = (key.clone(), place.0, place.1);
        if let Some(previous) = &previous {
            self.unindex(previous, &place);
        }
        if kind != ChangeKind::Deleted {
            self.index(&object, place);
        }
        self.log.push_back(Change {
            revision: self.revision,
            kind,
            resource: key,
            object: Arc::clone(&object),
            previous,
            manager: Arc::clone(&self.author.0),
            at: self.author.1,
        });
        self.trim();
        object
    }

    fn index(&mut self, object: &Value, place: Place) {
        for owner in gc::owner_uids(object) {
            let owned = self.owned.entry(owner.to_owned()).or_default();
            owned.insert(place.clone());
        }
        if gc::waits_for_owned(object) {
            self.foreground.insert(place.clone());
        }
        self.uids.insert(object.uid().to_owned(), place);
    }

    fn unindex(&mut self, object: &Value, place: &Place) {
        for owner in gc::owner_uids(object) {
            if let Some(owned) = self.owned.get_mut(owner) {
                owned.remove(place);
                if owned.is_empty() {
                    self.owned.remove(owner);
                }
            }
        }
        self.foreground.remove(place);
        self.uids.remove(object.uid());
    }

    /// Remembers so many changes from now on.
    pub(super) fn keep_history(&mut self, changes: usize) {
        self.history = changes;
        self.trim();
    }

    fn trim(&mut self) {
        while self.log.len() > self.history {
            if let Some(change) = self.log.pop_front() {
                self.floor = change.revision;
            }
        }
    }

    pub(super) fn changes_since(&self, revision: u64) -> Option<Vec<Change>> {
        if revision < self.floor {
            return None;
        }
        let start = self.log.partition_point(|c| c.revision <= revision);
        Some(self.log.range(start..).cloned().collect())
    }

    /// The oldest revision from which the log is complete.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }
}
