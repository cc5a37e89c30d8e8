//! Certificates and tokens as people get and use them.

use std::path::Path;
use std::process::Command;

use super::cluster::{Cluster, text};

/// Runs openssl in the test's directory; it must succeed.
fn openssl(cluster: &Cluster, args: &[&str]) {
    let output = Command::new("openssl").args(args).current_dir(cluster.path("")).output().unwrap();
    assert!(output.status.success(), "openssl {args:?}: {}", text(&output));
}

/// Base64 without line breaks.
fn encoded(path: &Path) -> String {
    let output = Command::new("base64").arg("-w0").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_certificate_is_asked_for_approved_and_used() {
    let Some(cluster) = Cluster::start() else { return };
    openssl(&cluster, &["genrsa", "-out", "ann.key", "2048"]);
    openssl(&cluster, &["req", "-new", "-key", "ann.key", "-subj", "/O=dev/O=ops/CN=ann", "-out", "ann.csr"]);
    let request = |name: &str| {
        format!(
            "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}}}\nspec:\n  \
             signerName: kubernetes.io/kube-apiserver-client\n  expirationSeconds: 86400\n  usages: [client auth]\n  \
             request: {}\n",
            encoded(&cluster.path("ann.csr"))
        )
    };
    cluster.apply(&request("ann"));
    cluster.apply(&request("bob"));
    assert!(cluster.kubectl(&["get", "csr", "ann"]).contains("Pending"));
    cluster.kubectl(&["certificate", "deny", "bob"]);
    assert!(cluster.kubectl(&["get", "csr", "bob"]).contains("Denied"));
    cluster.kubectl(&["certificate", "approve", "ann"]);
    cluster.kubectl(&["wait", "csr/ann", "--for=condition=Approved", "--timeout=20s"]);
    cluster.until("its certificate", || cluster.kubectl(&["get", "csr", "ann"]).contains("Approved,Issued"));
    let refused = cluster.refused(&["certificate", "deny", "ann"]);
    assert!(refused.contains("already Approved"), "{refused}");
    let certificate =
        cluster.kubectl(&["get", "csr", "ann", "-o", "go-template={{.status.certificate | base64decode}}"]);
    std::fs::write(cluster.path("ann.crt"), certificate).unwrap();
    let (key, certificate) = (cluster.path("ann.key"), cluster.path("ann.crt"));
    let config = cluster.path("ann.kubeconfig");
    std::fs::copy(cluster.path("data/admin.kubeconfig"), &config).unwrap();
    let as_ann = |args: &[&str]| {
        let mut all = vec!["--kubeconfig", config.to_str().unwrap()];
        all.extend(args);
        cluster.try_kubectl(&all)
    };
    let (key, certificate) = (key.to_str().unwrap(), certificate.to_str().unwrap());
    let set = as_ann(&["config", "set-credentials", "ann", "--client-key", key, "--client-certificate", certificate]);
    assert!(set.status.success(), "{}", text(&set));
    let who = as_ann(&["--user", "ann", "auth", "whoami", "-o", "json"]);
    let who: serde_json::Value = serde_json::from_slice(&who.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&who)));
    let info = &who["status"]["userInfo"];
    assert_eq!(info["username"], "ann");
    assert_eq!(info["groups"], serde_json::json!(["dev", "ops", "system:authenticated"]));
    let pods = as_ann(&["--user", "ann", "get", "pods"]);
    assert!(text(&pods).contains("User \"ann\" cannot list resource \"pods\""), "{}", text(&pods));
    cluster.kubectl(&["create", "clusterrolebinding", "ops", "--clusterrole=view", "--group=ops"]);
    let pods = as_ann(&["--user", "ann", "get", "pods"]);
    assert!(pods.status.success(), "{}", text(&pods));
}

#[test]
fn secrets_are_nowhere_in_the_files_of_the_store() {
    let Some(mut cluster) = Cluster::start() else { return };
    let store = cluster.path("data/store");
    let found = |word: &str| {
        let files = std::fs::read_dir(&store).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
        files.into_iter().any(|bytes| bytes.windows(word.len()).any(|window| window == word.as_bytes()))
    };
    let read =
        |cluster: &Cluster| cluster.kubectl(&["get", "secret", "s", "-o", "go-template={{.data.k | base64decode}}"]);
    cluster.kubectl(&["create", "secret", "generic", "s", "--from-literal=k=hunter2-hunter2"]);
    cluster.kubectl(&["create", "configmap", "c", "--from-literal=k=everybody-knows"]);
    let encoded = "aHVudGVyMi1odW50ZXIy";
    assert!(found("everybody-knows") && !found(encoded) && !found("hunter2"));
    let keys = || std::fs::read_to_string(cluster.path("data/encryption/keys")).unwrap();
    let before = keys();
    let data = cluster.path("data");
    let rotate = ["secrets", "rotate", "--data-dir", data.to_str().unwrap()];
    let busy = cluster.mizzen(&rotate);
    assert!(!busy.status.success() && text(&busy).contains("in use"), "{}", text(&busy));
    assert_eq!(keys(), before);
    cluster.stop_server("TERM");
    let rotated = cluster.mizzen(&rotate);
    assert!(rotated.status.success(), "{}", text(&rotated));
    let after = std::fs::read_to_string(cluster.path("data/encryption/keys")).unwrap();
    assert!(after.lines().count() == 1 && after != before, "{after}");
    cluster.start_server();
    assert_eq!(read(&cluster), "hunter2-hunter2");
    assert!(!found(encoded));
}

