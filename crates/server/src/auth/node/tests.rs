use serde_json::json;

use super::decide;
use crate::auth::fixture::{object, snapshot};
use crate::auth::{Attributes, Decision};

#[test]
fn nodes_reach_what_their_pods_use_and_nothing_else() {
    let pod = |name: &str, node: &str, suffix: &str| {
        object(
            "v1",
            "Pod",
            &format!("ns/{name}"),
            json!({"spec": {
                "nodeName": node,
                "serviceAccountName": format!("account{suffix}"),
                "imagePullSecrets": [{"name": format!("pull{suffix}")}],
                "containers": [{"name": "c", "env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": format!("key{suffix}"), "key": "k"}}},
                ], "envFrom": [{"configMapRef": {"name": format!("env{suffix}")}}]}],
                "volumes": [
                    {"name": "s", "secret": {"secretName": format!("secret{suffix}")}},
                    {"name": "p", "projected": {"sources": [{"configMap": {"name": format!("projected{suffix}")}}]}},
                    {"name": "v", "persistentVolumeClaim": {"claimName": format!("claim{suffix}")}},
                    {"name": "e", "ephemeral": {}},
                ],
            }}),
        )
    };
    let volume = |suffix: &str| {
        let claim = json!({"namespace": "ns", "name": format!("claim{suffix}"), "uid": format!("uid-claim{suffix}")});
        let secret = json!({"namespace": "csi", "name": format!("mount{suffix}")});
        let csi = json!({"driver": "d", "volumeHandle": "h", "nodePublishSecretRef": secret});
        object("v1", "PersistentVolume", &format!("volume{suffix}"), json!({"spec": {"claimRef": claim, "csi": csi}}))
    };
    let local = |name: &str, node: &str| {
        let spec = json!({"csi": {"driver": "mizzen.dev/local", "volumeHandle": "h"}});
        let mut volume = object("v1", "PersistentVolume", name, json!({"spec": spec}));
        volume["metadata"]["labels"] = json!({"mizzen.dev/node": node});
        volume
    };
    let claim = |suffix: &str| object("v1", "PersistentVolumeClaim", &format!("ns/claim{suffix}"), json!({}));
    let state = snapshot([
        pod("a", "n1", "1"),
        pod("b", "n2", "2"),
        volume("1"),
        volume("2"),
        local("local1", "n1"),
        local("local2", "n2"),
        claim("1"),
        claim("2"),
        object(
            "storage.k8s.io/v1",
            "VolumeAttachment",
            "at1",
            json!({"spec": {"nodeName": "n1", "attacher": "x", "source": {}}}),
        ),
    ]);
    // verb, group, resource, namespace, name, field selector (or label selector)
    for (request, allowed) in [
        ("get||secrets|ns|secret1|", true),
        ("get||secrets|ns|secret2|", false),
        ("get||secrets|other|secret1|", false),
        ("get||secrets|ns|key1|", true),
        ("get||secrets|ns|pull1|", true),
        ("get||secrets|csi|mount1|", true),
        ("get||secrets|csi|mount2|", false),
        ("list||secrets|ns||", false),
        ("watch||secrets|ns||metadata.name=secret1", true),
        ("watch||secrets|ns||metadata.name=secret2", false),
        ("update||secrets|ns|secret1|", false),
        ("get||configmaps|ns|env1|", true),
        ("get||configmaps|ns|projected1|", true),
        ("get||configmaps|ns|projected2|", false),
        ("get||persistentvolumeclaims|ns|claim1|", true),
        ("get||persistentvolumeclaims|ns|a-e|", true),
        ("get||persistentvolumeclaims|ns|claim2|", false),
        ("get||persistentvolumes||volume1|", true),
        ("get||persistentvolumes||volume2|", false),
        ("patch||persistentvolumes||volume1|", false),
        ("patch||persistentvolumes||local1|", true),
        ("patch||persistentvolumes||local2|", false),
        ("delete||persistentvolumes||local1|", false),
        ("watch||persistentvolumes|||labels:mizzen.dev/node=n1", true),
        ("watch||persistentvolumes|||labels:mizzen.dev/node=n2", false),
        ("list||persistentvolumes|||labels:mizzen.dev/node!=n2", false),
        ("list||persistentvolumes|||", false),
        ("create||serviceaccounts/token|ns|account1|", true),
        ("create||serviceaccounts/token|ns|account2|", false),
        ("get||pods|ns|a|", true),
        ("get||pods|ns|b|", false),
        ("list||pods|||spec.nodeName=n1", true),
        ("watch||pods|||spec.nodeName==n1,status.phase!=Failed", true),
        ("list||pods|||spec.nodeName=n2", false),
        ("list||pods|||", false),
        ("list||pods|||spec.nodeName!=n1", false),
        // An escaped comma is part of the value before it.
        ("list||pods|||status.phase!=x\\,spec.nodeName=n1", false),
        ("patch||pods/status|ns|a|", true),
        ("create||pods/eviction|ns|a|", true),
        ("patch||pods|ns|a|", false),
        ("get||nodes||n1|", true),
        ("get||nodes||n2|", false),
        ("watch||nodes|||metadata.name=n1", true),
        ("list||nodes|||", false),
        ("patch||nodes/status||n1|", true),
        ("delete||nodes||n1|", false),
        ("update|coordination.k8s.io|leases|kube-node-lease|n1|", true),
        ("update|coordination.k8s.io|leases|kube-node-lease|n2|", false),
        ("update|coordination.k8s.io|leases|kube-system|n1|", false),
        ("get|storage.k8s.io|csinodes||n1|", true),
        ("get|storage.k8s.io|volumeattachments||at1|", true),
        ("list||services|||", true),
        ("create||services|ns||", false),
        ("create||events|ns||", true),
    ] {
        let [verb, group, resource, namespace, name, selector] =
            request.split('|').collect::<Vec<_>>().try_into().unwrap();
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let resource_request = true;
        let what = Attributes {
            verb,
            resource_request,
            group,
            version: "v1",
            resource,
            subresource,
            namespace,
            name,
            path: "",
            field_selector: if selector.starts_with("labels:") { "" } else { selector },
            label_selector: selector.strip_prefix("labels:").unwrap_or_default(),
        };
        let decision = decide(&state, "n1", &what);
        assert_eq!(matches!(decision, Decision::Allow(_)), allowed, "{request}: {decision:?}");
    }
}
