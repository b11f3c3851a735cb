//! The verbs on objects.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::{
    events,
    gc::{DeleteOptions, Deleted, Propagation},
    kinds::{EVENTS, Served},
    list::{self, shown},
    present::{Form, Presenter},
    protobuf, rights,
    route::{Query, Target},
    selector::Filter,
    status::{Cause, Status},
    store::Store,
    watch::Watch,
    write::{Way, Writer},
};
use crate::api::{
    objects::{Object, ObjectExt},
    rights::Right,
};

/// What is asked of an object or a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
    Proxy,
}

impl Verb {
    /// The verb of a request; none for a method that objects do not have.
    pub(super) fn of(method: &Method, target: &Target, query: &Query) -> Option<Self> {
        if target.subresource == "proxy" {
            return Some(Self::Proxy);
        }
        Some(match (method.as_str(), target.name.is_empty()) {
            ("GET", true) if query.is("watch") => Self::Watch,
            ("GET", true) => Self::List,
            ("GET", false) => Self::Get,
            ("POST", true) => Self::Create,
            ("PUT", false) => Self::Update,
            ("PATCH", false) => Self::Patch,
            ("DELETE", true) => Self::DeleteCollection,
            ("DELETE", false) => Self::Delete,
            _ => return None,
        })
    }

    /// Kubernetes' name of it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Proxy => "proxy",
        }
    }
}

/// One request for objects.
pub(super) struct Call {
    /// What the caller may not do, for the reviews.
    pub(super) denied: Arc<[Right]>,
    pub(super) target: Target,
    pub(super) query: Query,
    pub(super) form: Form,
    pub(super) content_type: String,
    pub(super) manager: String,
    pub(super) body: Bytes,
    /// Filled while it is answered.
    pub(super) warnings: Rc<RefCell<Vec<String>>>,
}

/// The answer to a [`Call`].
pub(super) enum Reply {
    Json(u16, Value),
    Watch(Box<Watch>),
}

/// Carries out `verb`.
pub(super) fn answer(store: &Store, verb: Verb, call: &Call) -> Result<Reply, Status> {
    let target = &call.target;
    let (served, stored) = find(store, target)?;
    if served.namespaced && target.namespace.is_empty() && !target.name.is_empty()
        || !served.namespaced && !target.namespace.is_empty()
    {
        return Err(Status::unknown_resource());
    }
    let across = served.namespaced && target.namespace.is_empty();
    if served.create_only() && verb != Verb::Create
        || across && verb == Verb::DeleteCollection
        || verb == Verb::Delete && matches!(target.subresource.as_str(), "status" | "scale")
    {
        return Err(Status::method_not_allowed());
    }
    check_numbers(&call.query)?;
    let it = Answering {
        store,
        call,
        served,
        stored,
    };
    let (code, object) = match (verb, target.subresource.as_str()) {
        (Verb::List, _) => return it.list(),
        (Verb::Watch, _) => return it.watch(),
        (Verb::Delete, "") => return it.delete(),
        (Verb::DeleteCollection, _) => return it.delete_collection(),
        (Verb::Create, _) if it.served.create_only() => return it.review(),
        (Verb::Create, _) => (201, it.create()?),
        (_, "scale") => return it.scale(verb),
        (Verb::Get, "") => (200, it.get()?),
        (Verb::Get, "status") if it.served.status => (200, it.get()?),
        (Verb::Update, "") => (200, it.update(None)?),
        (Verb::Update, "status") if it.served.status => (200, it.update(Some("status"))?),
        (Verb::Patch, "") => it.patch(None)?,
        (Verb::Patch, "status") if it.served.status => it.patch(Some("status"))?,
        (Verb::Get | Verb::Update | Verb::Patch | Verb::Delete | Verb::Proxy, sub) => {
            return Err(no_subresource(&it.served, &target.name, sub));
        }
    };
    let object = shown(&it.served, &object);
    Ok(Reply::Json(
        code,
        it.presenter().one(call.form, &it.served, &object),
    ))
}

