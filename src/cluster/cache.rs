//! What a watch knows: the objects, and which of them only our own writes have shown so far.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use serde_json::Value;

use crate::api::objects::{Object, ObjectExt};

/// Namespace and name.
pub(super) type Key = (String, String);

#[derive(Default)]
pub(super) struct Cache {
    pub(super) objects: BTreeMap<Key, Object>,
    /// The list that is being read, until it is complete.
    pub(super) list: Option<BTreeMap<Key, Object>>,
    /// Objects that only [`Watched::put`] has shown: the watch must confirm them.
    pub(super) unconfirmed: BTreeMap<Key, u64>,
    /// The newest resourceVersion that the watch has shown.
    pub(super) newest: u64,
}

impl Cache {
    /// The list is complete: it is the truth, except for what we wrote while it was read.
    pub(super) fn listed(&mut self) -> bool {
        let Some(list) = self.list.take() else {
            return false;
        };
        let newest = list.values().map(|object| number(object)).max();
        self.newest = self.newest.max(newest.unwrap_or(0));
        let old = std::mem::replace(&mut self.objects, list);
        for (key, version) in std::mem::take(&mut self.unconfirmed) {
            let listed = self.objects.get(&key).map(|object| number(object));
            if listed.is_some_and(|listed| listed >= version) {
                continue;
            }
            if let Some(own) = old.get(&key) {
                self.objects.insert(key.clone(), Arc::clone(own));
                self.unconfirmed.insert(key, version);
            }
        }
        self.objects != old
    }

    /// The watch shows an object as added or changed; whether that is news.
    pub(super) fn applied(&mut self, object: Object) -> bool {
        let version = number(&object);
        let key = key_of(&object);
        self.newest = self.newest.max(version);
        if self
            .unconfirmed
            .get(&key)
            .is_some_and(|own| *own <= version)
        {
            self.unconfirmed.remove(&key);
        }
        match self.objects.entry(key) {
            // Older than our own last write, or that write itself.
            Entry::Occupied(known) if version != 0 && number(known.get()) >= version => false,
            Entry::Occupied(mut known) => {
                known.insert(object);
                true
            }
            Entry::Vacant(place) => {
                place.insert(object);
                true
            }
        }
    }

    /// The watch shows an object as deleted; whether that is news.
    pub(super) fn deleted(&mut self, object: &Value) -> bool {
        let version = number(object);
        let key = key_of(object);
        self.newest = self.newest.max(version);
        // Made again since, by us.
        if version != 0
            && self
                .objects
                .get(&key)
                .is_some_and(|known| number(known) > version)
        {
            return false;
        }
        self.unconfirmed.remove(&key);
        self.objects.remove(&key).is_some()
    }
}

/// Namespace and name of an object.
pub(super) fn key_of(object: &Value) -> Key {
    (object.namespace().to_owned(), object.name().to_owned())
}

/// The resourceVersion as a number, which Kubernetes 1.35 guarantees and every API server before it had; 0 when it is none.
pub(super) fn number(object: &Value) -> u64 {
    object.resource_version().parse().unwrap_or(0)
}
