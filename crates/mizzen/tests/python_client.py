"""Drives a cluster with the official Python client: a client library that is not client-go.

KUBECONFIG names the cluster, IMAGE an image with a shell that the node can run (default busybox:1).
Exits with 0 when everything was as it should be; needs the package `kubernetes`.
"""

import os
import time
import uuid

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream

IMAGE = os.environ.get("IMAGE", "busybox:1")
PATIENCE = 60


def until(what, check):
    """Waits until `check` answers something true, and returns it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.2)
    raise AssertionError(f"not in time: {what}")


def refused(code, call, *arguments, **options):
    """Runs a call that must be refused with an HTTP code."""
    try:
        call(*arguments, **options)
    except ApiException as error:
        assert error.status == code, f"{error.status} instead of {code}: {error.body}"
        return error
    raise AssertionError(f"{call.__name__} was not refused")


def config_maps(core, namespace):
    """Create, read, patch in three ways, replace, conflict, list in pages, delete many."""
    for number in range(5):
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"c{number}", labels={"even": str(number % 2 == 0)}))
        body.data = {"key": "value"}
        core.create_namespaced_config_map(namespace, body)
    error = refused(409, core.create_namespaced_config_map, namespace, body)
    assert "already exists" in error.body
    old = core.read_namespaced_config_map("c0", namespace)
    core.patch_namespaced_config_map("c0", namespace, {"data": {"more": "1"}})
    core.patch_namespaced_config_map("c0", namespace, [{"op": "remove", "path": "/data/key"}])
    assert core.read_namespaced_config_map("c0", namespace).data == {"more": "1"}
    refused(409, core.replace_namespaced_config_map, "c0", namespace, old)
    refused(422, core.patch_namespaced_config_map, "c0", namespace, {"data": {"not a key": "1"}})
    page = core.list_namespaced_config_map(namespace, limit=2, label_selector="even")
    names = [item.metadata.name for item in page.items]
    while page.metadata._continue:
        page = core.list_namespaced_config_map(namespace, limit=2, label_selector="even", _continue=page.metadata._continue)
        names += [item.metadata.name for item in page.items]
    assert names == [f"c{number}" for number in range(5)], names
    core.delete_collection_namespaced_config_map(namespace, label_selector="even=True")
    left = core.list_namespaced_config_map(namespace, label_selector="even")
    assert [item.metadata.name for item in left.items] == ["c1", "c3"]
    refused(404, core.read_namespaced_config_map, "c0", namespace)


def watched(core, namespace):
    """A watch from a revision sees every change, in order, and ends when asked to."""
    start = core.list_namespaced_secret(namespace).metadata.resource_version
    core.create_namespaced_secret(namespace, client.V1Secret(metadata=client.V1ObjectMeta(name="s"), string_data={"a": "b"}))
    core.patch_namespaced_secret("s", namespace, {"metadata": {"labels": {"x": "y"}}})
    core.delete_namespaced_secret("s", namespace)
    seen = []
    for event in watch.Watch().stream(core.list_namespaced_secret, namespace, resource_version=start, timeout_seconds=5):
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 3:
            break
    assert seen == [("ADDED", "s"), ("MODIFIED", "s"), ("DELETED", "s")], seen


def workload(core, apps, namespace):
    """A Deployment runs, is scaled, and its pod answers exec with output, errors, input and exit code; logs come back."""
    labels = {"app": "web"}
    container = client.V1Container(name="c", image=IMAGE, command=["sh", "-c", "echo started; exec sleep 3600"])
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels),
        spec=client.V1PodSpec(containers=[container], termination_grace_period_seconds=0),
    )
    spec = client.V1DeploymentSpec(selector=client.V1LabelSelector(match_labels=labels), template=template, replicas=1)
    apps.create_namespaced_deployment(namespace, client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec))
    ready = lambda n: (apps.read_namespaced_deployment_status("web", namespace).status.ready_replicas or 0) == n
    until("one replica", lambda: ready(1))
    apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 2}})
    until("two replicas", lambda: ready(2))
    pod = core.list_namespaced_pod(namespace, label_selector="app=web", field_selector="status.phase=Running").items[0].metadata.name
    until("logs", lambda: core.read_namespaced_pod_log(pod, namespace) == "started\n")
    command = ["sh", "-c", "read line; echo got $line; echo wrong >&2; exit 3"]
    session = stream(core.connect_get_namespaced_pod_exec, pod, namespace, command=command, stdin=True, stdout=True,
                     stderr=True, tty=False, _preload_content=False)
    session.write_stdin("hello\n")
    session.run_forever(timeout=PATIENCE)
    out, err = session.read_stdout(timeout=1), session.read_stderr(timeout=1)
    assert (out, err, session.returncode) == ("got hello\n", "wrong\n", 3), (out, err, session.returncode)
    apps.delete_namespaced_deployment("web", namespace, propagation_policy="Foreground")
    until("the pods' end", lambda: not core.list_namespaced_pod(namespace, label_selector="app=web").items)


def service(core, apps, namespace):
    """A Deployment with a ConfigMap behind a Service: endpoints follow, a port is forwarded, attach hears the first process."""
    labels = {"app": "service"}
    meta = lambda name: client.V1ObjectMeta(name=name, labels=labels)
    core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=meta("greeting"), data={"word": "hello"}))
    script = 'echo "$WORD" > /www/index.html; httpd -p 8080 -h /www; while sleep 0.1; do echo tick; done'
    source = client.V1EnvVarSource(config_map_key_ref=client.V1ConfigMapKeySelector(name="greeting", key="word"))
    probe = client.V1Probe(http_get=client.V1HTTPGetAction(path="/", port=8080), period_seconds=1)
    container = client.V1Container(name="c", image=IMAGE, command=["sh", "-c", script], readiness_probe=probe,
                                   env=[client.V1EnvVar(name="WORD", value_from=source)])
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels),
        spec=client.V1PodSpec(containers=[container], termination_grace_period_seconds=0))
    spec = client.V1DeploymentSpec(selector=client.V1LabelSelector(match_labels=labels), template=template, replicas=2)
    apps.create_namespaced_deployment(namespace, client.V1Deployment(metadata=meta("service"), spec=spec))
    ports = [client.V1ServicePort(port=80, target_port=8080)]
    core.create_namespaced_service(
        namespace, client.V1Service(metadata=meta("service"), spec=client.V1ServiceSpec(selector=labels, ports=ports)))
    slices = client.DiscoveryV1Api()

    def ready():
        found = slices.list_namespaced_endpoint_slice(namespace, label_selector="kubernetes.io/service-name=service").items
        return {address for s in found for e in s.endpoints or [] if e.conditions.ready for address in e.addresses}

    until("two ready endpoints", lambda: len(ready()) == 2)
    pods = core.list_namespaced_pod(namespace, label_selector="app=service").items
    assert ready() == {pod.status.pod_ip for pod in pods}
    pod = pods[0].metadata.name
    tunnel = portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports="8080")
    socket = tunnel.socket(8080)
    socket.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while piece := socket.recv(4096):
        answer += piece
    assert answer.endswith(b"hello\n"), answer
    heard = stream(core.connect_get_namespaced_pod_attach, pod, namespace, stdout=True, _preload_content=False)
    until("what the first process says", lambda: "tick" in heard.read_stdout(timeout=1))
    heard.close()
    core.delete_namespaced_pod(pod, namespace)
    until("another pod in its place", lambda: len(ready()) == 2 and pods[0].status.pod_ip not in ready())


def asked(namespace):
    """What one may do is told, and a dry run leaves nothing."""
    review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(
        resource_attributes=client.V1ResourceAttributes(namespace=namespace, verb="delete", resource="pods")))
    assert client.AuthorizationV1Api().create_self_subject_access_review(review).status.allowed
    core = client.CoreV1Api()
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="never"), data={"a": "b"})
    assert core.create_namespaced_config_map(namespace, body, dry_run="All").metadata.uid
    refused(404, core.read_namespaced_config_map, "never", namespace)


def generic(api, namespace):
    """The dynamic client finds kinds by discovery, and applies on the server's side."""
    dynamic_client = dynamic.DynamicClient(api)
    services = dynamic_client.resources.get(api_version="v1", kind="Service")
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}
    applied = services.server_side_apply(body, namespace=namespace, field_manager="python")
    assert applied.spec.clusterIP and applied.metadata.managedFields[0].manager == "python"
    services.delete(name="web", namespace=namespace)


def main():
    config.load_kube_config(os.environ["KUBECONFIG"])
    core, apps = client.CoreV1Api(), client.AppsV1Api()
    assert client.VersionApi().get_code().git_version.startswith("v1.")
    assert any(node.status.node_info.kubelet_version for node in core.list_node().items)
    namespace = f"python-{uuid.uuid4().hex[:6]}"
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=namespace)))
    until("a service account", lambda: core.list_namespaced_service_account(namespace).items)
    config_maps(core, namespace)
    watched(core, namespace)
    generic(client.ApiClient(), namespace)
    workload(core, apps, namespace)
    service(core, apps, namespace)
    asked(namespace)
    core.delete_namespace(namespace)
    until("the namespace's end", lambda: namespace not in [n.metadata.name for n in core.list_namespace().items])
    print("the Python client is content")


if __name__ == "__main__":
    main()