/// Whether any part of the API server knows the path. A group of built-in kinds does whatever follows it; one of custom resources only what is defined.
pub(super) fn is_served(store: &Store, target: &Target, method: &Method) -> bool {
    let state = store.lock();
    let mut rows = state.catalog.rows().iter();
    if rows.any(|row| row.group == target.group && row.custom.is_none()) || target.group.is_empty()
    {
        return true;
    }
    let found = state
        .catalog
        .find(&target.group, &target.version, &target.plural);
    found.is_some_and(|served| {
        let across = target.name.is_empty() && method == Method::GET;
        served.namespaced != target.namespace.is_empty() || served.namespaced && across
    })
}

/// The served resource, and the one whose form is stored.
fn find(store: &Store, target: &Target) -> Result<(Arc<Served>, Arc<Served>), Status> {
    let state = store.lock();
    let find = |group: &str| state.catalog.find(group, &target.version, &target.plural);
    let served = find(&target.group).ok_or_else(Status::unknown_resource)?;
    let stored = if served.is_core_event() {
        find(EVENTS).ok_or_else(Status::unknown_resource)?
    } else {
        Arc::clone(&served)
    };
    Ok((served, stored))
}

/// The parameters that have to be numbers.
fn check_numbers(query: &Query) -> Result<(), Status> {
    for name in ["limit", "timeoutSeconds"] {
        let text = query.get(name);
        if !text.is_empty() && text.parse::<i64>().is_err() {
            return Err(Status::bad_request(format!(
                "strconv.ParseInt: parsing {text:?}: invalid syntax"
            )));
        }
    }
    Ok(())
}

pub(super) fn no_subresource(served: &Served, object: &str, name: &str) -> Status {
    no_container(name).unwrap_or_else(|| match &served.custom {
        Some(_) => Status::not_found(served, object),
        None => Status::unknown_resource(),
    })
}

/// A method that objects do not have. kubectl before 1.31 executes by POST.
pub(super) fn no_verb(target: &Target) -> Status {
    no_container(&target.subresource).unwrap_or_else(Status::method_not_allowed)
}

/// What only a container has.
fn no_container(subresource: &str) -> Option<Status> {
    matches!(subresource, "log" | "exec" | "attach" | "portforward").then(|| {
        Status::bad_request(format!(
            "pods of an embedded cluster run no containers, so there is no {subresource}; events and metrics tell what they do"
        ))
    })
}

/// One request, and what it is about.
pub(super) struct Answering<'a> {
    pub(super) store: &'a Store,
    pub(super) call: &'a Call,
    pub(super) served: Arc<Served>,
    pub(super) stored: Arc<Served>,
}

