//! Identity and access as kubectl users meet them: the real kubectl against a real listener.

use std::process::{Command, Stdio};

use crate::harness::World;
use serde_json::json;

/// kubectl, if there is one on this machine; says so if not.
fn kubectl() -> bool {
    let found = Command::new("kubectl").args(["version", "--client"]).stdout(Stdio::null()).status().is_ok();
    if !found {
        println!("no kubectl on this machine: nothing was tested");
    }
    found
}

/// Exit status, standard output and standard error of a kubectl command, blanks between arguments.
async fn run(config: &std::path::Path, command: &str) -> (bool, String) {
    let mut kubectl = Command::new("kubectl");
    kubectl.env("KUBECONFIG", config).env("HOME", config.parent().unwrap()).args(command.split_whitespace());
    let output = tokio::task::spawn_blocking(move || kubectl.output().unwrap()).await.unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), text)
}

/// Runs the commands of a table: `+` must succeed, `-` must fail; the output holds the text.
async fn table(config: &std::path::Path, rows: &[(&str, &str)]) {
    for (command, text) in rows {
        let (sign, command) = command.split_at(1);
        let (success, output) = run(config, command).await;
        assert_eq!(success, sign == "+", "{command}: {output}");
        assert!(output.contains(text), "{command}: no {text:?} in: {output}");
    }
}

/// A kubeconfig without certificate.
fn config_with_token(world: &World, token: &str) -> std::path::PathBuf {
    let admin = std::fs::read_to_string(world.kubeconfig()).unwrap();
    let ca = admin.lines().find(|line| line.contains("certificate-authority-data")).unwrap().trim();
    let path = world.kubeconfig().with_file_name("token-kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters:\n- name: c\n  cluster:\n    server: https://127.0.0.1:{}\n    {ca}\nusers: [{{name: u, user: {{token: \"{token}\"}}}}]\n",
        world.port
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// `kubectl create -f` of an object.
async fn create(config: &std::path::Path, object: serde_json::Value) -> (bool, String) {
    let file = config.with_extension("json");
    std::fs::write(&file, object.to_string()).unwrap();
    run(config, &format!("create --validate=false -f {}", file.display())).await
}

/// What SelfSubjectAccessReview answers to someone: `verb resource namespace`.
async fn may(world: &World, who: &str, question: &str) -> bool {
    let [verb, resource, namespace] = question.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let attributes = json!({"verb": verb, "resource": resource, "namespace": namespace});
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let headers = [("content-type", "application/json"), ("impersonate-user", who)];
    let got = world.send("POST", path, &headers, review.to_string()).await;
    assert_eq!(got.code, 201, "{}", got.text());
    got.json()["status"]["allowed"] == true
}

/// The world of the tests: a namespace with two accounts, one of which may look at it.
async fn dev() -> World {
    let world = World::start().await;
    let admin = world.kubeconfig();
    for object in [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "dev"}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "dev"}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bot", "namespace": "dev"}}),
        binding("bots", "ClusterRole", "view"),
    ] {
        let (success, output) = create(&admin, object).await;
        assert!(success, "{output}");
    }
    world
}

/// A RoleBinding of the ServiceAccount `bot`.
fn binding(name: &str, kind: &str, role: &str) -> serde_json::Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": "dev"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "dev"}],
    })
}

/// A token of `bot`, by TokenRequest.
async fn token(world: &World) -> String {
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
    let answer = world.create("/api/v1/namespaces/dev/serviceaccounts/bot/token", request).await;
    answer["status"]["token"].as_str().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_administrator_sees_admission_at_work() {
    if !kubectl() {
        return;
    }
    let world = dev().await;
    let bot = "system:serviceaccount:dev:bot";
    for (who, question, allowed) in [
        (bot, "list pods dev", true),
        (bot, "list secrets dev", false),
        (bot, "list pods default", false),
        ("system:serviceaccount:dev:default", "list pods dev", false),
        ("bob", "list pods dev", false),
    ] {
        assert_eq!(may(&world, who, question).await, allowed, "{who} {question}");
    }
    let token_path = "jsonpath={.spec.serviceAccountName}/{.spec.priority}/{.spec.volumes[0].projected.sources[0].serviceAccountToken.path}";
    table(
        &world.kubeconfig(),
        &[
            (
                "-get pods -n dev --as=bob",
                "User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"dev\"",
            ),
            ("+auth whoami", "kubernetes-admin"),
            ("+auth can-i create pods --all-namespaces", "yes"),
            ("-auth can-i list secrets -n dev --as=system:serviceaccount:dev:bot", "no"),
            ("+auth can-i --list -n dev --as=system:serviceaccount:dev:bot", "pods/log"),
            ("+create token bot -n dev --duration=10m", "ey"),
            ("+get pods -n dev --as=bob --as-group=system:masters", "No resources found"),
            ("-delete namespace kube-system", "this namespace may not be deleted"),
            ("+run web --image=example.org/web -n dev", "created"),
            (&format!("+get pod web -n dev -o {token_path}"), "default/0/token"),
            (
                "-run web2 --image=example.org/web -n dev --overrides={\"spec\":{\"serviceAccountName\":\"gone\"}}",
                "error looking up service account dev/gone: serviceaccount \"gone\" not found",
            ),
            ("-run web3 --image=example.org/web -n nowhere", "namespaces \"nowhere\" not found"),
            ("+get clusterrole edit -o jsonpath={.rules[*].resources}", "pods/exec"),
            ("+get priorityclasses", "system-node-critical"),
            ("+get clusterroles", "system:controller:job-controller"),
        ],
    )
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_has_its_rights_and_no_more() {
    if !kubectl() {
        return;
    }
    let world = dev().await;
    let admin = world.kubeconfig();
    let token = token(&world).await;
    let bot = config_with_token(&world, &token);
    table(
        &bot,
        &[
            ("+get pods -n dev", "No resources found"),
            ("-get secrets -n dev", "User \"system:serviceaccount:dev:bot\" cannot list resource \"secrets\""),
            ("-get pods -n default", "forbidden"),
            ("-delete pod web -n dev", "cannot delete resource \"pods\""),
        ],
    )
    .await;
    let more = || binding("more", "ClusterRole", "admin");
    let (success, output) = create(&bot, more()).await;
    assert!(!success && output.contains("cannot create resource \"rolebindings\""), "{output}");
    // Someone who may write bindings still cannot hand out what they do not hold.
    let rule = json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"], "verbs": ["create"]});
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "binder", "namespace": "dev"}, "rules": [rule],
    });
    for object in [role, binding("binders", "Role", "binder")] {
        let (success, output) = create(&admin, object).await;
        assert!(success, "{output}");
    }
    let (success, output) = create(&bot, more()).await;
    assert!(!success && output.contains("is attempting to grant RBAC permissions not currently held"), "{output}");
    let (success, output) = create(&bot, binding("same", "ClusterRole", "view")).await;
    assert!(success, "{output}");
    // The token ends with its account.
    table(&admin, &[("+delete serviceaccount bot -n dev", "deleted")]).await;
    table(&bot, &[("-get pods -n dev", "You must be logged in to the server")]).await;
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let answer = world.create("/apis/authentication.k8s.io/v1/tokenreviews", review).await;
    assert_ne!(answer["status"]["authenticated"], true);
    assert_eq!(world.get("/openid/v1/jwks").await["keys"][0]["alg"], "ES256");
    world.stop().await;
}
