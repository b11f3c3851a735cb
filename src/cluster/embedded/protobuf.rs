//! The few objects that kubectl sends as protobuf and in no other form (`auth can-i`, `create configmap|namespace`), read into JSON.
//!
//! Framing and numbers are those of `k8s.io/apimachinery/pkg/runtime/generated.proto` and of the `generated.proto` beside each kind's types.

use serde_json::{Map, Value, json};

/// What a body of this form begins with.
const MAGIC: &[u8] = b"k8s\0";

/// A field's value.
enum Form {
    Text,
    Bool,
    /// A message of texts to texts: the entries of a map.
    Texts,
    Message(&'static [Field]),
}

/// Its number, its name in JSON, and its form.
type Field = (u64, &'static str, Form);

const META: Form = Form::Message(&[
    (1, "name", Form::Text),
    (2, "generateName", Form::Text),
    (3, "namespace", Form::Text),
    (11, "labels", Form::Texts),
    (12, "annotations", Form::Texts),
]);

const ACCESS_REVIEW: &[Field] = &[
    (1, "metadata", META),
    (
        2,
        "spec",
        Form::Message(&[
            (
                1,
                "resourceAttributes",
                Form::Message(&[
                    (1, "namespace", Form::Text),
                    (2, "verb", Form::Text),
                    (3, "group", Form::Text),
                    (4, "version", Form::Text),
                    (5, "resource", Form::Text),
                    (6, "subresource", Form::Text),
                    (7, "name", Form::Text),
                ]),
            ),
            (
                2,
                "nonResourceAttributes",
                Form::Message(&[(1, "path", Form::Text), (2, "verb", Form::Text)]),
            ),
        ]),
    ),
];
const RULES_REVIEW: &[Field] = &[
    (1, "metadata", META),
    (2, "spec", Form::Message(&[(1, "namespace", Form::Text)])),
];
const NAMESPACE: &[Field] = &[(1, "metadata", META)];
const CONFIG_MAP: &[Field] = &[
    (1, "metadata", META),
    (2, "data", Form::Texts),
    (4, "immutable", Form::Bool),
];

/// The object in `body`; `None` when it is of a kind, or has a field, that is not read here.
pub(super) fn read(body: &[u8]) -> Option<Value> {
    let (mut kind, mut api_version, mut raw) = (None, None, None);
    for part in Parts(body.strip_prefix(MAGIC)?) {
        match part? {
            (1, Part::Bytes(type_meta)) => {
                for part in Parts(type_meta) {
                    match part? {
                        (1, Part::Bytes(text)) => api_version = std::str::from_utf8(text).ok(),
                        (2, Part::Bytes(text)) => kind = std::str::from_utf8(text).ok(),
                        _ => return None,
                    }
                }
            }
            (2, Part::Bytes(object)) => raw = Some(object),
            // Encoding and type of `raw`, empty for what is neither compressed nor foreign.
            (3 | 4, Part::Bytes(b"")) => {}
            _ => return None,
        }
    }
    let fields = match (api_version?, kind?) {
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview") => ACCESS_REVIEW,
        ("authorization.k8s.io/v1", "SelfSubjectRulesReview") => RULES_REVIEW,
        ("v1", "Namespace") => NAMESPACE,
        ("v1", "ConfigMap") => CONFIG_MAP,
        _ => return None,
    };
    let mut object = message(raw?, fields)?;
    object.insert("apiVersion".to_owned(), json!(api_version));
    object.insert("kind".to_owned(), json!(kind));
    Some(Value::Object(object))
}

fn message(bytes: &[u8], fields: &[Field]) -> Option<Map<String, Value>> {
    let mut object = Map::new();
    for part in Parts(bytes) {
        let (number, part) = part?;
        let Some((_, name, form)) = fields.iter().find(|(n, ..)| *n == number) else {
            if part.says_nothing() {
                continue;
            }
            return None;
        };
        match (form, part) {
            (Form::Text, Part::Bytes(text)) => {
                let text = std::str::from_utf8(text).ok()?;
                // Go writes every text, also those that are empty and would not be there in JSON.
                if !text.is_empty() {
                    object.insert((*name).to_owned(), json!(text));
                }
            }
            (Form::Bool, Part::Number(number)) => {
                object.insert((*name).to_owned(), json!(number != 0));
            }
            (Form::Texts, Part::Bytes(entry)) => {
                let entry = message(entry, &[(1, "key", Form::Text), (2, "value", Form::Text)])?;
                let of = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or("");
                let map = object.entry(*name).or_insert_with(|| json!({}));
                map[of("key")] = json!(of("value"));
            }
            (Form::Message(fields), Part::Bytes(bytes)) => {
                let inner = message(bytes, fields)?;
                object.insert((*name).to_owned(), Value::Object(inner));
            }
            _ => return None,
        }
    }
    Some(object)
}

/// What a field holds, by its wire type: 0 and 2, the only ones in these messages.
enum Part<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl Part<'_> {
    /// A message of nothing but defaults, as Go writes a status or a time that is not set.
    fn says_nothing(&self) -> bool {
        match self {
            Self::Number(number) => *number == 0,
            Self::Bytes(bytes) => {
                Parts(bytes).all(|part| part.is_some_and(|(_, part)| part.says_nothing()))
            }
        }
    }
}

/// The fields of a message; `None` for what is no message, and then nothing more.
struct Parts<'a>(&'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = Option<(u64, Part<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let part = self.part();
        if part.is_none() {
            self.0 = &[];
        }
        Some(part)
    }
}