impl Answering<'_> {
    fn presenter(&self) -> Presenter {
        Presenter::new(self.store.clock().now(), &self.call.query)
    }

    fn filter(&self) -> Result<Filter, Status> {
        Filter::parse(
            &self.served,
            self.call.query.get("labelSelector"),
            self.call.query.get("fieldSelector"),
        )
    }

    fn list(&self) -> Result<Reply, Status> {
        let filter = self.filter()?;
        let page = list::page(
            &self.store.lock(),
            &self.served,
            &self.call.target.namespace,
            &filter,
            &self.call.query,
        )?;
        let list = self.presenter().list(self.call.form, &self.served, &page);
        Ok(Reply::Json(200, list))
    }

    fn watch(&self) -> Result<Reply, Status> {
        let Call {
            target,
            query,
            form,
            ..
        } = self.call;
        Watch::start(self.store, &self.served, &target.namespace, query, *form)
            .map(|watch| Reply::Watch(Box::new(watch)))
    }

    pub(super) fn get(&self) -> Result<Object, Status> {
        let Target {
            namespace, name, ..
        } = &self.call.target;
        let state = self.store.lock();
        let asked = self.call.query.number("resourceVersion").unwrap_or(0);
        if asked > state.revision {
            return Err(list::too_large(asked, state.revision));
        }
        state
            .object(&self.stored.key(), namespace, name)
            .cloned()
            .ok_or_else(|| Status::not_found(&self.served, name))
    }

    fn create(&self) -> Result<Object, Status> {
        let target = &self.call.target;
        if self.served.namespaced && target.namespace.is_empty() {
            return Err(Status::method_not_allowed());
        }
        let object = self.incoming(self.body()?);
        let writer = self.writer(None)?;
        self.store
            .create_as(&self.stored, &target.namespace, object, &writer)
    }

    fn update(&self, subresource: Option<&'static str>) -> Result<Object, Status> {
        let wanted = self.incoming(self.body()?);
        let mut writer = self.writer(subresource)?;
        writer.way = Way::Replace;
        self.change(&writer, |_| Ok(wanted))
    }

    pub(super) fn change(
        &self,
        writer: &Writer,
        f: impl FnOnce(&Value) -> Result<Value, Status>,
    ) -> Result<Object, Status> {
        let Target {
            namespace, name, ..
        } = &self.call.target;
        self.store
            .update_as(&self.stored, namespace, name, writer, f)
    }

    fn delete(&self) -> Result<Reply, Status> {
        let Target {
            namespace, name, ..
        } = &self.call.target;
        let options = self.delete_options()?;
        let deleted = self
            .store
            .delete_as(&self.stored, namespace, name, &options)?;
        Ok(Reply::Json(
            200,
            match deleted {
                Deleted::Marked(object) => {
                    let object = shown(&self.served, &object);
                    self.presenter().one(Form::Plain, &self.served, &object)
                }
                Deleted::Gone(object) => {
                    let mut details =
                        json!({"name": name, "kind": self.served.plural, "uid": object.uid()});
                    if !self.served.group.is_empty() {
                        details["group"] = json!(self.served.group);
                    }
                    json!({
                        "kind": "Status",
                        "apiVersion": "v1",
                        "metadata": {},
                        "status": "Success",
                        "details": details,
                    })
                }
            },
        ))
    }

    fn delete_collection(&self) -> Result<Reply, Status> {
        let filter = self.filter()?;
        let options = self.delete_options()?;
        let page = list::page(
            &self.store.lock(),
            &self.served,
            &self.call.target.namespace,
            &filter,
            &Query::default(),
        )?;
        for object in &page.items {
            let gone =
                self.store
                    .delete_as(&self.stored, object.namespace(), object.name(), &options);
            match gone {
                Ok(_) => {}
                // Another one of them owned it.
                Err(status) if status.code == 404 => {}
                Err(status) => return Err(status),
            }
        }
        let list = self.presenter().list(Form::Plain, &self.served, &page);
        Ok(Reply::Json(200, list))
    }

    /// Reviews are answered and not kept.
    fn review(&self) -> Result<Reply, Status> {
        let mut review = self.body()?;
        if !review.is_object() {
            return Err(Status::bad_request("a review must be a JSON object"));
        }
        review["apiVersion"] = json!(self.served.api_version());
        review["kind"] = json!(self.served.kind);
        let catalog = self.store.lock().catalog.clone();
        review["status"] = rights::review(&self.served, &catalog, &review, &self.call.denied);
        Ok(Reply::Json(201, review))
    }

    fn incoming(&self, object: Value) -> Value {
        if self.served.is_core_event() {
            events::from_core(&object)
        } else {
            object
        }
    }

    /// The body of a POST or PUT.
    pub(super) fn body(&self) -> Result<Value, Status> {
        let kind = self.call.content_type.split(';').next().unwrap_or_default();
        match kind.trim() {
            "" | "application/json" => self.parsed(),
            "application/yaml" => serde_saphyr::from_slice(&self.call.body).map_err(|error| {
                Status::bad_request(format!("the body is not a YAML object: {error}"))
            }),
            "application/vnd.kubernetes.protobuf" => {
                protobuf::read(&self.call.body).ok_or_else(|| {
                    Status::unsupported_media_type(
                        "the embedded cluster does not read this kind as protobuf; with kubectl, append \
                         --dry-run=client -o yaml | kubectl apply -f -",
                    )
                })
            }
            _ => Err(Status::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json, application/yaml, application/vnd.kubernetes.protobuf",
            )),
        }
    }

    pub(super) fn parsed(&self) -> Result<Value, Status> {
        // serde_saphyr reads JSON too, but its errors speak of YAML.
        serde_json::from_slice(&self.call.body)
            .map_err(|error| Status::bad_request(format!("the body is not valid JSON: {error}")))
    }

    pub(super) fn writer(&self, subresource: Option<&'static str>) -> Result<Writer, Status> {
        let validation = self.call.query.get("fieldValidation");
        if !matches!(validation, "" | "Ignore" | "Strict" | "Warn") {
            let allowed = ["", "Ignore", "Strict", "Warn"].map(Value::from);
            let cause = Cause::unsupported("fieldValidation", &json!(validation), &allowed);
            return Err(Status::invalid_options(self.options_kind(), cause));
        }
        Ok(Writer {
            manager: self.call.manager.clone(),
            subresource,
            dry_run: dry_run(self.options_kind(), self.call.query.get("dryRun"))?,
            strict: validation == "Strict",
            way: Way::default(),
            warnings: match validation {
                // Nobody is to be told.
                "Ignore" => Rc::default(),
                _ => Rc::clone(&self.call.warnings),
            },
        })
    }

    /// The kind of this request's options, as messages name it.
    fn options_kind(&self) -> &'static str {
        match (
            self.call.target.name.is_empty(),
            self.call.content_type.contains("patch"),
        ) {
            (true, _) => "CreateOptions",
            (false, true) => "PatchOptions",
            (false, false) => "UpdateOptions",
        }
    }

    fn delete_options(&self) -> Result<DeleteOptions, Status> {
        let query = &self.call.query;
        let body = if self.call.body.is_empty() {
            json!({})
        } else {
            self.body()?
        };
        if let Some(kind) = body.str_at("/kind").filter(|kind| *kind != "DeleteOptions") {
            return Err(Status::bad_request(format!(
                "the body of a deletion is a DeleteOptions, not a {kind}"
            )));
        }
        let text = |pointer: &str| body.str_at(pointer).map(str::to_owned);
        let policy =
            text("/propagationPolicy").unwrap_or(query.get("propagationPolicy").to_owned());
        let propagation = match policy.as_str() {
            "Foreground" => Propagation::Foreground,
            "Orphan" => Propagation::Orphan,
            "" if body["orphanDependents"] == true => Propagation::Orphan,
            "" | "Background" => Propagation::Background,
            other => {
                let allowed = ["Foreground", "Background", "Orphan", "nil"].map(Value::from);
                let cause = Cause::unsupported("propagationPolicy", &json!(other), &allowed);
                return Err(Status::invalid_options("DeleteOptions", cause));
            }
        };
        if !policy.is_empty() && body["orphanDependents"].is_boolean() {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            let cause = Cause::invalid("propagationPolicy", &json!(policy), why);
            return Err(Status::invalid_options("DeleteOptions", cause));
        }
        let dry = body
            .array_at("/dryRun")
            .first()
            .and_then(Value::as_str)
            .unwrap_or(query.get("dryRun"));
        Ok(DeleteOptions {
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            propagation,
            grace_seconds: body
                .int_at("/gracePeriodSeconds")
                .or(query.get("gracePeriodSeconds").parse().ok()),
            dry_run: dry_run("DeleteOptions", dry)?,
        })
    }
}

fn dry_run(options: &str, text: &str) -> Result<bool, Status> {
    match text {
        "" => Ok(false),
        "All" => Ok(true),
        other => {
            let cause = Cause::unsupported("dryRun", &json!([other]), &[json!("All")]);
            Err(Status::invalid_options(options, cause))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::route::Route, *};
    use crate::cluster::clock::Clock;

    #[test]
    fn a_review_that_is_no_object_is_refused() {
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let Route::Resource(target) = Route::parse(path) else {
            panic!("{path} names objects");
        };
        let call = Call {
            target,
            query: Query::default(),
            form: Form::Plain,
            content_type: "application/json".to_owned(),
            manager: "t".to_owned(),
            body: Bytes::from_static(b"[]"),
            warnings: Rc::default(),
            denied: Arc::default(),
        };
        let answer = answer(&Store::new(Clock::real()), Verb::Create, &call);
        assert_eq!(answer.err().map(|status| status.code), Some(400));
    }
}
