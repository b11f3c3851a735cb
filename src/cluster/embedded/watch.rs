//! Watches: the log as a stream of lines.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::Stream;
use http_body::Frame;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    kinds::Served,
    list::{forbidden_option, invalid_version, page, shown, too_large, too_old},
    present::{Form, Presenter},
    route::Query,
    selector::Filter,
    status::Status,
    store::{Change, ChangeKind, ResourceKey, Store},
};
use crate::api::objects::ObjectExt;

/// How often a client that wants bookmarks gets one, as often as a real API server gives them. Real time.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a watch without `timeoutSeconds` lasts; a real API server takes 30 to 60 minutes.
const USUAL: Duration = Duration::from_secs(30 * 60);
/// The most that `timeoutSeconds` gives, so that no sum of times overflows.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// On the bookmark after the initial events of a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// One watch, before its body runs.
pub(super) struct Watch {
    store: Store,
    served: Arc<Served>,
    key: ResourceKey,
    namespace: String,
    filter: Filter,
    presenter: Presenter,
    form: Form,
    /// Everything up to this revision has been told.
    cursor: u64,
    revisions: tokio::sync::watch::Receiver<u64>,
    pending: VecDeque<Bytes>,
    ends: Instant,
    bookmarks: bool,
    next_bookmark: Instant,
    done: bool,
}

impl Watch {
    /// Starts a watch where `query` says, with the events that it begins with.
    pub(super) fn start(
        store: &Store,
        served: &Arc<Served>,
        namespace: &str,
        query: &Query,
        form: Form,
    ) -> Result<Self, Status> {
        let filter = Filter::parse(
            served,
            query.get("labelSelector"),
            query.get("fieldSelector"),
        )?;
        let initial = query.is("sendInitialEvents");
        check_initial(query, initial)?;
        let asked: u64 = match query.get("resourceVersion") {
            "" => 0,
            text => text.parse().map_err(|_| invalid_version(text))?,
        };
        let now = Instant::now();
        let mut watch = Self {
            store: store.clone(),
            key: served.key(),
            served: Arc::clone(served),
            namespace: namespace.to_owned(),
            filter,
            presenter: Presenter::new(store.clock().now(), query),
            form,
            cursor: asked,
            revisions: store.subscribe(),
            pending: VecDeque::new(),
            ends: now
                + query
                    .number("timeoutSeconds")
                    .filter(|s| *s > 0)
                    .map_or(USUAL, |s| Duration::from_secs(s).min(LONGEST)),
            bookmarks: query.is("allowWatchBookmarks"),
            next_bookmark: now + BOOKMARK_EVERY,
            done: false,
        };
        watch.begin(asked, initial)?;
        Ok(watch)
    }

    fn begin(&mut self, asked: u64, initial: bool) -> Result<(), Status> {
        let store = self.store.clone();
        let state = store.lock();
        if asked > state.revision {
            return Err(too_large(asked, state.revision));
        }
        if asked == 0 || initial {
            let all = Query::default();
            let page = page(&state, &self.served, &self.namespace, &self.filter, &all)?;
            self.cursor = page.revision;
            for object in &page.items {
                self.tell("ADDED", object);
            }
            if initial && self.bookmarks {
                self.bookmark(true);
            }
        }
        Ok(())
    }

    /// The body: one JSON line for each event, an end at the timeout or after an error event.
    pub(super) fn into_frames(self) -> impl Stream<Item = Result<Frame<Bytes>, io::Error>> + Send {
        futures::stream::unfold(self, |mut watch| async move {
            let line = watch.next().await?;
            Some((Ok(Frame::data(line)), watch))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.pending.pop_front() {
                return Some(line);
            }
            if self.done {
                return None;
            }
            // Marked as seen before the log is read, so that what comes in between wakes the wait below.
            self.revisions.borrow_and_update();
            self.read_log();
            if !self.pending.is_empty() || self.done {
                continue;
            }
            let wake = if self.bookmarks {
                self.next_bookmark.min(self.ends)
            } else {
                self.ends
            };
            tokio::select! {
                changed = self.revisions.changed() => self.done |= changed.is_err(),
                () = tokio::time::sleep_until(wake) => self.time_is_up(),
            }
        }
    }

    fn time_is_up(&mut self) {
        let now = Instant::now();
        self.done = now >= self.ends;
        if self.bookmarks {
            self.next_bookmark = now + BOOKMARK_EVERY;
            self.bookmark(false);
        }
    }

    fn read_log(&mut self) {
        let store = self.store.clone();
        let state = store.lock();
        let Some(changes) = state.changes_since(self.cursor) else {
            // As an event of an answer with code 200: kube never lists again after a plain 410.
            let status = too_old(self.cursor, &state).body();
            self.line("ERROR", &status);
            self.done = true;
            return;
        };
        self.cursor = state.revision;
        drop(state);
        self.presenter.now = self.store.clock().now();
        for change in changes {
            if change.resource == self.key
                && (self.namespace.is_empty() || change.object.namespace() == self.namespace)
            {
                self.tell_change(&change);
            }
        }
    }

    /// An object that begins or stops to match the selectors is added or deleted to this watch.
    fn tell_change(&mut self, change: &Change) {
        let object = shown(&self.served, &change.object);
        let is = self.filter.matches(&object);
        let was = change
            .previous
            .as_ref()
            .is_some_and(|previous| self.filter.matches(&shown(&self.served, previous)));
        let event = match (change.kind, was, is) {
            (ChangeKind::Added, _, true) | (ChangeKind::Modified, false, true) => "ADDED",
            (ChangeKind::Modified, true, true) => "MODIFIED",
            (ChangeKind::Deleted, true, _) => "DELETED",
            (ChangeKind::Modified, true, false) => return self.tell_gone(change),
            (ChangeKind::Added | ChangeKind::Modified, _, false)
            | (ChangeKind::Deleted, false, _) => return,
        };
        self.tell(event, &object);
    }

    /// To this watch the object is gone as it last matched, at the revision at which it changed.
    fn tell_gone(&mut self, change: &Change) {
        let Some(previous) = &change.previous else {
            return;
        };
        let mut last = (*shown(&self.served, previous)).clone();
        last["metadata"]["resourceVersion"] = json!(change.revision.to_string());
        self.tell("DELETED", &last);
    }

    fn tell(&mut self, event: &str, object: &Value) {
        let object = self.presenter.one(self.form, &self.served, object);
        // A table names its columns once.
        self.presenter.headers = false;
        self.line(event, &object);
    }

    fn bookmark(&mut self, initial: bool) {
        let mut object = json!({
            "kind": self.served.kind,
            "apiVersion": self.served.api_version(),
            "metadata": {"resourceVersion": self.cursor.to_string()},
        });
        if initial {
            object["metadata"]["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        if self.form == Form::Metadata {
            object["kind"] = json!("PartialObjectMetadata");
            object["apiVersion"] = json!("meta.k8s.io/v1");
        }
        self.line("BOOKMARK", &object);
    }

    fn line(&mut self, event: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": event, "object": object}));
        self.pending.push_back(Bytes::from(line));
    }
}

fn check_initial(query: &Query, initial: bool) -> Result<(), Status> {
    let matching = query.get("resourceVersionMatch");
    let why = if initial && matching != "NotOlderThan" {
        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
    } else if !initial && !matching.is_empty() {
        "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
    } else {
        return Ok(());
    };
    Err(forbidden_option("resourceVersionMatch", why))
}
