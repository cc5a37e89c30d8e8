//! DefaultTolerationSeconds: pods stay for five minutes on a node that is not ready or unreachable.

use mizzen_api::status::ApiError;
use serde_json::{Value, json};

use super::plugin::Plugin;
use super::pods::{items, push, text};
use super::{Admitted, Operation, Request};

pub const PLUGIN: Plugin = Plugin { resources: &[("", "pods")], mutate: Some(admit), validate: None };

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const SECONDS: i64 = 300;

fn admit(request: &Request<'_>, pod: &mut Value, _: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    let written = matches!(request.operation, Operation::Create | Operation::Update);
    if !written || !request.subresource.is_empty() || !pod["spec"].is_object() {
        return Ok(());
    }
    let spec = &mut pod["spec"];
    for key in TAINTS {
        let tolerates = |toleration: &Value| {
            ["", key].contains(&text(toleration, "key")) && ["", "NoExecute"].contains(&text(toleration, "effect"))
        };
        if !items(spec, "tolerations").iter().any(tolerates) {
            let toleration =
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS});
            push(spec, "tolerations", toleration);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{Case, object};

    #[test]
    fn what_the_pod_tolerates_already_stays() {
        let world = || {
            vec![object("v1", "Namespace", "ns", json!({})), object("v1", "ServiceAccount", "ns/default", json!({}))]
        };
        let (ready, reach) = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable");
        for (tolerations, keys) in [
            (Value::Null, vec![ready, reach]),
            (json!([]), vec![ready, reach]),
            (json!([{"operator": "Exists"}]), vec![""]),
            (json!([{"operator": "Exists", "effect": "NoSchedule"}]), vec!["", ready, reach]),
            (json!([{"key": reach, "operator": "Exists", "effect": "NoExecute"}]), vec![reach, ready]),
        ] {
            let mut pod = json!({"spec": {"containers": [], "tolerations": tolerations}});
            if tolerations.is_null() {
                pod["spec"].as_object_mut().unwrap().remove("tolerations");
            }
            let admitted = Case::new(world()).of("create", "pods", "ns/p").admitted(pod);
            let found = admitted["spec"]["tolerations"].as_array().unwrap().iter();
            assert_eq!(found.map(|t| t["key"].as_str().unwrap_or_default()).collect::<Vec<_>>(), keys, "{tolerations}");
        }
    }
}
