//! PATCH in all its formats, server-side apply among them, and the scale subresource.

use serde_json::{Value, json};

use super::{
    events,
    kinds::Scale,
    list::shown,
    ownership,
    patch::Format,
    rest::{Answering, Reply, Verb, no_subresource},
    route::Target,
    scale,
    status::{Cause, Status},
    write::Way,
};
use crate::api::objects::{Object, ObjectExt};

impl Answering<'_> {
    pub(super) fn patch(&self, subresource: Option<&'static str>) -> Result<(u16, Object), Status> {
        let format = Format::of(&self.served, &self.call.content_type)?;
        let force = self.patch_options(format)?;
        if format == Format::Apply {
            return self.apply(subresource, force);
        }
        let patch = self.parsed()?;
        let writer = self.writer(subresource)?;
        let changed = self.change(&writer, |current| {
            if self.served.is_core_event() {
                let patched = format.apply(&self.served, &patch, &events::to_core(current))?;
                return Ok(events::from_core(&patched));
            }
            format.apply(&self.served, &patch, current)
        });
        Ok((200, changed?))
    }

    /// Server-side apply: it creates what is not there, but no subresource.
    fn apply(
        &self,
        subresource: Option<&'static str>,
        force: bool,
    ) -> Result<(u16, Object), Status> {
        let Target {
            namespace, name, ..
        } = &self.call.target;
        let config = self.configuration()?;
        let mut writer = self.writer(subresource)?;
        writer.way = Way::Apply;
        let (new, object) =
            self.store
                .apply_as(&self.stored, namespace, name, &writer, |current, now| {
                    if current.is_none() && subresource.is_some() {
                        return Err(Status::not_found(&self.served, name));
                    }
                    let object =
                        ownership::applied(&self.served, current, &config, &writer, force, now)?;
                    if object.name() == name {
                        return Ok(object);
                    }
                    Err(Status::bad_request(format!(
                        "the name of the object ({}) does not match the name on the URL ({name})",
                        object.name()
                    )))
                })?;
        Ok((if new { 201 } else { 200 }, object))
    }

    /// Checks the options of a PATCH; is it forced?
    fn patch_options(&self, format: Format) -> Result<bool, Status> {
        let query = &self.call.query;
        let cause = match format {
            Format::Apply if query.get("fieldManager").is_empty() => {
                Cause::required("fieldManager", "is required for apply patch")
            }
            Format::Json | Format::Merge | Format::Strategic if !query.get("force").is_empty() => {
                Cause {
                    reason: "FieldValueForbidden",
                    message: "Forbidden: may not be specified for non-apply patch".to_owned(),
                    field: "force".to_owned(),
                }
            }
            Format::Apply | Format::Json | Format::Merge | Format::Strategic => {
                return Ok(query.is("force"));
            }
        };
        Err(Status::invalid_options("PatchOptions", cause))
    }

    /// The body of an apply: YAML, of which JSON is a part.
    fn configuration(&self) -> Result<Value, Status> {
        let refused = |why: String| Status::bad_request(format!("error decoding YAML: {why}"));
        let config: Value = match serde_json::from_slice(&self.call.body) {
            Ok(config) => config,
            Err(_) => serde_saphyr::from_slice(&self.call.body)
                .map_err(|error| refused(error.to_string()))?,
        };
        let what = match config {
            Value::Object(_) => return Ok(config),
            Value::Null => return Ok(json!({})),
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
        };
        // In the words of Go's decoder.
        Err(refused(format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {what} into Go value of type \
             map[string]interface {{}}"
        )))
    }

    pub(super) fn scale(&self, verb: Verb) -> Result<Reply, Status> {
        let Some(scale) = &self.served.scale else {
            return Err(no_subresource(
                &self.served,
                &self.call.target.name,
                "scale",
            ));
        };
        let object = match verb {
            Verb::Get => self.get()?,
            Verb::Update => {
                let wanted = self.body()?;
                self.write_scale(scale, |_| Ok(wanted))?
            }
            Verb::Patch => {
                let format = Format::of(&self.served, &self.call.content_type)?;
                let force = self.patch_options(format)?;
                if format == Format::Apply {
                    self.apply_scale(scale, force)?
                } else {
                    let patch = self.parsed()?;
                    self.write_scale(scale, |current| {
                        let before = scale::read(scale, current);
                        format.apply(&self.served, &patch, &before)
                    })?
                }
            }
            Verb::List
            | Verb::Watch
            | Verb::Create
            | Verb::Delete
            | Verb::DeleteCollection
            | Verb::Proxy => return Err(Status::method_not_allowed()),
        };
        Ok(Reply::Json(
            200,
            scale::read(scale, &shown(&self.served, &object)),
        ))
    }

    fn write_scale(
        &self,
        scale: &Scale,
        f: impl FnOnce(&Value) -> Result<Value, Status>,
    ) -> Result<Object, Status> {
        let writer = self.writer(Some("scale"))?;
        self.change(&writer, |current| {
            let wanted = f(current)?;
            scale::write(&self.served, scale, current, &wanted)
        })
    }

    fn apply_scale(&self, scale: &Scale, force: bool) -> Result<Object, Status> {
        let Target {
            namespace, name, ..
        } = &self.call.target;
        let config = self.configuration()?;
        let mut writer = self.writer(Some("scale"))?;
        writer.way = Way::Apply;
        let apply = |current: Option<&Value>, now: &str| {
            let current = current.ok_or_else(|| Status::not_found(&self.served, name))?;
            let served = &self.served;
            ownership::applied_scale(served, scale, current, &config, &writer, force, now)
        };
        let applied = self
            .store
            .apply_as(&self.stored, namespace, name, &writer, apply);
        Ok(applied?.1)
    }
}
