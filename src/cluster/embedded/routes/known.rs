//! What the data plane knows: the objects as stored, and of `HTTPRoutes` what their controllers have accepted.

use std::collections::BTreeMap;

use super::{Lookup, Object, ObjectExt};
use crate::{
    api::objects::{DESTINATION_RULE, SERVICE, VIRTUAL_SERVICE},
    cluster::embedded::{gateway::HTTP_ROUTE, store::Store},
};

/// One cluster's objects as its proxies see them.
pub(in crate::cluster::embedded) struct Known {
    store: Store,
    /// By namespace and name, each as it was when its controller last spoke of it.
    http_routes: BTreeMap<(String, String), Object>,
}

impl Known {
    pub(in crate::cluster::embedded) fn new(store: Store) -> Self {
        let mut known = Self {
            store,
            http_routes: BTreeMap::new(),
        };
        known.refresh();
        known
    }

    /// Takes up the routes of which a controller has spoken. One that has changed since stays as it was.
    pub(in crate::cluster::embedded) fn refresh(&mut self) {
        let mut before = std::mem::take(&mut self.http_routes);
        for route in self.store.list(&HTTP_ROUTE, None) {
            let key = (route.namespace().to_owned(), route.name().to_owned());
            let older = before
                .remove(&key)
                .filter(|older| older.uid() == route.uid());
            let known = if is_settled(&route) {
                Some(route)
            } else {
                older
            };
            self.http_routes.extend(known.map(|route| (key, route)));
        }
    }
}

/// Each parent of which something is said has spoken of this generation.
fn is_settled(route: &Object) -> bool {
    let parents = route.array_at("/status/parents");
    let mut conditions = parents.iter().flat_map(|p| p.array_at("/conditions"));
    !parents.is_empty()
        && conditions.all(|c| c["observedGeneration"].as_i64() == route.generation())
}

impl Lookup for Known {
    fn virtual_services(&self) -> Vec<Object> {
        self.store.list(&VIRTUAL_SERVICE, None)
    }

    fn destination_rules(&self, namespace: &str) -> Vec<Object> {
        self.store.list(&DESTINATION_RULE, Some(namespace))
    }

    fn http_routes(&self) -> Vec<Object> {
        self.http_routes.values().cloned().collect()
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Object> {
        self.store.get(&SERVICE, namespace, name)
    }
}
