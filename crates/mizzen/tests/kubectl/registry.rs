//! Images from a real registry: plain HTTP that is declared so, with a password from a pull secret.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::cluster::{Cluster, on_path, text};

/// Where the registry listens, in the cluster's network namespace.
const HOST: &str = "192.168.99.1:5000";

struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        // That it has ended already is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn registry(cluster: &Cluster) -> Registry {
    let directory = cluster.path("registry");
    std::fs::create_dir(&directory).unwrap();
    let line = Command::new("htpasswd").args(["-bnB", "-C", "5", "user", "secret"]).output().unwrap().stdout;
    std::fs::write(directory.join("htpasswd"), line).unwrap();
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {0}}}}}\nhttp: {{addr: {HOST}}}\n\
         auth: {{htpasswd: {{realm: test, path: {0}/htpasswd}}}}\n",
        directory.display()
    );
    std::fs::write(directory.join("config.yml"), config).unwrap();
    let mut command = cluster.command(Path::new("docker-registry"));
    command.arg("serve").arg(directory.join("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
    let registry = Registry(command.spawn().unwrap());
    cluster.until("the registry", || cluster.fetch(&format!("http://{HOST}/")).is_ok());
    registry
}

#[test]
fn a_deployment_pulls_with_its_secret() {
    let needed = ["docker-registry", "skopeo", "htpasswd"];
    if let Some(missing) = needed.iter().find(|p| on_path(p).is_none()) {
        println!("skipped: {missing} is not installed");
        return;
    }
    let Some(mut cluster) = Cluster::start() else { return };
    let _registry = registry(&cluster);
    let mut push = cluster.command(Path::new("skopeo"));
    push.args(["copy", "--quiet", "--dest-tls-verify=false", "--dest-creds=user:secret"]);
    push.arg(format!("oci:{}", cluster.layout("busybox:1").display())).arg(format!("docker://{HOST}/team/busybox:2"));
    let pushed = push.output().unwrap();
    assert!(pushed.status.success(), "{}", text(&pushed));
    // Restarted with the registry declared, as a user would.
    cluster.stop_server("TERM");
    std::fs::write(cluster.path("config.yaml"), format!("registries:\n  insecure: ['{HOST}']\n")).unwrap();
    cluster.start_server();
    let server = format!("--docker-server={HOST}");
    cluster.kubectl(&[
        "create",
        "secret",
        "docker-registry",
        "pull",
        &server,
        "--docker-username=user",
        "--docker-password=secret",
    ]);
    let pod = |name: &str, secret: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  {secret}\n  terminationGracePeriodSeconds: 1\n  \
             containers: [{{name: c, image: '{HOST}/team/busybox:2', command: [sleep, '1000']}}]\n"
        )
    };
    cluster.apply(&pod("stranger", ""));
    cluster.apply(&pod("friend", "imagePullSecrets: [{name: pull}]"));
    cluster.ready("friend");
    let events = cluster.kubectl(&["events", "--for", "pod/stranger"]);
    assert!(events.contains("Failed") && events.contains("401"), "{events}");
    let image =
        cluster.get(&["pod", "friend"])["status"]["containerStatuses"][0]["imageID"].as_str().unwrap().to_string();
    assert!(image.contains("/team/busybox@sha256:"), "{image}");
}