#[test]
fn tokens_of_secrets_and_of_new_nodes_log_in() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.kubectl(&["create", "serviceaccount", "robot"]);
    cluster.apply(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\nmetadata:\n  name: robot\n  \
         annotations: {kubernetes.io/service-account.name: robot}\n",
    );
    let field = |name: &str| {
        let template = format!("go-template={{{{with index .data \"{name}\"}}}}{{{{. | base64decode}}}}{{{{end}}}}");
        cluster.kubectl(&["get", "secret", "robot", "-o", &template])
    };
    cluster.until("its token", || !field("token").is_empty());
    assert_eq!(field("namespace"), "default");
    assert!(field("ca.crt").starts_with("-----BEGIN CERTIFICATE"));
    let server = cluster.kubectl(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
    let whoami = |token: &str| {
        let args = ["--kubeconfig", "/dev/null", "--server", &server, "--insecure-skip-tls-verify", "--token", token];
        let args: Vec<&str> = args.into_iter().chain(["auth", "whoami", "-o", "json"]).collect();
        text(&cluster.try_kubectl(&args))
    };
    assert!(whoami(&field("token")).contains("system:serviceaccount:default:robot"));
    cluster.apply(
        "apiVersion: v1\nkind: Secret\ntype: bootstrap.kubernetes.io/token\nmetadata: {name: bootstrap-token-abcdef, \
         namespace: kube-system}\nstringData: {token-id: abcdef, token-secret: 0123456789abcdef, \
         usage-bootstrap-authentication: 'true', usage-bootstrap-signing: 'true', \
         auth-extra-groups: 'system:bootstrappers:new'}\n",
    );
    let who = whoami("abcdef.0123456789abcdef");
    assert!(who.contains("system:bootstrap:abcdef") && who.contains("system:bootstrappers:new"), "{who}");
    assert!(whoami("abcdef.0123456789abcdeg").contains("Unauthorized"));
    cluster.until("the signature", || {
        let map = cluster.try_kubectl(&["-n", "kube-public", "get", "configmap", "cluster-info", "-o", "yaml"]);
        text(&map).contains("jws-kubeconfig-abcdef")
    });
    let token = field("token");
    cluster.kubectl(&["delete", "serviceaccount", "robot"]);
    cluster.until("the end of its Secret", || !cluster.try_kubectl(&["get", "secret", "robot"]).status.success());
    assert!(whoami(&token).contains("Unauthorized"));
}

#[test]
fn what_people_do_is_told_and_the_nameless_stay_out() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.stop_server("TERM");
    let file = |name: &str, text: &str| {
        std::fs::write(cluster.path(name), text).unwrap();
        cluster.path(name).to_str().unwrap().to_string()
    };
    let policy = file(
        "policy.yaml",
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n\
         - {level: None, users: ['system:node:node']}\n\
         - {level: Metadata, resources: [{group: '', resources: [secrets]}]}\n\
         - {level: RequestResponse, omitManagedFields: true, resources: [{group: '', resources: [configmaps]}]}\n",
    );
    let access = file(
        "access.yaml",
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n\
         anonymous: {enabled: true, conditions: [{path: /livez}]}\n",
    );
    file("config.yaml", &format!("audit: {{policy: {policy}}}\nauthentication: {{config: {access}}}\n"));
    cluster.start_server();
    cluster.kubectl(&["create", "secret", "generic", "s", "--from-literal=k=hunter2"]);
    cluster.kubectl(&["create", "configmap", "c", "--from-literal=k=v"]);
    cluster.refused(&["--as", "bob", "get", "configmap", "c"]);
    let log = || std::fs::read_to_string(cluster.path("data/audit/audit.log")).unwrap_or_default();
    let events = || {
        let lines = log();
        let all = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        all.filter(|event| event["user"]["username"] == "kubernetes-admin").collect::<Vec<_>>()
    };
    cluster.until("three events", || events().iter().filter(|event| event["verb"] != "list").count() >= 3);
    let found = |verb: &str, resource: &str| {
        let all = events();
        let one = all.into_iter().find(|event| event["verb"] == verb && event["objectRef"]["resource"] == resource);
        one.unwrap_or_else(|| panic!("no {verb} {resource} in {}", log()))
    };
    let secret = found("create", "secrets");
    assert_eq!((&secret["level"], &secret["stage"]), (&"Metadata".into(), &"ResponseComplete".into()));
    assert_eq!(secret["responseStatus"]["code"], 201);
    assert_eq!(secret["annotations"]["authorization.k8s.io/decision"], "allow");
    assert!(secret["userAgent"].as_str().unwrap().starts_with("kubectl/") && secret["sourceIPs"].is_array());
    let map = found("create", "configmaps");
    assert_eq!((&map["requestObject"]["data"]["k"], &map["responseObject"]["data"]["k"]), (&"v".into(), &"v".into()));
    assert!(map["responseObject"]["metadata"]["managedFields"].is_null());
    let refused = found("get", "configmaps");
    assert_eq!(refused["impersonatedUser"]["username"], "bob");
    assert_eq!(refused["responseStatus"]["code"], 403);
    assert_eq!(refused["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert!(!log().contains("aHVudGVyMg"), "the log holds the secret");
    let server = cluster.kubectl(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
    let nameless = |path: &str| {
        let url = format!("{server}{path}");
        text(&cluster.command("curl".as_ref()).args(["-sSk", "-m", "3", &url]).output().unwrap())
    };
    assert_eq!(nameless("/livez"), "ok");
    assert!(nameless("/version").contains("Unauthorized"));
}
