//! Tokens of new nodes: `<id>.<secret>`, kept in Secrets of type `bootstrap.kubernetes.io/token` (api-facts §6.1).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use mizzen_api::key;
use mizzen_store::Snapshot;

use super::{AUTHENTICATED, Identity};

const GROUP: &str = "system:bootstrappers";
const ID_CHARACTERS: usize = 6;
const SECRET_CHARACTERS: usize = 16;
const GROUP_CHARACTERS_MAX: usize = 256;

/// Id and secret, if a token has the form.
fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let word = |text: &str, length| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    (word(id, ID_CHARACTERS) && word(secret, SECRET_CHARACTERS)).then_some((id, secret))
}

/// Who sends a token of this form; `None` if there is no such token, it is over, or not for this use.
pub fn identity(snapshot: &Snapshot, now: Timestamp, token: &str) -> Option<Identity> {
    let (id, secret) = parts(token)?;
    let stored = snapshot.get_as::<Secret>(&key::of::<Secret>("kube-system", &format!("bootstrap-token-{id}")))?;
    let data = stored.data.as_ref()?;
    let text = |field: &str| {
        let bytes = data.get(field).map(|bytes| &*bytes.0).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    };
    let usable = stored.type_.as_deref() == Some("bootstrap.kubernetes.io/token")
        && stored.metadata.deletion_timestamp.is_none()
        && text("token-id") == id
        && text("usage-bootstrap-authentication") == "true";
    let expiration = text("expiration");
    let lasts = expiration.is_empty() || expiration.parse::<Timestamp>().is_ok_and(|end| end > now);
    if !usable || !lasts || !same(text("token-secret"), secret) {
        return None;
    }
    let mut groups = vec![GROUP.to_string()];
    for group in text("auth-extra-groups").split(',').map(str::trim).filter(|group| !group.is_empty()) {
        // One wrong group makes the token one of nobody.
        groups.push(extra_group(group).then(|| group.to_string())?);
    }
    groups.push(AUTHENTICATED.into());
    groups.dedup();
    Some(Identity { user: format!("system:bootstrap:{id}"), groups, ..Identity::default() })
}

/// `system:bootstrappers:` and lower-case letters, digits, colons and dashes, of which the last is none of the latter two.
fn extra_group(group: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let rest = group.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':'));
    rest.is_some_and(|rest| {
        rest.len() <= GROUP_CHARACTERS_MAX
            && rest.bytes().all(|byte| plain(byte) || byte == b':' || byte == b'-')
            && rest.bytes().last().is_some_and(plain)
    })
}

/// Compares without telling by its time how much is the same.
pub(super) fn same(a: &str, b: &str) -> bool {
    let differing = a.bytes().zip(b.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use serde_json::{Value, json};

    use super::super::fixture::{object, snapshot};
    use super::*;

    fn user(change: impl FnOnce(&mut Value), token: &str) -> Option<String> {
        let mut data =
            json!({"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"});
        change(&mut data);
        let type_ = data["type"].take().as_str().unwrap_or("bootstrap.kubernetes.io/token").to_string();
        for value in data.as_object_mut().unwrap().values_mut() {
            *value = base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default()).into();
        }
        let secret = object("v1", "Secret", "kube-system/bootstrap-token-abcdef", json!({"type": type_, "data": data}));
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        identity(&snapshot([secret]), now, token).map(|who| format!("{} {}", who.user, who.groups.join(",")))
    }

    #[test]
    fn tokens_speak_for_new_nodes() {
        const TOKEN: &str = "abcdef.0123456789abcdef";
        let plain = Some("system:bootstrap:abcdef system:bootstrappers,system:authenticated");
        let set = |field: &'static str, value: &'static str| move |data: &mut Value| data[field] = value.into();
        type Change = Box<dyn FnOnce(&mut Value)>;
        let cases: Vec<(Change, &str, Option<&str>)> = vec![
            (Box::new(|_| ()), TOKEN, plain),
            (Box::new(|_| ()), "abcdef.0123456789abcdeg", None),
            (Box::new(|_| ()), "abcdeg.0123456789abcdef", None),
            (Box::new(|_| ()), "abcdef.0123456789abcde", None),
            (Box::new(set("token-id", "abcdeg")), TOKEN, None),
            (Box::new(set("type", "Opaque")), TOKEN, None),
            (Box::new(set("usage-bootstrap-authentication", "false")), TOKEN, None),
            (Box::new(set("expiration", "2026-09-21T14:13:21Z")), TOKEN, plain),
            (Box::new(set("expiration", "2026-09-21T14:13:20Z")), TOKEN, None),
            (Box::new(set("expiration", "soon")), TOKEN, None),
            (
                Box::new(set("auth-extra-groups", "system:bootstrappers:a-b, system:bootstrappers:c:d")),
                TOKEN,
                Some(
                    "system:bootstrap:abcdef system:bootstrappers,system:bootstrappers:a-b,system:bootstrappers:c:d,system:authenticated",
                ),
            ),
            (Box::new(set("auth-extra-groups", "system:masters")), TOKEN, None),
            (Box::new(set("auth-extra-groups", "system:bootstrappers:-")), TOKEN, None),
        ];
        for (index, (change, token, expected)) in cases.into_iter().enumerate() {
            assert_eq!(user(change, token).as_deref(), expected, "case {index}");
        }
    }
}