impl<'a> Parts<'a> {
    fn part(&mut self) -> Option<(u64, Part<'a>)> {
        let key = self.number()?;
        let part = match key & 7 {
            0 => Part::Number(self.number()?),
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Part::Bytes(bytes)
            }
            _ => return None,
        };
        Some((key >> 3, part))
    }

    /// Seven bits a byte, the lowest first; the eighth says that there is more.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Field `number` with these bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).unwrap();
        assert!(length < 0x80, "one byte of length");
        [&[number << 3 | 2, length], bytes].concat()
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let type_meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        let unknown = [
            field(1, &type_meta),
            field(2, raw),
            field(3, b""),
            field(4, b""),
        ];
        [MAGIC, &unknown.concat()].concat()
    }

    #[test]
    fn what_kubectl_sends_is_read() {
        let attributes = [
            field(1, b"ns"),
            field(2, b"create"),
            field(3, b"apps"),
            field(6, b""),
        ];
        let spec = field(2, &field(1, &attributes.concat()));
        // A status of an answer that is not there yet: allowed is false, the texts are empty.
        let status = field(3, &[&[8, 0][..], &field(2, b"")].concat());
        let review = [field(1, b""), spec, status].concat();
        assert_eq!(
            read(&body(
                "authorization.k8s.io/v1",
                "SelfSubjectAccessReview",
                &review
            )),
            Some(json!({
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "metadata": {},
                "spec": {"resourceAttributes": {"namespace": "ns", "verb": "create", "group": "apps"}},
            }))
        );
        let entry = |key: &[u8], value: &[u8]| [field(1, key), field(2, value)].concat();
        let map = [
            field(
                1,
                &[
                    field(1, b"more"),
                    field(8, b""),
                    field(11, &entry(b"a", b"b")),
                ]
                .concat(),
            ),
            field(2, &entry(b"x", b"1")),
            field(2, &entry(b"y", b"")),
            vec![4 << 3, 1],
        ];
        assert_eq!(
            read(&body("v1", "ConfigMap", &map.concat())),
            Some(json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "more", "labels": {"a": "b"}},
                "data": {"x": "1", "y": ""},
                "immutable": true,
            }))
        );
    }

    #[test]
    fn what_is_not_read_whole_is_not_read() {
        let meta = field(1, &field(1, b"one"));
        let whole = body("v1", "Namespace", &meta);
        assert!(read(&whole).is_some());
        for end in 0..whole.len() {
            // Without its last two fields, which are empty, it is whole; cut inside of a field it is not.
            let complete = [whole.len() - 2, whole.len() - 4].contains(&end);
            assert_eq!(read(&whole[..end]).is_some(), complete, "{end}");
        }
        let finalizer = field(1, &field(14, b"somebody/waits"));
        assert_eq!(read(&body("v1", "Namespace", &finalizer)), None);
        assert_eq!(read(&body("apps/v1", "Deployment", &meta)), None);
        assert_eq!(read(b"{}"), None);
    }
}
